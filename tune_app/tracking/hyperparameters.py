"""Hyperparameters: the resolved configuration of a trial as one flat mapping, as trackers show it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from search_spaces.parameters import Conditional
from search_spaces.rungs import FULL
from trainables.config import StageConfig, TrialConfig
from trainables.errors import TrialFailure
from trainables.storage import redact
from tune_app.ledger.ledger import Assignment
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tracking.protocol import Value


def trial_hyperparameters(spec: ExperimentSpec, work: Assignment) -> dict[str, Value]:
    """Returns the parameters of a trial under their own names, then `hyperparameters` of what they resolve to."""
    of_work = {name: getattr(work, name) for name in ("number", "rung", "repeat", "seed", "attempt")}
    own: dict[str, Value] = {"experiment": spec.name, **of_work, **work.params}
    try:
        config = spec.trial(work.params, work.rung, repeat=work.repeat)
    except TrialFailure:  # of an earlier version of the spec
        return own
    return {**own, **hyperparameters(config)}


def varied(spec: ExperimentSpec) -> dict[str, Value]:
    """Returns a value of everything that tells trials of a search apart: the parameters that vary, in the order of the
    space, then rung and repeat where there are several."""
    found: dict[str, Value] = {}
    for name, parameter in spec.space.root.items():
        values = {*parameter.values, *(point[name] for point in spec.points if name in point)}
        if len(values) > 1 or isinstance(parameter, Conditional):
            found[name] = parameter.values[0]
    if len(spec.rungs) > 1:
        found["rung"] = FULL
    if spec.repeats is not None:
        found["repeat"] = 0
    return found


def hyperparameters(config: TrialConfig) -> dict[str, Value]:
    """Returns by dotted path everything that decides what a result means: `data.name`, `quantize.schedule.lr`.

    Where files lie is not among it, nor what is null. Of a stage that is left out only its amount is there, 0; of a
    teacher nothing where no stage distils. The seed of the configuration is `baseline.seed`: that of the later stages
    is the trial's own.
    """
    content = config.identity()
    for name, stage in config:
        if isinstance(stage, StageConfig) and stage.left_out:
            content[name] = {stage.AMOUNT: getattr(stage, stage.AMOUNT)}
    if config.own_teacher is None:
        content.pop("teacher")
    content["baseline"]["seed"] = content.pop("seed")
    content.pop("repeat")
    return dict(_flat(content, ()))


def _flat(content: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[str, Value]]:
    for name, value in content.items():
        place = (*path, str(name))
        if isinstance(value, Mapping):
            yield from _flat(value, place)
        elif isinstance(value, list | tuple):
            if value:
                yield ".".join(place), redact(", ".join(v if isinstance(v, str) else json.dumps(v) for v in value))
        elif value is not None:
            yield ".".join(place), redact(value) if isinstance(value, str) else value
