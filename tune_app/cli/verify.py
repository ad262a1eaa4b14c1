"""`tune-app verify`: the packed files of an experiment against its records."""

import json as json_text
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.errors import CorruptFile

if TYPE_CHECKING:
    from tune_app.artifacts.verify import Mismatch, Verdict, Verification
    from tune_app.ledger.ledger import Damaged


def verify(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT", help="Folder or URI of the experiment, e.g. runs/demo.", show_default=False
        ),
    ],
    trials: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TRIAL", help="Labels (p30_w4_a8) or ids of trials; none: the frontier.", show_default=False
        ),
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Every complete trial, not only the frontier.")] = False,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Evaluate the decoded networks on the validation split, too.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Prove again that packed files are what their records say: bytes, network and, if asked, accuracy."""
    from tune_app.artifacts.verify import verify
    from tune_app.ledger.folder import ExperimentFolder

    found = verify(ExperimentFolder.existing(experiment), trials or (), all=all, evaluate=evaluate)
    if json:
        print(json_text.dumps(found.document(), indent=1))
    else:
        _print(found, evaluated=evaluate)
    if not found.holds:
        raise CorruptFile(_refusal(found))


def _print(found: "Verification", *, evaluated: bool) -> None:
    from tune_app.terminal.quantities import show_count
    from tune_app.terminal.table import print_table

    if found.verdicts:
        print_table(
            ("trial", "bytes", "accuracy", "packed file"), map(_row, found.verdicts), left=("trial", "packed file")
        )
    for verdict in found.broken:
        for mismatch in verdict.mismatches:
            print(f"{_mismatch(verdict, mismatch)}: make the trial again with `{found.way_out(verdict)}`.")
    for file in found.damaged:
        print(_damaged(file))
    if found.holds:
        more = " and accuracy, evaluated again" if evaluated else ""
        print(f"{show_count(len(found.verdicts), 'trial')} as recorded: size, SHA-256, decoded network{more}")


def _row(verdict: "Verdict") -> tuple[str, ...]:
    from tune_app.terminal.quantities import show_share

    metrics = verdict.record.metrics()
    rules = ", ".join(mismatch.rule for mismatch in verdict.mismatches)
    said = f"not as recorded: {rules}" if rules else "as recorded"
    return verdict.label, f"{metrics['size_bytes']:,.0f}", show_share(metrics["accuracy"]), said


def _mismatch(verdict: "Verdict", mismatch: "Mismatch") -> str:
    """Rule and value."""
    return f"{verdict.label}: {mismatch.rule} must be {_shown(mismatch.recorded)}, but is {_shown(mismatch.found)}"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    return f"{value:,}" if isinstance(value, int) else "absent" if value is None else str(value)


def _damaged(file: "Damaged") -> str:
    if file.whole:
        return f"{file.problem}, but it is whole: use the version of tune-app that wrote it."
    return f"{file.problem}: the next `tune-app run` puts it aside, and its trial may run again."


def _refusal(found: "Verification") -> str:
    from tune_app.terminal.quantities import show_count

    trials, records = len(found.broken), len(found.damaged)
    parts = [f"{trials} of {show_count(len(found.verdicts), 'trial')}"] if trials else []
    parts += [show_count(records, "damaged record")] if records else []
    verb = "is" if trials + records == 1 else "are"
    return f"{' and '.join(parts)} of {found.folder.path} {verb} not as recorded."
