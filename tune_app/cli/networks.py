"""The commands of the panel "Networks" that write, time or make networks: export, latency, reproduce."""

from typing import TYPE_CHECKING, Annotated

import typer

from tune_app.cli.options import NETWORKS, Experiment, Json, Trial, argument
from tune_app.terminal.quantities import show_share
from tune_app.terminal.table import print_table

if TYPE_CHECKING:
    from trainables.export.latency import LatencyReport

app = typer.Typer()


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
        accuracy = f"accuracy {100 * found.accuracy:.2f} % on the validation split"
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
        rows.append((row.name, str(row.batch), f"{row.onnx_size_bytes:,}", *times, f"{row.speedup:.2f}x"))
    print_table(heads, rows, left=("network",))
    print(
        f"{report.rows[0].runs} runs each, by turns, after {report.warmup} of warm-up; one thread of {machine.cpu} "
        f"({' '.join(machine.flags)}), load {machine.load_before:.2f} to {machine.load_after:.2f}, "
        f"onnxruntime {machine.onnxruntime}\n"
        f"speedup: smallest latency of {REFERENCE} / of the row. Do not compare figures of two calls."
    )
