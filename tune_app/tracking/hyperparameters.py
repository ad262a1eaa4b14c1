"""Hyperparameters: the resolved configuration of a trial as one flat mapping, as trackers show it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from trainables.config import TrialConfig
from trainables.errors import TrialFailure
from trainables.storage import redact
from tune_app.ledger.ledger import Assignment
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.epochs import teacher_of
from tune_app.tracking.protocol import Value

AMOUNTS = {"prune": "prune_frac", "sparsify": "sparsity"}
"""By part of a configuration that is left out at 0 the field that says so."""


def trial_hyperparameters(spec: ExperimentSpec, work: Assignment) -> dict[str, Value]:
    """Returns the parameters of a trial under their own names, then `hyperparameters` of what they resolve to."""
    own: dict[str, Value] = {
        "experiment": spec.name,
        "number": work.number,
        "rung": work.rung,
        "repeat": work.repeat,
        "seed": work.seed,
        "attempt": work.attempt,
        **work.params,
    }
    if work.rung not in spec.rungs:  # of an earlier version of the spec
        return own
    try:
        config = spec.trial(work.params, work.rung, repeat=work.repeat)
    except TrialFailure:
        return own
    return {**own, **hyperparameters(config)}


def hyperparameters(config: TrialConfig) -> dict[str, Value]:
    """Returns by dotted path everything that decides what a result means: `data.name`, `quantize.schedule.lr`.

    Where files lie is not among it, nor what is null. Of a stage that is left out only its amount is there, 0; of a
    teacher nothing where no stage distils. The seed of the configuration is `baseline.seed`: that of the later stages
    is the trial's own.
    """
    content = config.identity()
    kinds = {type(stage) for stage in config.stages()}
    for name, amount in AMOUNTS.items():
        stage = getattr(config, name)
        if stage is not None and type(stage) not in kinds:
            content[name] = {amount: getattr(stage, amount)}
    if teacher_of(config) is None:
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
                yield ".".join(place), _listed(value)
        elif value is not None:
            yield ".".join(place), redact(value) if isinstance(value, str) else value


def _listed(values: list[Any] | tuple[Any, ...]) -> str:
    return redact(", ".join(v if isinstance(v, str) else json.dumps(v) for v in values))
