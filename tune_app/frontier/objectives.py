"""Measured numbers in the terms of a spec: the costs of its objectives, and whether its bounds hold."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tune_app.frontier.pareto import costs

if TYPE_CHECKING:
    from tune_app.ledger.ledger import TrialRecord
    from tune_app.spec.experiment import ExperimentSpec


def costs_of(metrics: Mapping[str, float], spec: "ExperimentSpec") -> np.ndarray:
    """Returns the objectives of a trial or of a reference point as costs, (k,): lower is better."""
    return costs(np.array([metrics[name] for name in spec.objectives]), list(spec.objectives.values()))


def is_feasible(metrics: Mapping[str, float], spec: "ExperimentSpec") -> bool:
    """Whether there is a result, it has every objective, and it keeps every bound."""
    return has_metrics(metrics, spec) and all(c.violation(metrics[c.metric]) <= 0 for c in spec.constraints)


def has_metrics(metrics: Mapping[str, float], spec: "ExperimentSpec") -> bool:
    """Whether a result has every column that the spec judges by; those of older versions lack some."""
    return metrics.keys() >= set(spec.metrics)


def judged(record: "TrialRecord", spec: "ExperimentSpec") -> dict[str, float]:
    """Returns the numbers of a usable result by column, if it has every column that the spec judges by; else none."""
    metrics = record.metrics()
    return metrics if has_metrics(metrics, spec) else {}


def learnable(record: "TrialRecord", spec: "ExperimentSpec") -> dict[str, float]:
    """Returns the numbers by column that tell what a point is like: of a usable result, or of one at chance; else none.

    A network at chance is no result, but a measurement: at a lower rung the full schedule may still save it.
    """
    numbers = record.measured() if record.state == "complete" or record.is_at_chance else {}
    return numbers if has_metrics(numbers, spec) else {}
