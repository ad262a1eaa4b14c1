"""`tune-app failures`: where a network errs, and what compression broke."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainables.errors import ConfigError
from tune_app.cli.options import RESULTS, TrialOrBaseline, argument

if TYPE_CHECKING:
    from trainables.storage import StoragePath
    from tune_app.mistakes.subject import Subject

HOME_DEPTH = 3
"""How far above a file its experiment may lie: a file in artifacts/<id>/ or stages/<key>/ is three folders deep."""

Split = Literal["val", "test"]

app = typer.Typer()


@app.command(rich_help_panel=RESULTS, epilog="Example: tune-app failures demo/demo p75_w2_a8")
def failures(
    place: Annotated[
        str,
        argument(
            "EXPERIMENT|FILE", "Folder or URI of an experiment; or a file: model.mbq, a stage's folder, a checkpoint."
        ),
    ],
    trial: TrialOrBaseline = "",
    experiment: Annotated[
        str, typer.Option(metavar="EXPERIMENT", help="For a file: its data, model and baseline.")
    ] = "",
    data: Annotated[
        str, typer.Option(metavar="NAME|SPEC", help="For a file of no experiment: a data set, or a spec's YAML file.")
    ] = "",
    root: Annotated[str | None, typer.Option(metavar="FOLDER", help="Files of the data set that --data names.")] = None,
    split: Annotated[
        Split, typer.Option(help="Of a trial or the baseline: test, once finalize has evaluated it there.")
    ] = "val",
    output: Annotated[str, typer.Option(metavar="FOLDER", help="Where to write.  \\[default: failures-LABEL]")] = "",
    json: Annotated[
        bool, typer.Option("--json", help="JSON on standard output; files only where --output says.")
    ] = False,
) -> None:
    """Show where a network errs, on the validation split if not told otherwise, and what compression broke."""
    from trainables.storage import refuse_file, storage_path
    from tune_app.mistakes.analysis import analyze, predictions
    from tune_app.mistakes.files import as_json, write_files
    from tune_app.mistakes.text import summary
    from tune_app.terminal.progress import counting, doing

    if output:
        refuse_file(storage_path(output))
    with doing("loading the network and the data"):
        subject = _subject(place, trial, experiment=experiment, data=data, root=root, split=split)
    suffix = "" if split == "val" else f"-{split}"
    target = output or ("" if json else f"failures-{folder_name(subject.about.label)}{suffix}")
    with counting("predictions", total=predictions(subject)) as advance:
        analysis = analyze(subject, advance=advance)
    files = write_files(analysis, storage_path(target)) if target else []
    if json:
        print(as_json(analysis), end="")
    else:
        print("\n".join(summary(analysis)))
        print(f"written to {target}: {', '.join(files)}")


def folder_name(label: str) -> str:
    """Returns a label as a part of a folder's name: what a file system may refuse becomes `-`."""
    return "".join(c if c.isalnum() or c in "._=+-" else "-" for c in label)


def _subject(place: str, trial: str, *, experiment: str, data: str, root: str | None, split: Split) -> "Subject":
    """Loads what was asked for: a trial, a file for an experiment's images, or a file of no experiment."""
    from trainables.storage import exists, storage_path
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.mistakes.subject import file_subject, loose_subject, trial_subject

    if experiment and data:
        raise ConfigError("--experiment brings its own data set: leave --data out.")
    if root is not None and not data:
        raise ConfigError("--root is the folder of the data set that --data names: give both.")
    if trial:
        if experiment or data:
            raise ConfigError("--experiment and --data are for a file: leave them out, or the trial.")
        return trial_subject(ExperimentFolder.existing(place), trial, split=split)
    if split == "test":
        raise ConfigError("--split test is for a trial that finalize has evaluated: name an EXPERIMENT and a TRIAL.")
    path = storage_path(place)
    if not exists(path):
        raise ConfigError(f"there is no {path}: give an experiment and a trial, or a file with a network.")
    if data:
        return loose_subject(path, data, root=root)
    return file_subject(path, ExperimentFolder.existing(experiment or _home(path)))


def _home(path: "StoragePath") -> "StoragePath":
    """Returns the experiment in whose folder a file lies."""
    from trainables.storage import exists
    from tune_app.ledger.folder import ExperimentFolder

    if exists(ExperimentFolder(path).spec_file):
        raise ConfigError(f"{path} is an experiment: name one of its trials too, or `baseline`.")
    folder = path.resolve() if isinstance(path, Path) else path
    for _ in range(HOME_DEPTH):
        folder = folder.parent
        if exists(ExperimentFolder(folder).spec_file):
            return folder
    raise ConfigError(f"{path} is in no experiment's folder: name its --experiment, or with --data its data set.")
