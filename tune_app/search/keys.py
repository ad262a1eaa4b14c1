"""Keys of points: which configuration a point is, and which stages its trials need (torch-free)."""

import functools

from search_spaces.parameters import Coordinates
from trainables.config import stage_keys, teacher_key, trial_key
from tune_app.ledger.ledger import Assignment, Params
from tune_app.search.strategy import KeyOf, Step
from tune_app.spec.experiment import ExperimentSpec

REMEMBERED = 100_000
"""Keys that a search keeps, some 20 MB; a space with more points forgets the oldest ones and computes them again."""


def config_key(spec: ExperimentSpec, fingerprint: str, params: Params, *, repeat: int = 0) -> str:
    """Returns the key of a run of a point: everything that decides its result with the full schedule."""
    return trial_key(spec.trial(params, repeat=repeat), fingerprint=fingerprint)


def remembered_keys(spec: ExperimentSpec, fingerprint: str) -> KeyOf:
    """Returns `config_key` with a memory, since a search asks for the same points again and again."""

    @functools.lru_cache(maxsize=REMEMBERED)
    def key_of(point: Coordinates, repeat: int) -> str:
        return config_key(spec, fingerprint, dict(point), repeat=repeat)

    return lambda params, repeat=0: key_of(tuple(params.items()), repeat)


def shared_start(spec: ExperimentSpec, fingerprint: str, work: Assignment) -> str | None:
    """Returns the stage that an assignment without training starts from; None: it trains, and goes alone."""
    config = spec.trial(work.params, work.rung, repeat=work.repeat)
    if config.quantize.training is not None:
        return None
    return stage_keys(config, fingerprint=fingerprint)[-2]


def progress_keys(spec: ExperimentSpec, fingerprint: str, work: Assignment) -> list[str]:
    """Returns the keys of the stages, and the teacher, in which an assignment may be at work."""
    config = spec.trial(work.params, work.rung, repeat=work.repeat)
    teacher = [] if config.teacher is None else [teacher_key(config, fingerprint=fingerprint)]
    return [*teacher, *stage_keys(config, fingerprint=fingerprint)]


def steps_of(spec: ExperimentSpec, fingerprint: str, params: Params, rung: str) -> list[Step]:
    """Returns the stages of a trial after the shared baseline."""
    config = spec.trial(params, rung)
    stages = list(zip(config.stages(), stage_keys(config, fingerprint=fingerprint), strict=True))[1:]
    return [Step(stage.kind, key, max(1, stage.training.epochs if stage.training else 0)) for stage, key in stages]
