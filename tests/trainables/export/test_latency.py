import itertools

import numpy as np
import pytest

from tests.trainables.factories import make_architecture, make_model
from trainables.errors import ArtifactMismatch, ConfigError
from trainables.export.onnx import latency
from trainables.export.onnx.graph import write_float_onnx
from trainables.export.onnx.latency import LatencyReport, measure_latency
from trainables.export.onnx.processor import FLAGS


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {
        name: write_float_onnx(make_model(name), make_architecture(name), mean=(0.5,), std=(0.3,)) for name in NAMES
    }


NAMES = ("mobilenet_v2", "vgg16")


class Laboratory:
    """Networks that take a known time, on a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[str, list[float]]) -> None:
        self.now, self.calls = 0.0, list[tuple[str, int]]()
        self._seconds = {name: itertools.cycle(times) for name, times in seconds.items()}
        monkeypatch.setattr(latency, "open_session", lambda content: Session(content.decode()))
        monkeypatch.setattr(latency, "onnx_logits", self.run)
        monkeypatch.setattr(latency.time, "perf_counter", lambda: self.now)
        self.files = {name: name.encode() for name in seconds}

    def run(self, session: "Session", pixels: np.ndarray) -> None:
        self.calls.append((session.name, len(pixels)))
        self.now += next(self._seconds[session.name])


class Session:
    """What `measure_latency` asks of a session."""

    shape = ("N", 1, 8, 8)

    def __init__(self, name: str) -> None:
        self.name = name

    def get_inputs(self) -> list["Session"]:
        return [self]


def test_files_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    laboratory = Laboratory(monkeypatch, {"a": [1.0], "b": [1.0], "c": [1.0]})
    measure_latency(laboratory.files, batches=(1, 4), runs=3, warmup=2)
    assert laboratory.calls == [(name, batch) for batch in (1, 4) for _ in range(5) for name in "abc"]


def test_figures_are_of_the_timed_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [float(t) for t in (9, 9, 5, 1, 2, 4, 3)]  # the first two are warm-up
    laboratory = Laboratory(monkeypatch, {"reference": [4.0], "x": times})
    reference, x = measure_latency(laboratory.files, batches=(1,), runs=5, warmup=2).rows
    assert (x.name, x.batch, x.runs, x.onnx_size_bytes) == ("x", 1, 5, 1)
    assert (x.min_ms, x.median_ms) == (1000.0, 3000.0)
    assert x.p90_ms == pytest.approx(4600.0)
    assert (reference.speedup, x.speedup) == (1.0, 4.0)


@pytest.fixture(scope="module")
def report(files: dict[str, bytes]) -> LatencyReport:
    return measure_latency(files, batches=(2, 1), runs=3, warmup=1)


def test_real_files_have_real_latencies(report: LatencyReport, files: dict[str, bytes]) -> None:
    assert [(row.batch, row.name) for row in report.rows] == [(b, name) for b in (2, 1) for name in NAMES]
    for row in report.rows:
        assert 0 < row.min_ms <= row.median_ms <= row.p90_ms
        assert row.onnx_size_bytes == len(files[row.name])
    assert [row.speedup for row in report.rows if row.name == NAMES[0]] == [1.0, 1.0]
    assert report.warmup == 1


def test_the_machine_is_described(report: LatencyReport) -> None:
    machine = report.machine
    assert machine.cpu
    assert machine.load_before >= 0
    assert machine.load_after >= 0
    assert machine.onnxruntime.count(".") >= 2
    assert set(machine.flags) <= set(FLAGS)
    assert LatencyReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize("wrong", [{"runs": 0}, {"warmup": 0}, {"batches": (1, 0)}, {"batches": ()}, {"files": {}}])
def test_nothing_to_measure_is_refused(wrong: dict[str, object], files: dict[str, bytes]) -> None:
    arguments = {"files": files, "batches": (1,), "runs": 1, "warmup": 1, **wrong}
    with pytest.raises(ConfigError, match="at least one"):
        measure_latency(**arguments)  # type: ignore[arg-type]


def test_a_file_that_is_none_is_refused() -> None:
    with pytest.raises(ArtifactMismatch, match="onnxruntime refuses"):
        measure_latency({"x": b"no file"}, batches=(1,), runs=1, warmup=1)
