"""What a run says at its end."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from search_spaces.rungs import FULL
from trainables.errors import CorruptFile
from tune_app.frontier.points import frontier_ids
from tune_app.ledger.baseline import BaselineInfo, caveat
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Damaged, TrialRecord
from tune_app.ledger.reading import some
from tune_app.ledger.training_cost import cost_lines, seconds_saved, taken_over, training_seconds
from tune_app.search.ladder import Agreement, agreements
from tune_app.spec.experiment import ExperimentSpec


@dataclass(frozen=True)
class Outcome:
    """How a run of a search ended: its records, and what is said of them."""

    folder: ExperimentFolder
    baseline: BaselineInfo
    records: list[TrialRecord]
    new: int
    quarantined: list[str]
    why: str
    """What ended it: the part of the budget that is spent, or that no point is left."""
    seconds: float = 0.0
    """Of the search itself, without Ray's start and the baseline."""
    removed: list[str] = field(default_factory=list)
    """The labels of trials of which there was a row in the table and no record when it began."""
    damaged: list[Damaged] = field(default_factory=list)
    """Records of which nothing could be read any more when it ended."""
    without_file: list[TrialRecord] = field(default_factory=list)
    """The complete trials whose packed file was gone when it ended."""

    def check(self) -> None:
        """Raises CorruptFile where something of the experiment is not there any more, with the way out."""
        place, lines = self.folder.path, list[str]()
        if self.damaged:
            found = "; ".join(file.problem for file in self.damaged)
            lines.append(f"damaged while the search ran: {found}. Run again, which makes it again or says why not.")
        if self.without_file:
            labels = [record.assignment.label for record in self.without_file]
            lines.append(
                f"the packed file of {some(labels)} is gone: `tune-app reproduce {place} {labels[0]}` makes one again, "
                f"`tune-app verify {place} --all` names all."
            )
        if lines:
            raise CorruptFile(" ".join(lines))


def summary(outcome: Outcome, spec: ExperimentSpec) -> list[str]:
    """Says in lines: trials and frontier; training and what the cache saved; how the rungs agree."""
    records = outcome.records
    complete = sum(r.state == "complete" for r in records)
    lines = [
        f"{outcome.folder.path}: {len(records)} trials ({outcome.new} new), {complete} complete, "
        f"{len(frontier_ids(records, spec))} on the frontier; ended with {outcome.why}",
        *filter(None, [caveat(spec)]),
        *cost_lines(sum(map(training_seconds, records)), seconds_saved(records), taken_over(records)),
    ]
    if spec.fidelity is not None:
        lines.append(_rungs(records, spec))
        lines += [_agreement(found) for found in agreements(records, spec, outcome.baseline.reference(spec))]
    return lines


def _rungs(records: Sequence[TrialRecord], spec: ExperimentSpec) -> str:
    counts = {name: sum(r.assignment.rung == name and r.assignment.repeat == 0 for r in records) for name in spec.rungs}
    again = sum(r.assignment.repeat > 0 for r in records)
    repeats = f"; {again} repeats of {FULL}" if again else ""
    return "rungs: " + ", ".join(f"{n} {name}" for name, n in counts.items()) + repeats


def _agreement(found: Agreement) -> str:
    ranks = ", ".join(f"{name} {rho:.2f}" if rho == rho else f"{name} –" for name, rho in found.correlation.items())
    skipped = "; skipped from then on" if found.dropped else ""
    return f"  {found.rung} against {found.above}: rank correlation of {ranks} ({found.pairs} points){skipped}"
