"""The summary of an experiment: its best points, its baseline, its totals; of a running one as far as it is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search_spaces.rungs import FULL
from tune_app.findings.at_chance import collapse_finding
from tune_app.findings.findings import COLUMNS, Finding, findings, tried
from tune_app.findings.frontier_points import FrontierPoint, costs_of_points, points_of
from tune_app.frontier.objectives import costs_of
from tune_app.frontier.pareto import hypervolume, knee
from tune_app.ledger.baseline import BaselineInfo, read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.reading import read_records
from tune_app.ledger.training_cost import TakenOver, cost_lines, seconds_saved, taken_over, training_seconds
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.trials import load_trials
from tune_app.terminal.quantities import show_count, show_number, show_points, show_ratio, show_share, show_size

ACCURACY_WEIGHT, RATIO_WEIGHT, RATIO_SCALE = 0.6, 0.4, 50
"""Of the balanced score of an earlier system (examples/recipes/seed_002.yaml)."""
FORMULA = f"{ACCURACY_WEIGHT:g} * accuracy / baseline accuracy + {RATIO_WEIGHT:g} * compression ratio / {RATIO_SCALE}"
SCORE = f"the balanced score of seed_002 ({FORMULA})"
PLANE = {"accuracy": "maximize", "size_bytes": "minimize"}
"""Objectives whose frontier findings speak of."""


@dataclass(frozen=True)
class Totals:
    """Counts and seconds of all trials."""

    trials: dict[str, int]
    """By state."""
    rungs: dict[str, int]
    """By rung, first runs only."""
    repeats: int
    budget: int
    """Trials of the full schedule that the spec asks for."""
    done: int
    """Trials of the full schedule."""
    training_seconds: float
    seconds_saved: float
    """By the stage cache."""
    taken_over: dict[str, TakenOver]
    """What other experiments ran, by their names; it is in no other number of seconds."""
    failures: dict[str, int]
    """Trials without a usable result, by the kind of their failure."""


@dataclass(frozen=True)
class Score:
    """The frontier's best point by the balanced score of an earlier system, which nothing here is chosen by."""

    point: FrontierPoint
    value: float

    def document(self) -> dict[str, Any]:
        """As JSON values, with its formula."""
        return {"formula": FORMULA, "value": self.value, **point_document(self.point)}


@dataclass(frozen=True)
class ExperimentSummary:
    """What an experiment has found so far."""

    experiment: str
    objectives: dict[str, str]
    baseline: BaselineInfo | None
    frontier_size: int
    hypervolume: float | None
    """None without a baseline."""
    best: dict[str, FrontierPoint]
    """`accuracy`, `compression` and `balanced` (the knee); empty without a frontier."""
    totals: Totals
    score: Score | None = None
    """None without a trained baseline or a frontier."""
    findings: tuple[Finding, ...] = ()

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        baseline = self.baseline
        return {
            "experiment": self.experiment,
            "objectives": self.objectives,
            "baseline": None
            if baseline is None
            else {
                "accuracy": baseline.accuracy,
                "size_bytes": baseline.size_bytes,
                "parameters": baseline.parameters,
                "untrained": baseline.untrained,
            },
            "frontier_size": self.frontier_size,
            "hypervolume": self.hypervolume,
            "best": {name: point_document(point) for name, point in self.best.items()},
            "balanced_score": None if self.score is None else self.score.document(),
            "findings": [finding.document() for finding in self.findings],
            "totals": asdict(self.totals),
        }

    def lines(self) -> list[str]:
        """As people read it."""
        totals = self.totals
        states = ", ".join(f"{n} {state}" for state, n in totals.trials.items()) or "none yet"
        lines = [f"{self.experiment}: {totals.done} of {totals.budget} trials of the full schedule; all: {states}"]
        if len(totals.rungs) > 1 or totals.repeats:
            rungs = ", ".join(f"{n} {rung}" for rung, n in totals.rungs.items())
            lines.append(f"rungs: {rungs}" + (f"; {show_count(totals.repeats, 'repeat')}" if totals.repeats else ""))
        if self.baseline is not None:
            size = show_size(self.baseline.size_bytes)
            lines.append(f"{self.baseline.title}: {show_share(self.baseline.accuracy)}, {size} in fp32")
        for name, point in self.best.items():
            lines.append(f"best {name}: {point.label}, {self._figures(point)}")
        if self.score is not None:
            lines.append(f"best by {SCORE}: {self.score.point.label}, {self.score.value:.3f}")
        volume = "" if self.hypervolume is None else f", hypervolume {show_number(self.hypervolume)}"
        lines.append(f"frontier: {show_count(self.frontier_size, 'point')}{volume}")
        lines += cost_lines(totals.training_seconds, totals.seconds_saved, totals.taken_over)
        lines += [f"failed: {n} of {kind}" for kind, n in totals.failures.items()]
        if self.findings:
            lines += ["findings:", *(f"  {finding.text}" for finding in self.findings)]
        return lines

    def _figures(self, point: FrontierPoint) -> str:
        values = point.values
        text = f"{show_share(values['accuracy'])}, {show_size(values['size_bytes'])}"
        text += f", {show_ratio(values['compression_ratio'])}"
        if self.baseline is not None:
            text += f" ({show_points(values['accuracy'] - self.baseline.accuracy)})"
        return text


def summarize(folder: ExperimentFolder) -> ExperimentSummary:
    """Reads an experiment, at any time.

    Raises:
        CorruptFile: the stored spec or baseline is damaged.
        StorageUnavailable: a file cannot be read.
    """
    spec, baseline = folder.read_spec(), read_baseline(folder)
    records = read_records(folder)
    table = load_trials(folder, records)
    points = points_of(table.filter(table["on_frontier"]), spec)
    costs = costs_of_points(points, spec)
    volume = None
    if baseline is not None:
        volume = hypervolume(costs, costs_of(baseline.reference(spec), spec)) if points else 0.0
    return ExperimentSummary(
        experiment=spec.name,
        objectives={**spec.objectives},
        baseline=baseline,
        frontier_size=len(points),
        hypervolume=volume,
        best=_best(points, knee(costs) if points else None),
        totals=_totals(records, spec),
        score=None if baseline is None or baseline.untrained else best_score(points, baseline.accuracy),
        findings=tuple(findings_of(table.select([*COLUMNS, *spec.space.root]).to_pylist(), spec, baseline)),
    )


def findings_of(
    rows: Sequence[Mapping[str, Any]],
    spec: ExperimentSpec,
    baseline: BaselineInfo | None,
    *,
    labels: Sequence[str] = (),
) -> list[Finding]:
    """What rows of the table of trials say; `labels` of the rows, if not those of their column.

    Of a placeholder's accuracies nothing is said.
    """
    if baseline is not None and baseline.untrained:
        return []
    collapse = None if baseline is None else collapse_finding(rows, baseline)
    said = findings(
        tried(rows, list(spec.space.root), labels),
        baseline_accuracy=None if baseline is None else baseline.accuracy,
        images=None if baseline is None else baseline.n,
        plane=spec.objectives == PLANE,
    )
    return said if collapse is None else [collapse, *said]


def best_score(points: Sequence[FrontierPoint], baseline_accuracy: float) -> Score | None:
    """The point of the highest balanced score, the smaller one of two; None without a point."""

    def value(point: FrontierPoint) -> float:
        accuracy, ratio = point.values["accuracy"], point.values["compression_ratio"]
        return ACCURACY_WEIGHT * accuracy / baseline_accuracy + RATIO_WEIGHT * ratio / RATIO_SCALE

    best = max(points, key=lambda p: (value(p), -p.values["size_bytes"]), default=None)
    return None if best is None else Score(best, value(best))


def point_document(point: FrontierPoint) -> dict[str, Any]:
    """A point as JSON values."""
    return {
        "label": point.label,
        "trial_id": point.trial_id,
        "params": point.params,
        **{
            name: int(value) if isinstance(point.row[name], int) and value == int(value) else value
            for name, value in point.values.items()
        },
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


def _totals(records: list[TrialRecord], spec: ExperimentSpec) -> Totals:
    first = [r for r in records if r.assignment.repeat == 0]
    rungs = Counter(r.assignment.rung for r in first)
    failures = Counter(r.reason.partition(":")[0] for r in records if r.reason)
    return Totals(
        trials=dict(Counter(r.state for r in records)),
        rungs={name: rungs[name] for name in spec.rungs if rungs[name]},
        repeats=len(records) - len(first),
        budget=spec.budget.trials,
        done=rungs[FULL],
        training_seconds=sum(map(training_seconds, records)),
        seconds_saved=seconds_saved(records),
        taken_over=taken_over(records),
        failures=dict(failures.most_common()),
    )
