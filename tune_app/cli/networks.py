"""The commands of the panel "Networks" that make, write or time networks: capture, export, latency, reproduce."""

import json as json_text
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.errors import ConfigError
from tune_app.cli.options import NETWORKS, Experiment, Json, Trial, argument
from tune_app.terminal.quantities import show_ratio, show_share
from tune_app.terminal.table import print_table

if TYPE_CHECKING:
    from trainables.export.onnx.latency import LatencyReport
    from trainables.graph.network_file import NetworkFile

app = typer.Typer()


@app.command(rich_help_panel=NETWORKS, epilog="Example: tune-app capture my_nets:resnet20 --input 3x32x32 --check")
def capture(
    network: Annotated[str, argument("NETWORK", "A callable that makes a torch module: my_nets:resnet20.")],
    image: Annotated[str, typer.Option("--input", metavar="CxHxW", help="Channels and size of its images: 3x32x32.")],
    arguments: Annotated[
        str, typer.Option(metavar="JSON", help="Arguments of the callable: '{\"num_classes\": 10}'.")
    ] = "{}",
    checkpoint: Annotated[str, typer.Option(metavar="FILE", help="Weights for it.  \\[default: those it makes]")] = "",
    output: Annotated[str, typer.Option(metavar="FILE", help="File to write.  \\[default: NAME.safetensors]")] = "",
    check: Annotated[
        bool, typer.Option("--check", help="Try with it all that a search does; exit 4 if some fails.")
    ] = False,
) -> None:
    """Write any torch network that classifies images as a file that needs no code: its graph and its weights."""
    from trainables.graph.network_file import SUFFIX, network_bytes
    from trainables.models.importing import capture_network
    from trainables.storage import refuse_folder, replace, storage_path

    sizes = image.split("x")
    if len(sizes) != 3 or not all(re.fullmatch("[0-9]{1,9}", size) and int(size) for size in sizes):
        raise ConfigError(f"--input must be channels x height x width, such as 3x32x32, but is {image!r}.")
    shape = (int(sizes[0]), int(sizes[1]), int(sizes[2]))
    file = Path(checkpoint) if checkpoint else None
    target = storage_path(output or f"{network.rpartition(':')[2]}{SUFFIX}")
    refuse_folder(target, such_as=f"network{SUFFIX}")
    found = capture_network(network, json_object(arguments), shape, checkpoint=file)
    content = network_bytes(found)
    replace(target, content)
    weights = sum(tensor.numel() for tensor in found.state.values())
    print(f"{target}: {len(found.graph.nodes)} operators, {weights:,} numbers, {len(content):,} bytes")
    for name, value in found.about.items():
        if name in ("matched", "renamed", "reported", "copies") and value:
            print(f"{name}: {value}")
    if check:
        _print_checks(found)


def _print_checks(network: "NetworkFile") -> None:
    """Prints each check; ends with exit code 4 if one does not hold."""
    from trainables.network_check import check_network

    held = []
    for each in check_network(network):
        print(f"{'ok  ' if each.holds else 'FAIL'} {each.name}: {each.seen}", flush=True)
        held.append(each.holds)
    if not all(held):
        raise typer.Exit(4)


def json_object(text: str) -> dict[str, Any]:
    """Reads the JSON object of `--arguments`, or raises ConfigError."""
    try:
        found = json_text.loads(text)
    except ValueError as err:
        raise ConfigError(f"--arguments must be a JSON object, such as '{{\"num_classes\": 10}}': {err}.") from err
    if not isinstance(found, dict):
        raise ConfigError(f"--arguments must be a JSON object, but is {text}.")
    return found


@app.command(rich_help_panel=NETWORKS, epilog="Example: tune-app export demo/demo p75_w2_a8 --onnx")
def export(
    experiment: Experiment,
    trial: Trial,
    output: Annotated[str, typer.Option(help="Folder to write to.  \\[default: the trial's label]")] = "",
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx too, checked with onnxruntime.")] = False,
) -> None:
    """Write the packed file and the card of one point, and its ONNX file."""
    from trainables.storage import storage_path
    from tune_app.artifacts.export import ONNX, export_onnx, export_trial, folder_name
    from tune_app.ledger.folder import PACKED, ExperimentFolder
    from tune_app.ledger.reading import find_trial

    folder = ExperimentFolder.existing(experiment)
    record = find_trial(folder, trial)
    target = storage_path(output or folder_name(record))
    export_trial(folder, record, target)
    print(f"{target}/{PACKED}: {record.metrics()['size_bytes']:,.0f} bytes, {record.assignment.label}")
    if onnx:
        found = export_onnx(folder, record, target)
        accuracy = f"accuracy {show_share(found.accuracy)} on the validation split"
        print(f"{target}/{ONNX}: {found.size_bytes:,} bytes, {accuracy}")


@app.command(rich_help_panel=NETWORKS, epilog="Example: tune-app latency demo/demo p75_w2_a8 p50_w4_a8 --batch 1")
def latency(
    experiment: Experiment,
    trials: Annotated[list[str], argument("TRIAL", "Labels (p30_w4_a8) or ids of trials.")],
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each network and batch size.")] = 200,
    warmup: Annotated[int, typer.Option(min=1, help="Runs before these that are not timed.")] = 20,
    batch: Annotated[list[int], typer.Option(min=1, help="Batch size; may be given more than once.")] = [1, 64],  # noqa: B006
    json: Json = False,
) -> None:
    """Time trials and the fp32 baseline in onnxruntime, by turns, on one thread of the CPU."""
    from tune_app.artifacts.latency import measure_trials
    from tune_app.ledger.folder import ExperimentFolder

    found = measure_trials(ExperimentFolder.existing(experiment), trials, batches=batch, runs=runs, warmup=warmup)
    if json:
        print(found.model_dump_json(indent=1))
    else:
        _print_latency(found)


@app.command(rich_help_panel=NETWORKS, epilog="Example: tune-app reproduce demo/demo p75_w2_a8")
def reproduce(
    experiment: Experiment,
    trial: Trial,
    output: Annotated[str, typer.Option(help="New folder to work in.  \\[default: the label, with -again]")] = "",
) -> None:
    """Make one trial again from nothing, baseline included, and say whether its file is the same."""
    from trainables.storage import storage_path
    from tune_app.artifacts.reproduce import reproduce
    from tune_app.ledger.folder import ExperimentFolder

    found = reproduce(ExperimentFolder.existing(experiment), trial, storage_path(output) if output else None)
    if found.same_file:
        print(f"{found.artifact}: the same file, byte for byte")
        return
    old, new = found.first.metrics(), found.again.metrics()
    print(
        f"{found.artifact}: another file: accuracy {show_share(new['accuracy'])} (was {show_share(old['accuracy'])}), "
        f"{new['size_bytes']:,.0f} bytes (was {old['size_bytes']:,.0f})"
    )
    if found.changed:
        print(f"changed since: {'; '.join(found.changed)}")


def _print_latency(report: "LatencyReport") -> None:
    """Prints a row for each network and batch size, and what they were measured on."""
    from tune_app.artifacts.latency import REFERENCE

    machine = report.machine
    heads = ("network", "batch", "onnx_size_bytes", "min ms", "median ms", "p90 ms", "speedup")
    rows = []
    for row in report.rows:
        times = (f"{t:.3f}" for t in (row.min_ms, row.median_ms, row.p90_ms))
        rows.append((row.name, str(row.batch), f"{row.onnx_size_bytes:,}", *times, show_ratio(row.speedup)))
    print_table(heads, rows, left=("network",))
    print(
        f"{report.rows[0].runs} runs each, by turns, after {report.warmup} of warm-up; one thread of {machine.cpu} "
        f"({' '.join(machine.flags)}), load {machine.load_before:.2f} to {machine.load_after:.2f}, "
        f"onnxruntime {machine.onnxruntime}\n"
        f"speedup: smallest latency of {REFERENCE} / of the row. Do not compare figures of two calls."
    )
