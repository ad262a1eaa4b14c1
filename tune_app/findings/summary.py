"""The summary of an experiment: its best points, its baseline, its totals; of a running one as far as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainables.config import BaselineImport
from trainables.results import SCORES
from tune_app.findings.above_baseline import above_finding
from tune_app.findings.at_chance import collapse_finding
from tune_app.findings.chance import interval
from tune_app.findings.findings import Finding, findings
from tune_app.findings.frontier_points import FrontierPoint, costs_of_points, points_of
from tune_app.findings.of_baseline import findings_of_baseline
from tune_app.findings.tried import COLUMNS, tried
from tune_app.frontier.objectives import costs_of
from tune_app.frontier.pareto import hypervolume, knee
from tune_app.frontier.points import MAIN
from tune_app.ledger.baseline import BaselineInfo, caveat, read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.training_cost import cost_lines
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.baseline_so_far import BaselineSoFar, baseline_so_far
from tune_app.stages.running import RunningTrial, running_trials
from tune_app.tables.at_rest import Known, known_now
from tune_app.tables.columns import short, show
from tune_app.tables.point_rows import parameters_of
from tune_app.tables.totals import Totals, growth_lines
from tune_app.terminal.quantities import (
    show_count,
    show_done,
    show_interval,
    show_number,
    show_points,
    show_ratio,
    show_share,
    show_size,
)

ACCURACY_WEIGHT, RATIO_WEIGHT, RATIO_SCALE = 0.6, 0.4, 50
"""The numbers of an earlier system's balanced score (examples/recipes/seed_002.yaml)."""
FORMULA = f"{ACCURACY_WEIGHT:g} * accuracy / baseline accuracy + {RATIO_WEIGHT:g} * compression ratio / {RATIO_SCALE}"
SCORE = f"the score of an earlier system, seed_002 ({FORMULA})"
BASELINE = (*SCORES, "size_bytes", "parameters", "untrained")
"""What is said of the baseline."""
TOTALS = {
    *("trials", "rungs", "repeats", "done", "training_seconds", "seconds_saved", "taken_over", "failures"),
    *("settled", "outlook"),
}
"""What programs are told of the totals."""
RUNNING = 4
"""Running trials that lines name; more: a summary is not the place to watch a cluster."""
PLANE = {"accuracy": "maximize", "size_bytes": "minimize"}
"""The objectives whose frontier findings speak of."""


@dataclass(frozen=True)
class BalancedScore:
    """The frontier's best point by the balanced score of an earlier system, which nothing here is chosen by."""

    point: FrontierPoint
    value: float

    def document(self) -> dict[str, Any]:
        """Returns the score as JSON values, with its formula."""
        return {"formula": FORMULA, "value": self.value, **point_document(self.point)}


@dataclass(frozen=True)
class ExperimentSummary:
    """All that an experiment has found so far."""

    experiment: str
    objectives: dict[str, str]
    baseline: BaselineInfo | None
    training: BaselineSoFar | None
    """How far the baseline is while it trains."""
    running: tuple[RunningTrial, ...]
    frontier_size: int
    hypervolume: float | None
    """The volume of its frontier; None without a baseline."""
    best: dict[str, FrontierPoint]
    """`accuracy`, `compression` and `balanced` (the knee); empty without a frontier."""
    totals: Totals
    budget: int
    """Trials of the full schedule that the spec asks for."""
    score: BalancedScore | None = None
    """The best point by an earlier system's score; None without a trained baseline or a frontier."""
    findings: tuple[Finding, ...] = ()
    images: int | None = None
    """At most so many images of each split were used, in a rehearsal; None: all."""
    caveat: str = ""
    """What must be told of its accuracies; empty: nothing."""

    def document(self) -> dict[str, Any]:
        """Returns the summary as JSON values."""
        baseline = self.baseline
        return {
            "experiment": self.experiment,
            "objectives": self.objectives,
            "images": self.images,
            "baseline": None if baseline is None else {name: getattr(baseline, name) for name in BASELINE},
            "baseline_in_training": None if self.training is None else vars(self.training),
            "running": [vars(trial) for trial in self.running],
            "validation_images": None if baseline is None else baseline.n,
            "frontier_size": self.frontier_size,
            "hypervolume": self.hypervolume,
            "best": {name: point_document(point) for name, point in self.best.items()},
            "balanced_score": None if self.score is None else self.score.document(),
            "findings": [finding.document() for finding in self.findings],
            "totals": {**self.totals.model_dump(include=TOTALS), "budget": self.budget},
        }

    def lines(self) -> list[str]:
        """Returns the summary as lines that people read."""
        totals = self.totals
        states = ", ".join(f"{n} {state}" for state, n in totals.trials.items()) or "none yet"
        lines = [f"{self.experiment}: {show_done(totals.done, self.budget)} of the full schedule; all: {states}"]
        lines += [self.caveat] if self.caveat else []
        if len(totals.rungs) > 1 or totals.repeats:
            rungs = ", ".join(f"{n} {rung}" for rung, n in totals.rungs.items())
            lines.append(f"rungs: {rungs}" + (f"; {show_count(totals.repeats, 'repeat')}" if totals.repeats else ""))
        if self.baseline is not None:
            size = show_size(self.baseline.size_bytes)
            others = self._others(self.baseline.metrics())
            lines.append(f"{self.baseline.title}: {self._accuracy(self.baseline.accuracy)}, {size} in fp32{others}")
        if self.training is not None:
            lines.append(f"baseline in training: {self.training.text()}")
        if self.running:
            shown = [trial.text() for trial in self.running[:RUNNING]]
            more = [f"{len(self.running) - RUNNING} more"] if len(self.running) > RUNNING else []
            lines.append(f"running: {'; '.join(shown + more)}")
        for name, point in self.best.items():
            lines.append(f"best {name}: {point.label}, {self._figures(point)}")
        if self.best and self.baseline is not None and not self.baseline.untrained:
            lines.append(f"in brackets: the 95 % interval of an accuracy that is read on {self.baseline.n:,} images")
        if self.score is not None:
            lines.append(f"best by {SCORE}: {self.score.point.label}, {self.score.value:.3f}")
        volume = "" if self.hypervolume is None else f", hypervolume {show_number(self.hypervolume)}"
        lines.append(f"frontier: {show_count(self.frontier_size, 'point')}{volume}")
        lines += cost_lines(totals.training_seconds, totals.seconds_saved, totals.taken_over)
        lines += growth_lines(totals)
        lines += [f"failed: {n} of {kind}" for kind, n in totals.failures.items()]
        if self.findings:
            lines += ["findings:", *(f"  {finding.text}" for finding in self.findings)]
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _figures(self, point: FrontierPoint) -> str:
        """Returns accuracy, size and ratio of a point as text, with the difference to the baseline."""
        accuracy, size_bytes, ratio = (point.values[name] for name in MAIN)
        change = "" if self.baseline is None else f" ({show_points(accuracy - self.baseline.accuracy)})"
        others = self._others(point.values)
        return f"{self._accuracy(accuracy)}, {show_size(size_bytes)}, {show_ratio(ratio)}{change}{others}"

    def _accuracy(self, accuracy: float) -> str:
        """Returns an accuracy on the validation split as text, with its interval where it says something."""
        if self.baseline is None or self.baseline.untrained:
            return show_share(accuracy)
        return f"{show_share(accuracy)} ({show_interval(*interval(accuracy, self.baseline.n))})"

    def _others(self, values: Mapping[str, float]) -> str:
        """Returns the other objectives as text, as far as they are known."""
        names = (name for name in self.objectives if name in values and name not in MAIN)
        return "".join(f", {short(name)} {show(name, values[name])}" for name in names)


def summarize(folder: ExperimentFolder, known: Known | None = None) -> ExperimentSummary:
    """Summarizes an experiment, at any time; with `known`, what its trials are is not read again.

    Raises:
        CorruptFile: the stored spec or baseline is damaged.
        StorageUnavailable: a file cannot be read.
    """
    spec, baseline = folder.read_spec(), read_baseline(folder)
    known = known or known_now(folder)
    totals, table = known.totals, known.trials
    points, parameters = points_of(table, spec), parameters_of(table)
    costs = costs_of_points(points, spec)
    return ExperimentSummary(
        experiment=spec.name,
        objectives={**spec.objectives},
        baseline=baseline,
        training=baseline_so_far(folder, spec) if baseline is None else None,
        running=() if baseline is None else tuple(running_trials(folder, spec, baseline.fingerprint)),
        frontier_size=len(points),
        hypervolume=None if baseline is None else hypervolume(costs, costs_of(baseline.reference(spec), spec)),
        best=_best(points, knee(costs)),
        totals=totals,
        budget=spec.budget.trials,
        score=None if baseline is None or baseline.untrained else best_score(points, baseline.accuracy),
        images=spec.base.data.images,
        caveat=caveat(spec),
        findings=tuple(findings_of(table.select([*COLUMNS, *parameters]).to_pylist(), parameters, spec, baseline)),
    )


def findings_of(
    rows: Sequence[Mapping[str, Any]],
    parameters: Sequence[str],
    spec: ExperimentSpec,
    baseline: BaselineInfo | None,
) -> list[Finding]:
    """Returns what rows of the table of trials say, where `parameters` are the columns that tell points apart.

    Of a placeholder's accuracies nothing is said.
    """
    if baseline is not None and baseline.untrained:
        return []
    points, plane = tried(rows, parameters), spec.objectives == PLANE
    if baseline is None:
        return findings(points, baseline_accuracy=None, plane=plane)
    imported = isinstance(spec.base.baseline, BaselineImport)
    above = above_finding(points, baseline) if imported else None
    first = [finding for finding in (collapse_finding(rows, baseline), above) if finding is not None]
    said = findings(points, baseline_accuracy=baseline.accuracy, images=baseline.n, plane=plane)
    return [*findings_of_baseline(baseline), *first, *said]


def best_score(points: Sequence[FrontierPoint], baseline_accuracy: float) -> BalancedScore | None:
    """Returns the point of the highest balanced score, the smaller one of two; None without a point.

    None as well of a baseline with an accuracy of 0, to which nothing compares.
    """

    def value(point: FrontierPoint) -> float:
        accuracy, ratio = point.values["accuracy"], point.values["compression_ratio"]
        return ACCURACY_WEIGHT * accuracy / baseline_accuracy + RATIO_WEIGHT * ratio / RATIO_SCALE

    if not points or not baseline_accuracy:
        return None
    best = max(points, key=lambda p: (value(p), -p.values["size_bytes"]))
    return BalancedScore(best, value(best))


def point_document(point: FrontierPoint) -> dict[str, Any]:
    """Returns a point as JSON values."""
    return {
        "label": point.label,
        "trial_id": point.trial_id,
        "params": point.params,
        **{n: int(v) if isinstance(point.row[n], int) and v == int(v) else v for n, v in point.values.items()},
        "test_accuracy": point.row.get("test_accuracy"),
        "repeats": point.row.get("repeats"),
    }


def _best(points: list[FrontierPoint], knee_at: int | None) -> dict[str, FrontierPoint]:
    if knee_at is None:
        return {}
    return {
        "accuracy": max(points, key=lambda p: (p.values["accuracy"], -p.values["size_bytes"])),
        "compression": min(points, key=lambda p: (p.values["size_bytes"], -p.values["accuracy"])),
        "balanced": points[knee_at],
    }
