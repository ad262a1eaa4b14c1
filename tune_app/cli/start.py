"""The commands of the panel "Search" for a first search: init, compress."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.errors import ConfigError
from trainables.quantities import parse_size
from tune_app.cli.networks import json_object
from tune_app.cli.options import SEARCH, argument
from tune_app.engine.stop_signal import end_process, handled_by
from tune_app.terminal.progress import console, doing
from tune_app.terminal.quantities import show_interval, show_points, show_ratio, show_share
from tune_app.terminal.shell import command, from_here

if TYPE_CHECKING:
    from tune_app.ledger.test_results import HeldOut

app = typer.Typer()

Network = Annotated[
    str, argument("NETWORK", "A torchvision classifier (resnet18), module:callable, or the file that capture wrote.")
]
Data = Annotated[str, typer.Option(metavar="PLACE", help="A folder of images, a file, or the name of a data set.")]
Root = Annotated[str, typer.Option(metavar="FOLDER", help="Where the files of a named data set lie.")]
Checkpoint = Annotated[str, typer.Option(metavar="FILE", help="Trained weights; without: it is trained first.")]
Arguments = Annotated[str, typer.Option(metavar="JSON", help="Of the callable: '{\"num_classes\": 10}'.")]
ImageSize = Annotated[int | None, typer.Option(min=8, max=1024, help="Side of images, pixels.  \\[default: theirs]")]


@app.command(rich_help_panel=SEARCH, epilog="Example: tune-app init resnet18 --data photos --output photos.yaml")
def init(
    network: Network = "",
    data: Data = "",
    root: Root = "",
    checkpoint: Checkpoint = "",
    arguments: Arguments = "{}",
    max_bytes: Annotated[str | None, typer.Option(metavar="SIZE", help="Of the file: 300KB.")] = None,
    image_size: ImageSize = None,
    output: Annotated[Path, typer.Option(metavar="FILE", help="File to write.")] = Path("search.yaml"),
) -> None:
    """Write the spec of a first search, with comments; it asks for what is not given, and is a file to change."""
    from trainables.storage import exists, refuse_folder, replace

    asks = sys.stdin.isatty()
    if not asks and not (network and data):
        raise ConfigError("init takes a network and --data, or asks for them at a terminal.")
    network = network or typer.prompt("network (a torchvision classifier, module:callable, or a captured file)")
    if not data:
        data = typer.prompt("images (a folder with one for each class, a file, or the name of a data set)")
        if max_bytes is None:
            max_bytes = typer.prompt("bytes of the file at most, 300KB (empty: search all sizes)", default="") or None
    refuse_folder(output, such_as="search.yaml")
    if str(output) == "-":
        raise ConfigError("init writes a file, and - is standard input to what reads it: give --output search.yaml.")
    if exists(output):
        raise ConfigError(f"{output} is there already: name another file by --output, or remove it.")
    size = None if max_bytes is None else _bytes(max_bytes)
    text = _spec_text(network, data, root, checkpoint, arguments, size, image_size, storage="runs")
    replace(output, text.encode())
    print(f"{output} written. Try next:")
    for verb in ("plan", "run"):
        print(f"  {command(verb, output)}")


@app.command(rich_help_panel=SEARCH, epilog="Example: tune-app compress resnet18 --data photos --max-bytes 300KB")
def compress(
    network: Network,
    data: Data,
    max_bytes: Annotated[str, typer.Option(metavar="SIZE", help="The file has at most so many: 300KB, 0.3MiB.")],
    root: Root = "",
    checkpoint: Checkpoint = "",
    arguments: Arguments = "{}",
    image_size: ImageSize = None,
    folder: Annotated[Path, typer.Option(help="Where the spec, the search and the file go.")] = Path("compressed"),
    in_process: Annotated[bool, typer.Option("--in-process", help="One trial after the other, without Ray.")] = False,
) -> None:
    """Search for the most accurate file of at most so many bytes: from a network and images to that file."""
    from trainables.storage import exists, read_bytes, refuse_file, replace

    size = _bytes(max_bytes)
    refuse_file(folder)
    text = _spec_text(network, data, root, checkpoint, arguments, size, image_size, storage=str(folder))
    file = folder / "spec.yaml"
    if file.is_dir():
        raise ConfigError(f"{file} is a folder, and would be the spec: remove it, or name another --folder.")
    if exists(file) and read_bytes(file) != text.encode() and any(folder.glob("*/trials/*.json")):
        raise ConfigError(
            f"{file} is that of another search: go on with `{command('run', file)}`, or name another --folder."
        )
    replace(file, text.encode())
    _run_and_export(file, folder, size, in_process=in_process)


def _bytes(text: str) -> int:
    """Reads the size that a file may have, or raises ConfigError."""
    size = parse_size(text)
    if size < 1:
        raise ConfigError(f"--max-bytes {text} leaves no byte for a file: write it like 300KB.")
    return size


def _run_and_export(file: Path, folder: Path, max_bytes: int, *, in_process: bool) -> None:
    """Runs the search of a spec, and leaves the most accurate file within the bound in the folder of its label."""
    with handled_by(end_process):  # an exception out of a long import may get lost
        from tune_app.artifacts.export import export_trial, folder_name
        from tune_app.artifacts.test_split import finalize
        from tune_app.findings.pick import Wish, pick
        from tune_app.ledger.folder import PACKED
        from tune_app.ledger.reading import find_trial
        from tune_app.run.request import engine_for
        from tune_app.run.search import run_search
        from tune_app.spec.yaml_file import load_spec

    engine = engine_for(in_process=in_process)
    spec = load_spec(file)
    outcome = run_search(spec, engine=engine, console=console(plain=in_process))
    outcome.check()
    wish = Wish(max_bytes=max_bytes)
    pick(outcome.folder, wish)  # refuses, and names what comes nearest, before a test image is touched
    final = finalize(outcome.folder)
    found = pick(outcome.folder, wish)
    record = find_trial(outcome.folder, found.point.trial_id)
    target = folder / folder_name(record)
    export_trial(outcome.folder, record, target)
    values = record.metrics()
    size, ratio = f"{values['size_bytes']:,.0f} bytes", show_ratio(values["compression_ratio"])
    print(f"{target / PACKED}: {size}, {ratio} smaller")
    print(_accuracy(found.point.row["test_accuracy"], final.baseline))
    print(f"chosen: {found.why}; {file} is the spec of the search. Try next:")
    experiment = str(from_here(spec.folder))
    for words in (("report", experiment), ("export", experiment, found.point.label, "--onnx")):
        print(f"  {command(*words)}")


def _accuracy(accuracy: float, before: "HeldOut") -> str:
    """Says an accuracy on test images with its interval, beside the one of the network before."""
    from tune_app.findings.chance import interval

    change = show_points(accuracy - before.accuracy)
    return (
        f"accuracy {show_share(accuracy)} ({show_interval(*interval(accuracy, before.n))}, 95 % interval) on "
        f"{before.n:,} test images, {change} against the network before ({show_share(before.accuracy)})"
    )


def _spec_text(
    network: str,
    data: str,
    root: str,
    checkpoint: str,
    arguments: str,
    max_bytes: int | None,
    image_size: int | None,
    *,
    storage: str,
) -> str:
    """Returns the text of a first search's spec, which is known to be well."""
    from tune_app.spec.yaml_file import parse_spec
    from tune_app.start.first_search import FirstSearch, starter_spec

    wanted = FirstSearch(
        network=network,
        data=data,
        root=root,
        checkpoint=checkpoint,
        arguments=json_object(arguments),
        max_bytes=max_bytes,
        image_size=image_size,
        storage=storage,
    )
    with doing("looking at the images and the network"):
        text = starter_spec(wanted)
    parse_spec(text, source="the new spec")
    return text
