"""`tune-app verify`: the packed files of an experiment against its records."""

import json as json_text
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.errors import CorruptFile
from trainables.storage import exists
from tune_app.cli.options import NETWORKS, Experiment, Json, argument
from tune_app.terminal.quantities import show_count, show_share
from tune_app.terminal.table import print_table

if TYPE_CHECKING:
    from tune_app.artifacts.verify import Verdict, Verification

app = typer.Typer()


@app.command(rich_help_panel=NETWORKS, epilog="Example: tune-app verify demo/demo p75_w2_a8 --evaluate")
def verify(
    experiment: Experiment,
    trials: Annotated[
        list[str] | None, argument("TRIAL", "Labels (p30_w4_a8) or ids of trials; none: the frontier.")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Every complete trial, and every stage of the cache.")] = False,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Evaluate the decoded networks on the validation split, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Prove again that packed files are what their records say, and that nothing of the experiment is missing."""
    from tune_app.ledger.folder import ExperimentFolder

    folder = ExperimentFolder.existing(experiment)
    from tune_app.artifacts.verify import verify

    found = verify(folder, trials or (), all=all, evaluate=evaluate)
    if json:
        print(json_text.dumps(found.document(), indent=1))
    else:
        _print(found, evaluated=evaluate)
    if not found.holds:
        broken, damaged, others = len(found.broken), len(found.damaged), len(found.problems)
        parts = [f"{broken} of {show_count(len(found.verdicts), 'trial')}"] if broken else []
        parts += [show_count(damaged, "damaged record")] if damaged else []
        parts += [show_count(others, "further thing")] if others else []
        verb = "is" if broken + damaged + others == 1 else "are"
        raise CorruptFile(f"{' and '.join(parts)} of {found.folder.path} {verb} not as recorded.")


def _print(found: "Verification", *, evaluated: bool) -> None:
    """Prints a row for each trial, then a line for each thing that is not as recorded, with the way out."""
    if found.verdicts:
        heads = ("trial", "bytes", "accuracy", "packed file")
        print_table(heads, map(_cells, found.verdicts), left=("trial", "packed file"))
    for verdict in found.broken:
        for mismatch in verdict.mismatches:
            values = f"must be {_shown(mismatch.recorded)}, but is {_shown(mismatch.found)}"
            way_out = f"make the trial again with `{found.way_out(verdict)}`"
            print(f"{verdict.label}: {mismatch.rule} {values}: {way_out}.")
    for file in found.damaged:
        first = f" once {found.folder.totals_file} is deleted" if exists(found.folder.totals_file) else ""
        way_out = f": the next `tune-app run` puts it aside{first}, and its trial may run again."
        if file.whole:
            way_out = ", but it is whole: use the version of tune-app that wrote it."
        print(f"{file.problem}{way_out}")
    for problem in found.problems:
        print(f"{problem.text}.")
    if found.without_record:
        files = show_count(len(found.without_record), "packed file")
        print(f"{files} without a record: of trials that run, or were cut off and run again when they are proposed")
    if found.holds:
        more = " and accuracy, evaluated again" if evaluated else ""
        print(f"{show_count(len(found.verdicts), 'trial')} as recorded: size, SHA-256, decoded network{more}")


def _cells(verdict: "Verdict") -> tuple[str, ...]:
    """Returns the row of a trial: what was recorded, and which rules do not hold."""
    metrics = verdict.record.metrics()
    rules = ", ".join(mismatch.rule for mismatch in verdict.mismatches)
    said = f"not as recorded: {rules}" if rules else "as recorded"
    return verdict.label, f"{metrics['size_bytes']:,.0f}", show_share(metrics["accuracy"]), said


def _shown(value: object) -> str:
    """Returns a recorded or found value as people write it."""
    if isinstance(value, float):
        return f"{value:.10g}"
    return f"{value:,}" if isinstance(value, int) else "absent" if value is None else str(value)
