"""Measured numbers in the terms of a spec: the costs of its objectives, and whether its bounds hold."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tune_app.frontier.pareto import costs

if TYPE_CHECKING:
    from tune_app.spec.experiment import ExperimentSpec


def costs_of(metrics: Mapping[str, float], spec: "ExperimentSpec") -> np.ndarray:
    """Returns the objectives of a trial or of a reference point as costs, (k,): lower is better."""
    return costs(np.array([metrics[name] for name in spec.objectives]), list(spec.objectives.values()))


def is_feasible(metrics: Mapping[str, float], spec: "ExperimentSpec") -> bool:
    """Whether there is a result, and it keeps every bound."""
    return bool(metrics) and all(c.violation(metrics[c.metric]) <= 0 for c in spec.constraints)
