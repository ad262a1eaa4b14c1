"""`tune-app track`: shows an experiment to W&B, TensorBoard or MLflow, while it runs or afterwards."""

import json as json_text
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.errors import ConfigError
from tune_app.cli.options import TOOLS
from tune_app.terminal.quantities import show_count

if TYPE_CHECKING:
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.spec.trackers import AnyTracker

app = typer.Typer()


@app.command(rich_help_panel=TOOLS, epilog="Example: tune-app track demo/demo --to wandb --mode offline")
def track(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXPERIMENT", help="Folder or URI of the experiment, e.g. runs/demo.", show_default=False
        ),
    ],
    to: Annotated[
        list[str] | None,
        typer.Option(help="wandb, tensorboard or mlflow; may be given more than once.  \\[default: the spec's]"),
    ] = None,
    mode: Annotated[str, typer.Option(help="Of W&B: online or offline.  \\[default: the spec's]")] = "",
    again: Annotated[bool, typer.Option("--again", help="Show everything once more.")] = False,
    confusion: Annotated[bool, typer.Option(help="With the confusion matrix of the frontier's knee.")] = True,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Show the runs of an experiment to trackers; once more, it shows what is new."""
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.tracking.track import track

    folder = ExperimentFolder.existing(experiment)
    found = [
        track(folder, config, again=again, confusion=confusion) for config in _configs(folder, to or [], mode=mode)
    ]
    if json:
        print(json_text.dumps([vars(shown) for shown in found], indent=1))
        return
    for shown in found:
        runs = f"{show_count(shown.runs, 'run')} ({shown.new:,} new)"
        print(f"{shown.kind}: {runs} {'offline' if shown.files else f'at {shown.destination}'}")
        if shown.files:
            print(f"  send them with `wandb sync {shown.files}`, or run this again where W&B has a key")


def _configs(folder: "ExperimentFolder", kinds: list[str], *, mode: str) -> "list[AnyTracker]":
    """The spec's trackers, or those that are named, with the spec's options where it has some."""
    from tune_app.spec.trackers import WandbConfig, default_config

    known: dict[str, AnyTracker] = {config.kind: config for config in folder.read_spec().tracking}
    named: list[str] = list(dict.fromkeys(kinds)) or list(known)
    if not named:
        raise ConfigError("the spec names no tracker: choose one with --to wandb, --to tensorboard or --to mlflow.")
    found = [known.get(kind) or default_config(kind) for kind in named]
    if not mode:
        return found
    if mode not in {"online", "offline"}:
        raise ConfigError(f"--mode is online or offline, but got {mode!r}.")
    return [c.model_copy(update={"mode": mode}) if isinstance(c, WandbConfig) else c for c in found]
