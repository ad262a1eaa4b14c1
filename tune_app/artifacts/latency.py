"""Latency of trials beside the baseline of their experiment, measured by turns in one call."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tune_app.ledger.baseline import require_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.reading import find_trial, read_records, verified_artifact
from tune_app.terminal.progress import counting, track
from tune_app.terminal.table import print_table

if TYPE_CHECKING:
    from trainables.export.latency import LatencyReport

REFERENCE = "baseline fp32"


def measure_trials(
    folder: ExperimentFolder, names: Sequence[str], *, batches: Sequence[int], runs: int, warmup: int
) -> "LatencyReport":
    """Latencies of the baseline, which is the reference, and of trials by label or id.

    Raises:
        ConfigError: a name fits no complete trial, or there is no baseline.
        CorruptFile: an artifact or the baseline is not what was written.
    """
    from trainables.export.latency import measure_latency
    from trainables.export.onnx_graph import write_onnx

    known = read_records(folder)
    records = [find_trial(folder, name, known) for name in names]
    packed = {record.assignment.label: verified_artifact(record, folder) for record in records}
    files = {REFERENCE: baseline_onnx(folder, next(iter(packed.values())))}
    for label, content in track(packed.items(), "writing ONNX files", total=len(packed)):
        files[label] = write_onnx(content)
    # A batch takes as long as its images: counted in runs, the time left would jump from one size to the next.
    images = (warmup + runs) * sum(batches) * len(files)
    with counting(f"timing {len(files)} networks, images", total=images) as advance:
        return measure_latency(files, batches=batches, runs=runs, warmup=warmup, advance=advance)


def baseline_onnx(folder: ExperimentFolder, packed: bytes) -> bytes:
    """The baseline as a float ONNX file, batch norm folded; a trial's packed file says how images are normalized."""
    from trainables.export.onnx_graph import write_float_onnx
    from trainables.export.packed import unpack
    from trainables.stages.files import read_stage

    baseline = require_baseline(folder)
    stage, header = read_stage(folder.stages / baseline.key), unpack(packed).header
    return write_float_onnx(stage.model(), stage.architecture, mean=header.mean, std=header.std)


def print_latency(report: "LatencyReport", *, json: bool) -> None:
    """A table for people, or JSON alone."""
    if json:
        print(report.model_dump_json(indent=1))
        return
    machine = report.machine
    heads = ("network", "batch", "onnx_size_bytes", "min ms", "median ms", "p90 ms", "speedup")
    rows = [
        (
            row.name,
            str(row.batch),
            f"{row.onnx_size_bytes:,}",
            *(f"{t:.3f}" for t in (row.min_ms, row.median_ms, row.p90_ms)),
            f"{row.speedup:.2f}x",
        )
        for row in report.rows
    ]
    print_table(heads, rows, left=("network",))
    print(
        f"{report.rows[0].runs} runs each, by turns, after {report.warmup} of warm-up; one thread of {machine.cpu} "
        f"({' '.join(machine.flags)}), load {machine.load_before:.2f} to {machine.load_after:.2f}, "
        f"onnxruntime {machine.onnxruntime}\n"
        f"speedup: smallest latency of {REFERENCE} / of the row. Do not compare figures of two calls."
    )
