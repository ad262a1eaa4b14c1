"""The comparison of two experiments: how much each frontier covers, and which points beat the other's."""

from dataclasses import dataclass

import numpy as np

from trainables.errors import ConfigError
from tune_app.findings.frontier_points import FrontierPoint, costs_of_points, points_of
from tune_app.frontier.objectives import costs_of
from tune_app.frontier.pareto import hypervolume, non_dominated
from tune_app.ledger.baseline import caveat, require_baseline
from tune_app.ledger.folder import ExperimentFolder, told_apart
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.at_rest import known_trials


@dataclass(frozen=True)
class Side:
    """One of two experiments that are compared."""

    name: str
    """The name of its folder, with as much of the path as tells it from the other's."""
    points: list[FrontierPoint]
    """The members of its frontier."""
    hypervolume: float
    """The volume up to the reference that both share, in the product of the objectives' units."""
    coverage: float
    """Share of the other's frontier points that a point here dominates or equals (Zitzler and Thiele 1998, C)."""
    winners: list[FrontierPoint]
    """Points of the frontier of both together that dominate one of the other's."""
    baseline_accuracy: float
    caveat: str
    """What must be told of its accuracies; empty: nothing."""


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
    if first.path.resolve() == second.path.resolve():
        places = list(dict.fromkeys(str(folder.path) for folder in (first, second)))
        twice = "is named twice" if len(places) == 1 else "are the same folder"
        raise ConfigError(f"{' and '.join(places)} {twice}: name two experiments.")
    specs = first.read_spec(), second.read_spec()
    if specs[0].objectives != specs[1].objectives:
        raise ConfigError(
            f"{first.path} searched for {_shown(specs[0])} and {second.path} for {_shown(specs[1])}: "
            "only experiments with the same objectives can be compared."
        )
    baselines = require_baseline(first), require_baseline(second)
    corners = [baseline.reference(spec) for baseline, spec in zip(baselines, specs, strict=True)]
    worse = {name: min if way == "maximize" else max for name, way in specs[0].objectives.items()}
    reference = {name: choose(corner[name] for corner in corners) for name, choose in worse.items()}
    ours, theirs = points_of(known_trials(first), specs[0]), points_of(known_trials(second), specs[1])
    names = told_apart((first, second))
    return Comparison(
        objectives={**specs[0].objectives},
        reference=reference,
        first=_side(names[0], ours, theirs, specs[0], reference, baselines[0].accuracy),
        second=_side(names[1], theirs, ours, specs[1], reference, baselines[1].accuracy),
    )


def coverage(costs: np.ndarray, other: np.ndarray) -> float:
    """Returns the share of the rows of `other`, (m, k), that a row of `costs`, (n, k), dominates or equals.

    Lower is better; 0 when one of them is empty. The measure C of Zitzler and Thiele (1998, "Multiobjective
    optimization using evolutionary algorithms", PPSN V).
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
        hypervolume=hypervolume(mine, costs_of(reference, spec)),
        coverage=coverage(mine, theirs),
        winners=[point for point, best, beat in zip(own, together, beats, strict=True) if best and beat],
        baseline_accuracy=baseline_accuracy,
        caveat=caveat(spec),
    )


def _shown(spec: ExperimentSpec) -> str:
    return ", ".join(f"{name} ({direction})" for name, direction in spec.objectives.items())
