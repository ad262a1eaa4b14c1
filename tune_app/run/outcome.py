"""What a run says at its end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from search_spaces.rungs import FULL
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.training_cost import cost_lines, seconds_saved, taken_over, training_seconds
from tune_app.search.ladder import Agreement, Ladder
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.trial_rows import frontier_ids

if TYPE_CHECKING:
    from tune_app.run.search import Outcome


def summary(outcome: "Outcome", spec: ExperimentSpec) -> list[str]:
    """Lines: trials and frontier; training and what the cache saved; how the rungs agree."""
    records = outcome.records
    complete = sum(r.state == "complete" for r in records)
    lines = [
        f"{outcome.folder.path}: {len(records)} trials ({outcome.new} new), {complete} complete, "
        f"{len(frontier_ids(records, spec))} on the frontier; ended with {outcome.why}",
        *cost_lines(sum(map(training_seconds, records)), seconds_saved(records), taken_over(records)),
    ]
    if spec.fidelity is not None:
        lines.append(_rungs(records, spec))
        lines += [_agreement(found) for found in agreements(records, spec, outcome.baseline.reference(spec))]
    return lines


def agreements(records: Sequence[TrialRecord], spec: ExperimentSpec, reference: dict[str, float]) -> list[Agreement]:
    """How the ranks of each rung agree with those of the next one."""
    ladder = Ladder(spec, reference)
    for record in records:
        if record.assignment.repeat == 0:
            ladder.add(record)
    return ladder.agreements()


def _rungs(records: Sequence[TrialRecord], spec: ExperimentSpec) -> str:
    counts = {name: sum(r.assignment.rung == name and r.assignment.repeat == 0 for r in records) for name in spec.rungs}
    again = sum(r.assignment.repeat > 0 for r in records)
    repeats = f"; {again} repeats of {FULL}" if again else ""
    return "rungs: " + ", ".join(f"{n} {name}" for name, n in counts.items()) + repeats


def _agreement(found: Agreement) -> str:
    ranks = ", ".join(f"{name} {rho:.2f}" if rho == rho else f"{name} –" for name, rho in found.correlation.items())
    skipped = "; skipped from then on" if found.dropped else ""
    return f"  {found.rung} against {found.above}: rank correlation of {ranks} ({found.pairs} points){skipped}"
