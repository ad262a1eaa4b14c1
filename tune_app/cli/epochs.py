"""`tune-app epochs`: the learning curves of an experiment as data."""

from typing import TYPE_CHECKING

import typer

from tune_app.cli.options import RESULTS, Csv, Experiment, Json, Parquet, TrialOrBaseline
from tune_app.terminal.quantities import show_count, show_share
from tune_app.terminal.table import ABSENT, print_table

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("stage", "epoch", "step", "lr", "loss", "train_accuracy", "val_accuracy", "val_loss", "seconds")
HEADS = {"train_accuracy": "train", "val_accuracy": "validation", "val_loss": "val loss", "seconds": "s"}
"""The words above those columns whose names are too long for it."""
FORMS = {"lr": ".4g", "loss": ".4g", "val_loss": ".4g", "seconds": ".1f"}

app = typer.Typer()


@app.command(rich_help_panel=RESULTS, epilog="Example: tune-app epochs demo/demo --parquet epochs.parquet")
def epochs(
    experiment: Experiment, trial: TrialOrBaseline = "", json: Json = False, csv: Csv = False, parquet: Parquet = None
) -> None:
    """Show the learning curves: every epoch of every stage, once, however many trials share the stage."""
    from tune_app.cli.frames import write_frame
    from tune_app.tables.epochs import after_the_epochs, epoch_frame

    frame = epoch_frame(experiment, trial)
    if json or csv or parquet is not None:
        write_frame(frame, json=json, csv=csv, parquet=parquet, title="", none="")
    elif frame.empty:
        print(f"epochs of {trial or experiment}: no stage with epochs has finished yet.")
    elif trial:
        shown = [column for column in COLUMNS if frame[column].notna().any()]
        rows = [tuple(_cell(column, row[column]) for column in shown) for _, row in frame.iterrows()]
        for done, accuracy in after_the_epochs(experiment, trial).items():
            known = {"stage": done, "val_accuracy": accuracy}
            rows.append(tuple(_cell(column, known.get(column)) for column in shown))
        print_table([HEADS.get(column, column) for column in shown], rows, left=("stage",))
    else:
        _print_stages(frame)


def _print_stages(frame: "pd.DataFrame") -> None:
    """Prints a line for each stage: a whole search has more epochs than people read."""
    rows = []
    for _, stage in frame.groupby("stage_key", sort=False):
        first, accuracies = stage.iloc[0], stage["val_accuracy"].dropna()
        measured = (accuracies.iloc[0], accuracies.max(), accuracies.iloc[-1]) if len(accuracies) else ()
        shares = [show_share(share) for share in measured] or [ABSENT] * 3
        others = f" and {show_count(first['trials'] - 1, 'other')}" if first["trials"] > 1 else ""
        label, seconds = f"{first['label']}{others}", f"{stage['seconds'].sum():.1f}"
        rows.append((first["stage"], label, f"{len(stage)}", *shares, seconds))
    print_table(("stage", "of", "epochs", "first", "best", "last", "s"), rows, left=("stage", "of"))


def _cell(column: str, value: object) -> str:
    """Returns a value as people write it; NaN and a missing number are not known."""
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float) or value != value:
        return ABSENT
    if column.endswith("accuracy"):
        return show_share(value)
    return f"{value:{FORMS.get(column, 'g')}}"
