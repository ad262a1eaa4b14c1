import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import trainables.cache as cache_module
from tests.trainables.factories import make_architecture
from trainables.cache import StageCache
from trainables.config import QuantScheme
from trainables.errors import (
    CorruptFile,
    Diverged,
    InfeasiblePoint,
    StorageUnavailable,
    TrialFailure,
    WorkerLost,
)
from trainables.progress import Progress, SavedEpoch
from trainables.stage import StageResult
from trainables.storage import append_line

KEY = "ab" * 32
ROOT = Path(__file__).parents[2]


def result(value: float = 1.0) -> StageResult:
    return StageResult(
        architecture=make_architecture(widths={"blocks.1": 3}),
        scheme=QuantScheme(w_bits=3),
        state={"a": torch.full((50,), value), "b": torch.tensor(7)},
        metrics={"val_accuracy": 0.1 + 0.2},
        history=[{"epoch": 1, "loss": 1 / 3}],
        plan={"blocks.1": [0, 4, 5]},
    )


class Work:
    """A stage that counts how often it runs."""

    def __init__(self, outcome: StageResult | Exception | None = None) -> None:
        self.runs = 0
        self._outcome = outcome or result()

    def __call__(self, progress: Progress) -> StageResult:
        self.runs += 1
        progress.save(SavedEpoch({"a": torch.zeros(1)}, [{"epoch": 1}]))
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def fresh(folder: Path) -> StageCache:
    """The cache as a new process finds it."""
    cache_module.read_stage.cache_clear()
    return StageCache(folder, poll_s=0.01)


def events(folder: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (folder / "log.jsonl").read_text().splitlines()]


def same(a: StageResult, b: StageResult) -> bool:
    tensors = all(torch.equal(a.state[n], b.state[n]) for n in {*a.state, *b.state})
    return tensors and all(
        getattr(a, n) == getattr(b, n) for n in ("architecture", "scheme", "metrics", "history", "plan")
    )


def test_a_stage_runs_once(tmp_path: Path) -> None:
    work = Work()
    made, cost = fresh(tmp_path).get_or_run(KEY, "train", work)
    assert same(made, result())
    assert (cost.kind, cost.key, cost.cached) == ("train", KEY, False)
    for cache in (StageCache(tmp_path), fresh(tmp_path)):
        found, cost = cache.get_or_run(KEY, "train", work)
        assert same(found, result())
        assert cost.cached
    assert work.runs == 1
    assert events(tmp_path) == ["start", "finish"]


def test_other_keys_are_other_stages(tmp_path: Path) -> None:
    work = Work()
    for key in ("1" * 64, "2" * 64):
        fresh(tmp_path).get_or_run(key, "train", work)
    assert work.runs == 2


def test_a_finished_stage_leaves_no_progress_and_a_free_lock(tmp_path: Path) -> None:
    fresh(tmp_path).get_or_run(KEY, "train", Work())
    assert not (tmp_path / "progress" / KEY).exists()
    assert {p.name for p in tmp_path.iterdir()} == {KEY, "locks", "log.jsonl", "progress"}


@pytest.mark.parametrize("error", [Diverged("loss is nan"), InfeasiblePoint("no channel")])
def test_a_failure_that_would_come_again_is_remembered(error: TrialFailure, tmp_path: Path) -> None:
    work = Work(error)
    for _ in range(2):
        with pytest.raises(type(error), match=str(error)):
            fresh(tmp_path).get_or_run(KEY, "train", work)
    assert work.runs == 1
    assert not (tmp_path / "progress" / KEY).exists()
    assert events(tmp_path) == ["start", "fail"]


@pytest.mark.parametrize("error", [WorkerLost("gone"), RuntimeError("a bug"), StorageUnavailable("full")])
def test_other_failures_are_forgotten_and_progress_stays(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)):
        fresh(tmp_path).get_or_run(KEY, "train", Work(error))
    assert Progress(tmp_path / "progress" / KEY).load() is not None
    work = Work()
    assert same(fresh(tmp_path).get_or_run(KEY, "train", work)[0], result())
    assert work.runs == 1


def damage(content: bytes) -> list[bytes]:
    flips = [content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :] for i in range(0, len(content), 11)]
    return [*(content[:n] for n in range(0, len(content) - 1, 37)), *flips]


@pytest.mark.parametrize("name", ["weights.safetensors", "stage.json"])
def test_a_damaged_stage_is_made_again_and_kept_aside(name: str, tmp_path: Path) -> None:
    fresh(tmp_path).get_or_run(KEY, "train", Work())
    content = (tmp_path / KEY / name).read_bytes()
    for count, damaged in enumerate(damage(content)):
        (tmp_path / KEY / name).write_bytes(damaged)
        with pytest.raises(CorruptFile):
            cache_module.read_stage.__wrapped__(tmp_path / KEY)
        if count % 20:
            continue
        work = Work()
        assert same(fresh(tmp_path).get_or_run(KEY, "train", work)[0], result())
        assert work.runs == 1
        newest = max((tmp_path / "quarantine").iterdir())
        assert (newest / name).read_bytes() == damaged
    assert len(list((tmp_path / "quarantine").iterdir())) == -(-len(damage(content)) // 20)


@pytest.mark.parametrize("content", [b"[]", b"{}", b"3", b'{"sha256": "0"}', b"null"])
@pytest.mark.parametrize("name", ["failure.json", "stage.json"])
def test_a_foreign_description_is_damage(name: str, content: bytes, tmp_path: Path) -> None:
    fresh(tmp_path).get_or_run(KEY, "train", Work())
    (tmp_path / KEY / name).write_bytes(content)
    work = Work()
    fresh(tmp_path).get_or_run(KEY, "train", work)
    assert work.runs == 1


def test_a_damaged_memory_of_a_failure_is_damage(tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        fresh(tmp_path).get_or_run(KEY, "train", Work(Diverged("loss is nan")))
    path = tmp_path / KEY / "failure.json"
    content = path.read_bytes()
    for damaged in damage(content):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFile):
            cache_module.read_stage.__wrapped__(tmp_path / KEY)
    path.write_bytes(content)
    with pytest.raises(Diverged):
        fresh(tmp_path).get_or_run(KEY, "train", Work())


@pytest.mark.parametrize("name", ["weights.safetensors", "stage.json"])
def test_a_stage_with_a_missing_file_is_made_again(name: str, tmp_path: Path) -> None:
    fresh(tmp_path).get_or_run(KEY, "train", Work())
    (tmp_path / KEY / name).unlink()
    work = Work()
    fresh(tmp_path).get_or_run(KEY, "train", work)
    assert work.runs == 1


def test_another_worker_may_put_the_damage_aside_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh(tmp_path).get_or_run(KEY, "train", Work())

    def gone(folder: Path) -> StageResult:
        folder.rename(tmp_path / "taken")
        raise CorruptFile("damaged")

    gone.cache_clear = lambda: None
    cache = fresh(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "read_stage", gone)
        assert cache._find(KEY) is None


def test_an_unfinished_draft_is_not_a_stage(tmp_path: Path) -> None:
    fresh(tmp_path).get_or_run(KEY, "train", Work())
    (tmp_path / KEY).rename(tmp_path / ".draft-0123")
    work = Work()
    fresh(tmp_path).get_or_run(KEY, "train", work)
    assert work.runs == 1


def test_an_unwritable_folder_is_storage_unavailable() -> None:
    with pytest.raises(StorageUnavailable):
        fresh(Path("/proc/here")).get_or_run(KEY, "train", Work())


def test_entries_tell_what_is_there_without_reading_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = fresh(tmp_path)
    with pytest.raises(Diverged):
        cache.get_or_run("1" * 64, "qat", Work(Diverged("loss is nan")))
    before = time.time()
    cache.get_or_run(KEY, "train", Work())
    monkeypatch.setattr(cache_module, "load", pytest.fail)
    failure, stage = cache.entries()
    assert (failure.key, failure.kind, failure.failed, failure.seconds) == ("1" * 64, "qat", True, 0.0)
    assert (stage.key, stage.kind, stage.failed) == (KEY, "train", False)
    assert stage.seconds == json.loads((tmp_path / KEY / "stage.json").read_text())["seconds"] > 0
    assert stage.size_bytes == sum(len(path.read_bytes()) for path in (tmp_path / KEY).iterdir())
    assert before - 2 < stage.modified < time.time() + 2


def test_only_finished_stages_are_entries(tmp_path: Path) -> None:
    cache = fresh(tmp_path)
    assert StageCache(tmp_path / "none").entries() == []
    for key in (KEY, "1" * 64, "2" * 64):
        cache.get_or_run(key, "train", Work())
    with pytest.raises(RuntimeError):
        cache.get_or_run("3" * 64, "train", Work(RuntimeError("a bug")))
    (tmp_path / ("1" * 64)).rename(tmp_path / ".draft-0123")
    (tmp_path / ("2" * 64) / "stage.json").write_bytes(b"{}")
    assert {p.name for p in tmp_path.iterdir()} > {"locks", "progress", "log.jsonl"}
    assert [entry.key for entry in cache.entries()] == [KEY]


def test_an_older_memory_of_a_failure_is_an_entry_of_no_known_kind(tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        fresh(tmp_path).get_or_run(KEY, "qat", Work(Diverged("loss is nan")))
    path = tmp_path / KEY / "failure.json"
    content = json.loads(path.read_bytes())
    del content["stage"], content["sha256"]
    path.write_bytes(cache_module._sealed(content))
    [entry] = fresh(tmp_path).entries()
    assert (entry.kind, entry.failed) == ("unknown", True)


def test_a_removed_stage_is_forgotten_and_made_again(tmp_path: Path) -> None:
    cache = fresh(tmp_path)
    cache.get_or_run(KEY, "train", Work())
    cache.remove(KEY)
    assert cache.entries() == []
    assert {p.name for p in tmp_path.iterdir()} == {"locks", "log.jsonl", "progress"}
    made, cost = cache.get_or_run(KEY, "train", Work(result(2.0)))
    assert not cost.cached
    assert same(made, result(2.0))  # not what this process remembers
    cache.remove("1" * 64)


def test_a_stage_disappears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = fresh(tmp_path)
    cache.get_or_run(KEY, "train", Work())

    def killed(draft: Path, **_: object) -> None:
        assert {p.name for p in draft.iterdir()} == {"stage.json", "weights.safetensors"}
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            cache.remove(KEY)
    assert not (tmp_path / KEY).exists()
    assert cache.entries() == []


def test_a_stage_that_cannot_be_removed_is_storage_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnavailable, match="cannot remove"):
        StageCache(tmp_path / "file").remove(KEY)


def work_for_a_while(path: Path) -> Callable[[Progress], StageResult]:
    def run(progress: Progress) -> StageResult:
        append_line(path / "runs", {})
        time.sleep(0.3)
        return result()

    return run


def ask(folder: str, barrier: Any) -> bool:
    """Wants the stage at the same moment as others; returns whether it was cached."""
    barrier.wait()
    made, cost = StageCache(Path(folder), poll_s=0.02).get_or_run(KEY, "train", work_for_a_while(Path(folder)))
    assert same(made, result())
    return cost.cached


def test_a_stage_that_several_processes_need_runs_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, spawn.Pool(2) as pool:
        barrier = manager.Barrier(2)
        cached = pool.starmap(ask, [(str(tmp_path), barrier)] * 2)
    assert sorted(cached) == [False, True]
    assert len((tmp_path / "runs").read_text().splitlines()) == 1


HOLDER = """
import sys, time
from pathlib import Path
from trainables.storage import Lock
assert Lock(Path(sys.argv[1])).try_acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_the_work_of_a_killed_process_is_done_by_one_that_waits(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "locks" / KEY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        waited: list[float] = []

        class Impatient(StageCache):
            def _find(self, key: str) -> StageResult | None:
                waited.append(time.monotonic())
                if len(waited) == 3:
                    process.kill()
                return super()._find(key)

        cache_module.read_stage.cache_clear()
        work = Work()
        made, cost = Impatient(tmp_path, poll_s=0.01).get_or_run(KEY, "train", work)
    assert len(waited) > 3
    assert (work.runs, cost.cached) == (1, False)
    assert same(made, result())
