"""`tune-app epochs`: the learning curves of an experiment as data."""

from typing import TYPE_CHECKING, Annotated

import typer

from tune_app.terminal.quantities import show_count, show_share

if TYPE_CHECKING:
    import pandas as pd

ABSENT = "–"


def epochs(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT", help="Folder or URI of the experiment, e.g. runs/demo.", show_default=False
        ),
    ],
    trial: Annotated[
        str,
        typer.Argument(metavar="TRIAL", help="Label (p30_w4_a8) or id of one trial, or: baseline.", show_default=False),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
    parquet: Annotated[str | None, typer.Option(metavar="FILE", help="Write the rows to a parquet file.")] = None,
) -> None:
    """Show the learning curves: every epoch of every stage, once, however many trials share the stage."""
    from tune_app.cli.frames import write_frame
    from tune_app.tables.epochs import epoch_frame

    frame = epoch_frame(experiment, trial)
    if json or csv or parquet is not None:
        write_frame(frame, json=json, csv=csv, parquet=parquet, title="")
    elif frame.empty:
        print(f"epochs of {trial or experiment}: no stage with epochs has finished yet.")
    elif trial:
        _print_epochs(frame)
    else:
        _print_stages(frame)


def _print_epochs(frame: "pd.DataFrame") -> None:
    from tune_app.terminal.table import print_table

    heads = ("stage", "epoch", "step", "lr", "loss", "train", "validation", "s")
    columns = ("stage", "epoch", "step", "lr", "loss", "train_accuracy", "val_accuracy", "seconds")
    chosen = [(head, column) for head, column in zip(heads, columns, strict=True) if frame[column].notna().any()]
    rows = [tuple(_cell(column, row[column]) for _, column in chosen) for _, row in frame.iterrows()]
    print_table([head for head, _ in chosen], rows, left=("stage",))


def _print_stages(frame: "pd.DataFrame") -> None:
    """A line for each stage: a whole search has more epochs than people read."""
    from tune_app.terminal.table import print_table

    rows = []
    for _, stage in frame.groupby("stage_key", sort=False):
        first, accuracies = stage.iloc[0], stage["val_accuracy"].dropna()
        measured = [accuracies.iloc[0], accuracies.max(), accuracies.iloc[-1]] if len(accuracies) else [None] * 3
        shares = [ABSENT if value is None else show_share(value) for value in measured]
        others = f" and {show_count(first['trials'] - 1, 'other')}" if first["trials"] > 1 else ""
        rows.append(
            (first["stage"], f"{first['label']}{others}", f"{len(stage)}", *shares, f"{stage['seconds'].sum():.1f}")
        )
    print_table(("stage", "of", "epochs", "first", "best", "last", "s"), rows, left=("stage", "of"))


def _cell(column: str, value: object) -> str:
    """NaN and a missing number are not known."""
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float) or value != value:
        return ABSENT
    if column.endswith("accuracy"):
        return show_share(value)
    return f"{value:.4g}" if column in ("lr", "loss") else f"{value:.1f}" if column == "seconds" else f"{value:g}"
