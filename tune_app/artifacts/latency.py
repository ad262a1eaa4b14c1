"""Latency of trials beside the baseline of their experiment, measured by turns in one call."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tune_app.ledger.baseline import require_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.reading import find_trial, read_records, verified_artifact
from tune_app.terminal.progress import counting, track

if TYPE_CHECKING:
    from trainables.export.onnx.latency import LatencyReport

REFERENCE = "baseline fp32"
"""What the report calls the baseline, against which every speedup is measured."""


def measure_trials(
    folder: ExperimentFolder, names: Sequence[str], *, batches: Sequence[int], runs: int, warmup: int
) -> "LatencyReport":
    """Measures the latencies of the baseline, which is the reference, and of trials by label or id.

    Raises:
        ConfigError: a name fits no complete trial, or there is no baseline.
        CorruptFile: an artifact or the baseline is not what was written.
    """
    from trainables.export.onnx.graph import write_onnx
    from trainables.export.onnx.latency import measure_latency

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
    """Returns the baseline as a float ONNX file, batch norm folded.

    `packed` is the packed file of any trial: it says how images are normalized.
    """
    from trainables.export.onnx.graph import write_float_onnx
    from trainables.export.packed import unpack
    from trainables.stages.files import read_stage

    stage, header = read_stage(folder.stages / require_baseline(folder).key), unpack(packed).header
    return write_float_onnx(stage.model(), stage.architecture, mean=header.mean, std=header.std)
