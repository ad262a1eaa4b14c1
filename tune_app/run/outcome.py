"""What a run says at its end."""

from dataclasses import dataclass, field

from search_spaces.rungs import FULL
from trainables.errors import CorruptFile
from tune_app.engine.live_view import result_line
from tune_app.ledger.baseline import BaselineInfo, caveat
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Damaged, TrialRecord
from tune_app.ledger.reading import made_again_by, some
from tune_app.ledger.training_cost import cost_lines
from tune_app.search.ladder import Agreement
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.totals import Totals
from tune_app.terminal.shell import command


@dataclass(frozen=True)
class Outcome:
    """How a run of a search ended, and what is said of it."""

    folder: ExperimentFolder
    baseline: BaselineInfo
    totals: Totals
    new: int
    why: str
    """What ended it: the part of the budget that is spent, or that no point is left."""
    seconds: float = 0.0
    """Of the search itself, without Ray's start and the baseline."""
    quarantined: list[str] = field(default_factory=list)
    """The names of damaged records' files that were put out of the way."""
    removed: list[str] = field(default_factory=list)
    """The labels of trials of which there was a row in the table and no record when it began."""
    damaged: list[Damaged] = field(default_factory=list)
    """Records of which nothing could be read any more when it ended."""
    without_file: list[str] = field(default_factory=list)
    """The labels of complete trials whose packed file was gone when it ended."""
    asked: list[TrialRecord] = field(default_factory=list)
    """The results of the points that were asked for by name."""

    def check(self) -> None:
        """Raises CorruptFile where something of the experiment is not there any more, with the way out."""
        lines = list[str]()
        if self.damaged:
            found = "; ".join(file.problem for file in self.damaged)
            lines.append(f"damaged while the search ran: {found}. Run again, which makes it again or says why not.")
        if self.without_file:
            gone, way_out = some(self.without_file), made_again_by(self.folder, self.without_file[0])
            names_all = command("verify", self.folder.path, "--all")
            lines.append(f"the packed file of {gone} is gone: {way_out}, `{names_all}` names all.")
        if lines:
            raise CorruptFile(" ".join(lines))


def changed_by_others(outcome: Outcome) -> list[str]:
    """Says in lines what was damaged or removed since the last run, and may run again."""
    moved = "damaged record moved to trials/quarantine, its trial may run again"
    return [
        *(f"{moved}: {name}" for name in outcome.quarantined),
        *(f"{label} is in trials.parquet, but its record was removed: it may run again" for label in outcome.removed),
    ]


def summary(outcome: Outcome, spec: ExperimentSpec) -> list[str]:
    """Says in lines: trials and frontier; training and what the cache saved; how the rungs agree."""
    totals = outcome.totals
    complete = totals.trials.get("complete", 0)
    lines = [
        f"{outcome.folder.path}: {totals.count} trials ({outcome.new} new), {complete} complete, "
        f"{totals.on_frontier} on the frontier; ended with {outcome.why}",
        *filter(None, [caveat(spec)]),
        *map(result_line, outcome.asked),
        *cost_lines(totals.training_seconds, totals.seconds_saved, totals.taken_over),
    ]
    if spec.fidelity is not None:
        lines += [_rungs(totals, spec), *map(_agreement, totals.agreements)]
    return lines


def _rungs(totals: Totals, spec: ExperimentSpec) -> str:
    repeats = f"; {totals.repeats} repeats of {FULL}" if totals.repeats else ""
    return "rungs: " + ", ".join(f"{totals.rungs.get(name, 0)} {name}" for name in spec.rungs) + repeats


def _agreement(found: Agreement) -> str:
    ranks = ", ".join(f"{name} {'–' if rho is None else f'{rho:.2f}'}" for name, rho in found.correlation.items())
    skipped = "; skipped from then on" if found.dropped else ""
    return f"  {found.rung} against {found.above}: rank correlation of {ranks} ({found.pairs} points){skipped}"
