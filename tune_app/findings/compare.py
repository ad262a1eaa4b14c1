"""The comparison of two experiments: how much each frontier covers, and which points beat the other's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainables.errors import ConfigError
from tune_app.findings.frontier_points import FrontierPoint, costs_of_points, frontier_points
from tune_app.frontier.objectives import costs_of
from tune_app.frontier.pareto import hypervolume, non_dominated
from tune_app.ledger.baseline import require_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec


@dataclass(frozen=True)
class Side:
    """One of two experiments that are compared."""

    name: str
    points: list[FrontierPoint]
    """The members of its frontier."""
    hypervolume: float
    """The volume up to the reference that both share, in the product of the objectives' units."""
    coverage: float
    """Share of the other's frontier points that a point here dominates or equals (Zitzler and Thiele 1998, C)."""
    winners: list[FrontierPoint]
    """Points of the frontier of both together that dominate one of the other's."""
    baseline_accuracy: float


@dataclass(frozen=True)
class Comparison:
    """Two experiments that are compared, and the reference that both are measured from."""

    objectives: dict[str, str]
    reference: dict[str, float]
    first: Side
    second: Side

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both experiments, the first one first."""
        return self.first, self.second


def compare_experiments(first: ExperimentFolder, second: ExperimentFolder) -> Comparison:
    """Compares two frontiers by the objectives that both experiments searched for.

    The reference is the worse corner of both in each objective, so that no point of either counts less than in its
    own experiment.

    Raises:
        ConfigError: the experiments have other objectives, or one has no baseline yet.
        CorruptFile: a stored spec or baseline is damaged.
        StorageUnavailable: a file cannot be read.
    """
    if first.path == second.path:
        raise ConfigError(f"{first.path} is named twice: name two experiments.")
    specs = first.read_spec(), second.read_spec()
    if specs[0].objectives != specs[1].objectives:
        raise ConfigError(
            f"{first.path} searched for {_shown(specs[0])} and {second.path} for {_shown(specs[1])}: "
            "only experiments with the same objectives can be compared."
        )
    baselines = require_baseline(first), require_baseline(second)
    reference = _worse_corner([b.reference(s) for b, s in zip(baselines, specs, strict=True)], specs[0])
    points = [frontier_points(folder, spec) for folder, spec in zip((first, second), specs, strict=True)]
    names = _names(first, second)
    sides = [_side(names[i], points[i], points[1 - i], specs[0], reference, baselines[i].accuracy) for i in range(2)]
    wanted = {name: reference[name] for name in specs[0].objectives}
    return Comparison({**specs[0].objectives}, wanted, sides[0], sides[1])


def coverage(costs: np.ndarray, other: np.ndarray) -> float:
    """Returns the share of the rows of `other` that a row of `costs` dominates or equals; 0 when `other` is empty.

    The measure C of Zitzler and Thiele (1998, "Multiobjective optimization using evolutionary algorithms", PPSN V).

    Args:
        costs: (n, k), lower is better.
        other: (m, k).
    """
    if not len(other) or not len(costs):
        return 0.0
    return float(np.all(costs[None] <= other[:, None], axis=2).any(axis=1).mean())


def _side(
    name: str,
    own: list[FrontierPoint],
    other: list[FrontierPoint],
    spec: ExperimentSpec,
    reference: dict[str, float],
    baseline_accuracy: float,
) -> Side:
    mine, theirs = costs_of_points(own, spec), costs_of_points(other, spec)
    together = non_dominated(np.r_[mine, theirs])[: len(mine)]
    better, as_good = np.any(mine[:, None] < theirs, axis=2), np.all(mine[:, None] <= theirs, axis=2)
    beats = np.any(better & as_good, axis=1)
    return Side(
        name=name,
        points=own,
        hypervolume=hypervolume(mine, costs_of(reference, spec)) if len(mine) else 0.0,
        coverage=coverage(mine, theirs),
        winners=[point for point, best, beat in zip(own, together, beats, strict=True) if best and beat],
        baseline_accuracy=baseline_accuracy,
    )


def _worse_corner(references: Sequence[dict[str, float]], spec: ExperimentSpec) -> dict[str, float]:
    worse = {name: min if direction == "maximize" else max for name, direction in spec.objectives.items()}
    return {
        name: worse[name](r[name] for r in references) if name in worse else references[0][name]
        for name in references[0]
    }


def _names(first: ExperimentFolder, second: ExperimentFolder) -> tuple[str, str]:
    """Returns the names of the folders, or their paths where the names are the same."""
    paths = first.path, second.path
    return (paths[0].name, paths[1].name) if paths[0].name != paths[1].name else (str(paths[0]), str(paths[1]))


def _shown(spec: ExperimentSpec) -> str:
    return ", ".join(f"{name} ({direction})" for name, direction in spec.objectives.items())
