"""Latency of ONNX files in onnxruntime, by one protocol: files take turns, on one thread, in one process.

A shared or throttled machine changes its speed within minutes. Files that take turns meet the same conditions, so
that their figures can be compared with each other, but not with those of another call.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnxruntime as ort
from pydantic import Field

from trainables.config import Frozen
from trainables.errors import ConfigError
from trainables.export.onnx.check import onnx_logits, open_session
from trainables.export.onnx.processor import processor_flags, processor_name

RUNS, WARMUP, BATCHES = 200, 20, (1, 64)
"""Runs that are timed, runs before them, and images of a batch: one image as a device sees it, and 64, which fill the
processor. More runs: a smallest time that other programs disturbed less; fewer: an answer sooner."""


class Latency(Frozen):
    """Times of one file at one batch size, in milliseconds for the whole batch."""

    name: str
    batch: int
    runs: int
    onnx_size_bytes: int = Field(description="size of the ONNX file that ran; model.mbq has another")
    min_ms: float
    median_ms: float
    p90_ms: float
    speedup: float = Field(description="smallest latency of the first file / of this one: noise only ever adds time")


class Machine(Frozen):
    """A machine on which latencies were measured."""

    cpu: str
    flags: tuple[str, ...] = Field(description="features of the processor that decide which integer kernels run")
    load_before: float = Field(description="load average over one minute")
    load_after: float
    onnxruntime: str


class LatencyReport(Frozen):
    """A measurement of several files, in rows by batch size, then in the order of the files."""

    machine: Machine
    warmup: int = Field(description="runs of each file and batch size that were not timed")
    rows: tuple[Latency, ...]


def measure_latency(
    files: Mapping[str, bytes],
    *,
    batches: Sequence[int] = BATCHES,
    runs: int = RUNS,
    warmup: int = WARMUP,
    advance: Callable[[int], None] = lambda count: None,
) -> LatencyReport:
    """Runs all files by turns on the same random images; the first one is the reference of `speedup`.

    Between two turns `advance` is told of the images that went through, all files together.

    Raises:
        ConfigError: there is no file, or a number is below 1.
        ArtifactMismatch: onnxruntime refuses a file.
    """
    if not files or not batches or min(runs, warmup, *batches) < 1:
        raise ConfigError(
            f"at least one file, run, warm-up run and image are needed, but got {len(files)} files, {runs} runs, "
            f"{warmup} warm-up runs and batches of {list(batches)}: raise what is below 1."
        )
    load_before = os.getloadavg()[0]
    sessions = {name: open_session(content) for name, content in files.items()}
    rows = []
    for batch in batches:
        seconds = _timed(sessions, batch, runs, warmup, advance)
        reference = min(next(iter(seconds.values())))
        rows += [_row(name, batch, seconds[name], len(content), reference) for name, content in files.items()]
    loads = {"load_before": load_before, "load_after": os.getloadavg()[0]}
    machine = Machine(cpu=processor_name(), flags=processor_flags(), onnxruntime=ort.__version__, **loads)
    return LatencyReport(machine=machine, warmup=warmup, rows=tuple(rows))


def _timed(
    sessions: Mapping[str, ort.InferenceSession], batch: int, runs: int, warmup: int, advance: Callable[[int], None]
) -> dict[str, list[float]]:
    """Returns the seconds of each run; one run of every file, then the next of every file."""
    shapes = {name: (batch, *session.get_inputs()[0].shape[1:]) for name, session in sessions.items()}
    pixels = {name: np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}
    seconds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(warmup + runs):
        for name, session in sessions.items():
            started = time.perf_counter()
            onnx_logits(session, pixels[name])
            seconds[name].append(time.perf_counter() - started)
        advance(batch * len(sessions))
    return {name: times[warmup:] for name, times in seconds.items()}


def _row(name: str, batch: int, seconds: Sequence[float], size_bytes: int, reference: float) -> Latency:
    """Returns the times of one file, beside the smallest time of the first file."""
    least, (median, p90) = min(seconds), np.percentile(seconds, [50, 90])
    times = {"min_ms": 1e3 * least, "median_ms": 1e3 * float(median), "p90_ms": 1e3 * float(p90)}
    times["speedup"] = reference / least
    return Latency(name=name, batch=batch, runs=len(seconds), onnx_size_bytes=size_bytes, **times)
