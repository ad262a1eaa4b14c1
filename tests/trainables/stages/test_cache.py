import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from upath import UPath

import trainables.stages.cache as cache_module
import trainables.stages.files as stage_files
import trainables.storage.objects as objects
from tests.stored import content, lines, tree
from tests.together import Together
from tests.trainables.factories import make_architecture
from trainables.config import QuantScheme
from trainables.errors import (
    CorruptFile,
    Diverged,
    InfeasiblePoint,
    NotFinite,
    StorageUnavailable,
    TrialFailure,
    WorkerLost,
)
from trainables.stages.cache import StageCache
from trainables.stages.files import read_stage
from trainables.stages.markers import stage_states
from trainables.stages.saved_epochs import SavedEpoch, SavedEpochs
from trainables.stages.stage import StageResult
from trainables.storage import (
    DRAFT,
    Lock,
    StoragePath,
    append_line,
    exists,
    names,
    read_bytes,
    remove,
    remove_folder,
    replace,
    storage_path,
    subfolders,
)

KEY = "ab" * 32
ROOT = Path(__file__).parents[3]


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

    def __call__(self, saved_epochs: SavedEpochs) -> StageResult:
        self.runs += 1
        saved_epochs.save(SavedEpoch({"a": torch.zeros(1)}, [{"epoch": 1}]))
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def fresh(folder: StoragePath) -> StageCache:
    """The cache as a new process finds it."""
    read_stage.cache_clear()
    return StageCache(folder, poll_s=0.01)


def events(folder: StoragePath) -> list[str]:
    return [line["event"] for line in lines(folder / "log.jsonl")]


def same(a: StageResult, b: StageResult) -> bool:
    tensors = all(torch.equal(a.state[n], b.state[n]) for n in {*a.state, *b.state})
    return tensors and all(
        getattr(a, n) == getattr(b, n) for n in ("architecture", "scheme", "metrics", "history", "plan")
    )


def test_a_stage_runs_once(storage: StoragePath) -> None:
    work = Work()
    made, cost = fresh(storage).get_or_run(KEY, "train", work)
    assert same(made, result())
    assert (cost.kind, cost.key, cost.cached) == ("train", KEY, False)
    for cache in (StageCache(storage), fresh(storage)):
        found, cost = cache.get_or_run(KEY, "train", work)
        assert same(found, result())
        assert cost.cached
    assert work.runs == 1
    assert events(storage) == ["start", "finish"]


def test_other_keys_are_other_stages(storage: StoragePath) -> None:
    work = Work()
    for key in ("1" * 64, "2" * 64):
        fresh(storage).get_or_run(key, "train", work)
    assert work.runs == 2


def test_a_finished_stage_leaves_no_progress_and_a_free_lock(storage: StoragePath) -> None:
    fresh(storage).get_or_run(KEY, "train", Work())
    assert not exists(storage / "progress" / KEY)
    assert names(storage / KEY, "*") == ["stage.json", "weights.safetensors"]
    assert set(subfolders(storage)) <= {KEY, "locks", "log", "progress"}


@pytest.mark.parametrize("error", [Diverged("loss is nan"), InfeasiblePoint("no channel")])
def test_a_failure_that_would_come_again_is_remembered(error: TrialFailure, storage: StoragePath) -> None:
    work = Work(error)
    for _ in range(2):
        with pytest.raises(type(error), match=str(error)):
            fresh(storage).get_or_run(KEY, "train", work)
    assert work.runs == 1
    assert not exists(storage / "progress" / KEY)
    assert events(storage) == ["start", "fail"]


def test_the_failure_of_a_plug_in_is_remembered_under_its_own_name(storage: StoragePath) -> None:
    class Exploded(Diverged):
        """An error that the error tree does not know."""

    work, seen = Work(Exploded("loss is huge")), list[tuple[str, str, str, bool]]()
    for _ in range(2):
        with pytest.raises(TrialFailure) as caught:
            fresh(storage).get_or_run(KEY, "train", work)
        seen.append((type(caught.value).__name__, caught.value.state, str(caught.value), caught.value.remembered))
    assert work.runs == 1
    assert seen == [("Exploded", "invalid", "loss is huge", again) for again in (False, True)]
    assert fresh(storage).damage(KEY) == ""


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({"metrics": {"val_accuracy": 0.5, "kl": float("nan")}}, "kl is nan"),
        ({"history": [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": float("-inf")}]}, "loss of row 2 is -inf"),
    ],
)
def test_a_number_that_is_none_is_named_and_remembered(where: dict[str, Any], says: str, storage: StoragePath) -> None:
    work = Work(dataclasses.replace(result(), **where))
    for _ in range(2):
        with pytest.raises(NotFinite, match=f"^{says}; what a stage measures must be finite numbers$"):
            fresh(storage).get_or_run(KEY, "train", work)
    assert work.runs == 1
    assert events(storage) == ["start", "fail"]


@pytest.mark.parametrize("error", [WorkerLost("gone"), RuntimeError("a bug"), StorageUnavailable("full")])
def test_other_failures_are_forgotten_and_progress_stays(error: Exception, storage: StoragePath) -> None:
    with pytest.raises(type(error)):
        fresh(storage).get_or_run(KEY, "train", Work(error))
    assert SavedEpochs(storage / "progress" / KEY).load() is not None
    work = Work()
    assert same(fresh(storage).get_or_run(KEY, "train", work)[0], result())
    assert work.runs == 1


def damage(content: bytes) -> list[bytes]:
    flips = [content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :] for i in range(0, len(content), 11)]
    return [*(content[:n] for n in range(0, len(content) - 1, 37)), *flips]


def says(content: bytes) -> object:
    """The value of a JSON file, or its bytes where it is none."""
    try:
        return json.loads(content)
    except ValueError:
        return content


@pytest.mark.parametrize("name", ["weights.safetensors", "stage.json"])
def test_no_damage_passes(name: str, tmp_path: Path) -> None:
    fresh(tmp_path).get_or_run(KEY, "train", Work())
    intact = (tmp_path / KEY / name).read_bytes()
    for damaged in damage(intact):
        if name == "stage.json" and says(damaged) == says(intact):
            continue  # the last digit of a float, of which two may name the same number
        (tmp_path / KEY / name).write_bytes(damaged)
        with pytest.raises(CorruptFile):
            read_stage.__wrapped__(tmp_path / KEY)


@pytest.mark.parametrize("name", ["weights.safetensors", "stage.json"])
def test_a_damaged_stage_is_made_again_and_kept_aside(name: str, storage: StoragePath) -> None:
    fresh(storage).get_or_run(KEY, "train", Work())
    intact = read_bytes(storage / KEY / name)
    kinds = [b"", intact[:-2], damage(intact)[-1]]
    for damaged in kinds:
        replace(storage / KEY / name, damaged)
        work = Work()
        assert same(fresh(storage).get_or_run(KEY, "train", work)[0], result())
        assert work.runs == 1
        newest = max(subfolders(storage / "quarantine"))
        assert read_bytes(storage / "quarantine" / newest / name) == damaged
    assert len(subfolders(storage / "quarantine")) == len(kinds)


@pytest.mark.parametrize("content", [b"[]", b"{}", b"3", b'{"sha256": "0"}', b"null"])
@pytest.mark.parametrize("name", ["failure.json", "stage.json"])
def test_a_foreign_description_is_damage(name: str, content: bytes, storage: StoragePath) -> None:
    fresh(storage).get_or_run(KEY, "train", Work())
    replace(storage / KEY / name, content)
    work = Work()
    fresh(storage).get_or_run(KEY, "train", work)
    assert work.runs == 1


def test_a_damaged_memory_of_a_failure_is_damage(tmp_path: Path) -> None:
    with pytest.raises(Diverged):
        fresh(tmp_path).get_or_run(KEY, "train", Work(Diverged("loss is nan")))
    path = tmp_path / KEY / "failure.json"
    content = path.read_bytes()
    for damaged in damage(content):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFile):
            read_stage.__wrapped__(tmp_path / KEY)
    path.write_bytes(content)
    with pytest.raises(Diverged):
        fresh(tmp_path).get_or_run(KEY, "train", Work())


@pytest.mark.parametrize("name", ["weights.safetensors", "stage.json"])
def test_a_stage_with_a_missing_file_is_made_again(name: str, storage: StoragePath) -> None:
    fresh(storage).get_or_run(KEY, "train", Work())
    remove(storage / KEY / name)
    work = Work()
    fresh(storage).get_or_run(KEY, "train", work)
    assert work.runs == 1


def test_another_worker_may_put_the_damage_aside_first(storage: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh(storage).get_or_run(KEY, "train", Work())

    def gone(folder: StoragePath) -> StageResult:
        remove_folder(folder, markers=["stage.json"])
        raise CorruptFile("damaged")

    gone.cache_clear = lambda: None
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "read_stage", gone)
        assert fresh(storage)._find(KEY, clear=True) is None


def test_damage_is_put_aside_by_who_holds_the_lock_alone(storage: StoragePath) -> None:
    fresh(storage).get_or_run(KEY, "train", Work())
    replace(storage / KEY / "stage.json", b"{}")
    before = content(storage / KEY)
    assert fresh(storage)._find(KEY) is None
    assert content(storage / KEY) == before


def test_a_draft_of_a_folder_is_not_a_stage(tmp_path: Path) -> None:
    fresh(tmp_path).get_or_run(KEY, "train", Work())
    (tmp_path / KEY).rename(tmp_path / ".draft-0123")
    work = Work()
    fresh(tmp_path).get_or_run(KEY, "train", work)
    assert work.runs == 1


class Killed(BaseException):
    """The process ends here."""


def test_a_stage_whose_upload_was_cut_off_is_made_by_the_next_who_needs_it(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, create = storage_path(bucket), objects.create_once

    def killed(path: UPath, content: bytes) -> bool:
        if path.name == "stage.json":
            raise Killed
        return create(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(objects, "create_once", killed)
        with pytest.raises(Killed):
            fresh(root).get_or_run(KEY, "train", Work(result(2.0)))
    assert names(root / KEY, "*") == ["weights.safetensors"]
    assert fresh(root).entries() == []
    work = Work()
    assert same(fresh(root).get_or_run(KEY, "train", work)[0], result())
    assert work.runs == 1
    assert not exists(root / "quarantine")


def test_a_store_that_does_not_answer_is_no_damage(storage: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> bytes:
        raise StorageUnavailable("no answer")

    fresh(storage).get_or_run(KEY, "train", Work())
    before = tree(storage)
    with monkeypatch.context() as patch:
        patch.setattr(stage_files, "read_bytes", fails)
        with pytest.raises(StorageUnavailable):
            fresh(storage).get_or_run(KEY, "train", Work())
    assert tree(storage) == before


def test_an_unwritable_folder_is_storage_unavailable() -> None:
    with pytest.raises(StorageUnavailable):
        fresh(Path("/proc/here")).get_or_run(KEY, "train", Work())


def test_entries_tell_what_is_there_without_reading_weights(
    storage: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = fresh(storage)
    with pytest.raises(Diverged):
        cache.get_or_run("1" * 64, "qat", Work(Diverged("loss is nan")))
    before = time.time()
    cache.get_or_run(KEY, "train", Work())
    monkeypatch.setattr(stage_files, "load", pytest.fail)
    failure, stage = cache.entries()
    assert (failure.key, failure.kind, failure.failed, failure.seconds) == ("1" * 64, "qat", True, 0.0)
    assert (stage.key, stage.kind, stage.failed) == (KEY, "train", False)
    assert stage.seconds == json.loads(read_bytes(storage / KEY / "stage.json"))["seconds"] > 0
    assert stage.size_bytes == sum(map(len, content(storage / KEY).values()))
    assert before - 2 < stage.modified < time.time() + 2


def publish_draft(folder: StoragePath) -> None:
    """A folder as a writer that was killed leaves it."""
    for name, found in content(folder / KEY).items():
        replace(folder / f"{DRAFT}0123" / name, found)


def test_only_finished_stages_are_entries(storage: StoragePath) -> None:
    cache = fresh(storage)
    assert StageCache(storage / "none").entries() == []
    for key in (KEY, "1" * 64, "2" * 64):
        cache.get_or_run(key, "train", Work())
    with pytest.raises(RuntimeError):
        cache.get_or_run("3" * 64, "train", Work(RuntimeError("a bug")))
    remove(storage / ("1" * 64) / "stage.json")
    replace(storage / ("2" * 64) / "stage.json", b"{}")
    publish_draft(storage)
    assert set(subfolders(storage)) > {"locks", "progress"}
    assert [entry.key for entry in cache.entries()] == [KEY]


def test_an_older_memory_of_a_failure_is_an_entry_of_no_known_kind(storage: StoragePath) -> None:
    with pytest.raises(Diverged):
        fresh(storage).get_or_run(KEY, "qat", Work(Diverged("loss is nan")))
    path = storage / KEY / "failure.json"
    about = json.loads(read_bytes(path))
    del about["stage"], about["sha256"]
    replace(path, stage_files.sealed_mapping(about))
    [entry] = fresh(storage).entries()
    assert (entry.kind, entry.failed) == ("unknown", True)


def test_a_removed_stage_is_forgotten_and_made_again(storage: StoragePath) -> None:
    cache = fresh(storage)
    cache.get_or_run(KEY, "train", Work())
    cache.remove(KEY)
    assert cache.entries() == []
    assert set(subfolders(storage)) <= {"locks", "log", "progress"}
    made, cost = cache.get_or_run(KEY, "train", Work(result(2.0)))
    assert not cost.cached
    assert same(made, result(2.0))  # not what this process remembers
    cache.remove("1" * 64)


def test_a_stage_that_cannot_be_removed_is_storage_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageUnavailable, match="cannot remove"):
        StageCache(tmp_path / "file").remove(KEY)


def test_checkpoints_of_finished_stages_are_swept_and_others_stay(storage: StoragePath) -> None:
    cache, other = fresh(storage), "1" * 64
    cache.sweep(older_than_s=0)
    cache.get_or_run(KEY, "train", Work())
    with pytest.raises(Diverged):
        cache.get_or_run("2" * 64, "train", Work(Diverged("loss is nan")))
    for key in (KEY, other, "2" * 64):  # killed between the publication and the end
        SavedEpochs(storage / "progress" / key).phase(1).save(SavedEpoch({"a": torch.zeros(1)}, [{"epoch": 1}]))
    cache.sweep(older_than_s=0)
    assert subfolders(storage / "progress") == [other]
    assert SavedEpochs(storage / "progress" / other).phase(1).load() is not None
    assert same(fresh(storage).get_or_run(KEY, "train", Work())[0], result())


@pytest.mark.parametrize("left", [{"weights.safetensors": b"1"}, {"stage.json": b"{"}])
def test_checkpoints_of_a_stage_that_was_copied_in_part_stay(left: dict[str, bytes], storage: StoragePath) -> None:
    epochs = SavedEpochs(storage / "progress" / KEY)
    epochs.save(SavedEpoch({"a": torch.zeros(1)}, [{"epoch": 1}]))
    for name, half in left.items():
        replace(storage / KEY / name, half)
    StageCache(storage).sweep(older_than_s=60)
    assert epochs.load() is not None


def test_uploads_that_were_cut_off_long_ago_are_swept(storage: StoragePath) -> None:
    cache, cut = fresh(storage), "1" * 64
    cache.get_or_run(KEY, "train", Work())
    replace(storage / cut / "weights.safetensors", b"half")
    replace(storage / "quarantine" / "x" / "weights.safetensors", b"old")
    before = tree(storage)
    cache.sweep(older_than_s=3_600)
    assert tree(storage) == before
    cache.sweep(older_than_s=-3_600)
    assert before.keys() - tree(storage).keys() == {f"{cut}/weights.safetensors"}


def test_a_sign_changes_with_every_epoch_and_with_the_end(storage: StoragePath) -> None:
    other, saved_epochs = "1" * 64, SavedEpochs(storage / "progress" / KEY)
    seen = [stage_states(storage, [KEY, other])]
    for place in (saved_epochs, saved_epochs, saved_epochs.phase(1)):
        place.save(SavedEpoch({"a": torch.zeros(1)}, [{"epoch": 1}] * len(seen)))
        seen.append(stage_states(storage, [KEY, other, KEY]))
    fresh(storage).get_or_run(KEY, "train", Work())
    seen.append(stage_states(storage, [KEY, other]))
    assert len({signs[KEY] for signs in seen}) == len(seen) == 5
    assert len({signs[other] for signs in seen}) == 1


def test_a_waiter_looks_less_often_where_a_look_is_a_request(
    storage: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, slept = Lock(storage / "locks" / KEY), []
    assert other.try_acquire()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        other.release()

    clock = SimpleNamespace(sleep=sleep, perf_counter=time.perf_counter, time=time.time, time_ns=time.time_ns)
    monkeypatch.setattr(cache_module, "time", clock)
    fresh(storage).get_or_run(KEY, "train", Work())
    assert slept == [0.01 if isinstance(storage, Path) else 0.05]


def work_for_a_while(path: StoragePath) -> Callable[[SavedEpochs], StageResult]:
    def run(saved_epochs: SavedEpochs) -> StageResult:
        append_line(path / "runs.jsonl", {})
        time.sleep(0.3)
        return result()

    return run


def ask(folder: str, me: int, barrier: Any) -> bool:
    """Wants the stage at the same moment as others; returns whether it was cached."""
    root = storage_path(folder)
    made, cost = StageCache(root, poll_s=0.02).get_or_run(KEY, "train", work_for_a_while(root))
    assert same(made, result())
    return cost.cached


def test_who_was_taken_over_and_came_second_says_so(storage: StoragePath) -> None:
    cache = StageCache(storage)

    def slow(_epochs: SavedEpochs) -> StageResult:
        cache._run("k", "ptq", lambda _: result())  # another worker, which took the lock over
        return result()

    cache._run("k", "ptq", slow)
    assert events(storage) == ["start", "start", "finish", "lost"]


def test_a_stage_that_several_processes_need_runs_once(storage: StoragePath, together: Together) -> None:
    cached = together(ask, str(storage), count=2)
    assert sorted(cached) == [False, True]
    assert len(lines(storage / "runs.jsonl")) == 1
    assert events(storage) == ["start", "finish"]


HOLDER = """
import sys, time
from trainables.storage import Lock, storage_path
assert Lock(storage_path(sys.argv[1])).try_acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_the_work_of_a_killed_process_is_done_by_one_that_waits(storage: StoragePath) -> None:
    command = [sys.executable, "-c", HOLDER, str(storage / "locks" / KEY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        waited: list[float] = []

        class Impatient(StageCache):
            def _find(self, key: str, *, clear: bool = False) -> StageResult | None:
                waited.append(time.monotonic())
                if len(waited) == 3:
                    process.kill()
                return super()._find(key, clear=clear)

        read_stage.cache_clear()
        work = Work()
        made, cost = Impatient(storage, poll_s=0.01).get_or_run(KEY, "train", work)
    assert len(waited) > 3
    assert (work.runs, cost.cached) == (1, False)
    assert same(made, result())
