"""The top of a report: the best points, the baseline, the totals, findings in words."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tune_app.findings.summary import findings_of
from tune_app.frontier.points import PointRuns
from tune_app.ledger.ledger import in_full
from tune_app.ledger.training_cost import seconds_saved, training_seconds
from tune_app.report.contents import Contents
from tune_app.tables.columns import show
from tune_app.tables.trial_rows import parameter_types
from tune_app.terminal.quantities import show_done, show_duration, show_points, show_size

BALANCED = "Best balanced"


@dataclass(frozen=True)
class Card:
    """One figure with its name; `row` is the trial it speaks of."""

    name: str
    value: str
    detail: str
    row: int | None = None


def cards(contents: Contents) -> list[Card]:
    """Returns the best point by accuracy, by size and the knee between them; baseline; trials; training time."""
    return [*_best(contents), *_baseline(contents), _trials(contents), _training(contents)]


def status(contents: Contents) -> str:
    """Returns how far the search is, in a sentence."""
    done, budget = in_full(contents.records), contents.spec.budget.trials
    now = f"{contents.in_flight} {'is' if contents.in_flight == 1 else 'are'} running"
    if contents.driver:
        return f"A search works on it ({contents.driver}): {show_done(done, budget)} have finished, {now}."
    if done < budget:
        return f"No search works on it now; {done:,} of {budget:,} trials have finished."
    return "The only trial has finished." if done == 1 else f"All {done:,} trials have finished."


def _best(contents: Contents) -> list[Card]:
    front = contents.frontier
    if not front:
        return [Card("Frontier", "none yet", "no feasible trial of the full schedule")]
    value = contents.value
    return [
        _card("Best accuracy", max(front, key=lambda g: (value(g, "accuracy"), -value(g, "size_bytes"))), contents),
        _card(BALANCED, next(group for group in front if contents.row_of(group) == contents.balanced), contents),
        _card("Smallest", min(front, key=lambda g: (value(g, "size_bytes"), -value(g, "accuracy"))), contents),
    ]


def _card(name: str, group: PointRuns, contents: Contents) -> Card:
    accuracy = contents.value(group, "accuracy")
    change = "" if contents.baseline is None else f" ({show_points(accuracy - contents.baseline.accuracy)})"
    sizes = ", ".join(show(column, contents.value(group, column)) for column in ("size_bytes", "compression_ratio"))
    row = contents.row_of(group)
    return Card(name, f"{show('accuracy', accuracy)}{change}", f"{sizes} · {contents.label(row)}", row)


def _baseline(contents: Contents) -> list[Card]:
    if contents.baseline is None:
        training = contents.training
        far = "it is trained first" if training is None else f"in training: {training.text()}"
        return [Card("Baseline", "none yet", far)]
    test = "" if contents.baseline_test is None else f", test {show('accuracy', contents.baseline_test)}"
    size = f"{show_size(contents.baseline.size_bytes)} in fp32"
    return [Card(contents.baseline.title.capitalize(), show("accuracy", contents.baseline.accuracy), f"{size}{test}")]


def _trials(contents: Contents) -> Card:
    states = Counter(record.state for record in contents.records)
    detail = ", ".join(f"{n:,} {state}" for state, n in states.most_common()) or "none has finished"
    more = len(contents.records) > in_full(contents.records)
    detail += " with rungs and repeats" if more else ""
    front = f"; {len(contents.frontier):,} on the frontier" if contents.frontier else ""
    return Card("Trials", show_done(in_full(contents.records), contents.spec.budget.trials), f"{detail}{front}")


def _training(contents: Contents) -> Card:
    saved = max(0.0, seconds_saved(contents.records))
    trained = sum(map(training_seconds, contents.records))
    return Card("Training", show_duration(trained), f"{show_duration(saved)} saved by the cache")


def key_findings(contents: Contents) -> list[str]:
    """Returns what the trials say, in sentences."""
    rows = [{**row, "label": contents.label(place)} for place, row in enumerate(contents.rows)]
    parameters = list(parameter_types(contents.records, contents.spec))
    return [finding.text for finding in findings_of(rows, parameters, contents.spec, contents.baseline)]


def environments(contents: Contents) -> list[tuple[str, Sequence[tuple[str, int]]]]:
    """Returns for each thing that records say of their environment the values, and how many trials had them."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in contents.records:
        for name, value in record.environment.items():
            found[name][value] += 1
    return [(name, counts.most_common()) for name, counts in found.items()]
