"""Room on the disk: what must stay stays, the rest goes in order, and a search goes on afterwards."""

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import trainables.storage.objects as objects
import trainables.storage.posix as posix
from tests.conftest import Result
from tests.specs import tiny_spec
from tests.stored import tree
from tests.trainables.factories import make_architecture
from tests.tune_app.factories import make_experiment, make_record, make_spec
from trainables.config import BaselineImport, digest, stage_keys
from trainables.data.data_sets import load_data
from trainables.errors import Diverged, StorageUnavailable
from trainables.results import StageRun
from trainables.stages.cache import StageCache
from trainables.stages.files import read_stage
from trainables.stages.stage import StageResult
from trainables.stages.workplace import open_workplace
from trainables.storage import DRAFT, StoragePath
from tune_app.engine.baseline import make_baseline
from tune_app.engine.trial import run_trial
from tune_app.errors import LeaseHeld
from tune_app.frontier.points import frontier_ids
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Ledger, TrialRecord
from tune_app.search.keys import config_key
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.retention import collect, survey

BASELINE = "0" * 64


def put(folder: ExperimentFolder, key: str, kind: str, *, age: int = 0, fails: bool = False) -> str:
    """A stage in the cache, so many seconds old."""
    outcome = StageResult(make_architecture(), None, {"a": torch.zeros(100)}, {})

    def run(_: object) -> StageResult:
        if fails:
            raise Diverged("loss is nan")
        return outcome

    try:
        StageCache(folder.stages).get_or_run(key, kind, run)
    except Diverged:
        assert fails
    AGES[key] = age
    if isinstance(folder.stages, Path):
        for path in (folder.stages / key).iterdir():
            os.utime(path, (1e9 - age, 1e9 - age))
    return key


AGES: dict[str, int] = {}


@pytest.fixture(autouse=True)
def dated_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store dates what is written itself."""
    AGES.clear()

    def modified(about: dict[str, Any]) -> float:
        return next((1e9 - age for key, age in AGES.items() if key in about["name"]), 0.0)

    monkeypatch.setattr(objects, "_modified", modified)


def left(folder: ExperimentFolder) -> set[str]:
    return {entry.key for entry in StageCache(folder.stages).entries()}


def size(folder: ExperimentFolder) -> int:
    return sum(entry.size_bytes for entry in StageCache(folder.stages).entries())


def point(number: int) -> dict[str, float | int | str]:
    return {"prune_frac": 0.3, "w_bits": [8, 4, 2][number], "a_bits": 8}


def chain(number: int, accuracy: float, size_bytes: int, pruned: str) -> TrialRecord:
    """A trial with a pruned parent; its last stage is named by its point."""
    record = make_record(number, point(number), accuracy, size_bytes)
    first, last = record.result.stages
    stages = [first, StageRun(kind="channel_prune", key=pruned, seconds=2.0, cached=False), last]
    return record.model_copy(update={"result": record.result.model_copy(update={"stages": stages})})


@pytest.fixture
def folder(storage: StoragePath) -> ExperimentFolder:
    """Trials 0 and 1 are on the frontier, 2 is dominated and has a parent of its own; a failure is remembered."""
    records = [chain(0, 0.9, 300, "a" * 64), chain(1, 0.8, 200, "a" * 64), chain(2, 0.7, 250, "b" * 64)]
    folder = make_experiment(storage, records)
    put(folder, BASELINE, "train", age=90)
    put(folder, "a" * 64, "channel_prune", age=80)
    put(folder, "b" * 64, "channel_prune", age=70)
    for number in range(3):
        put(folder, digest(point(number)), "ptq", age=60 - number)
    put(folder, "c" * 64, "ptq", age=99, fails=True)
    put(folder, "1" * 64, "qat", age=10)
    return folder


NEEDED = {BASELINE, "a" * 64, digest(point(0)), digest(point(1))}


def test_a_survey_counts_by_kind_and_says_what_is_needed(folder: ExperimentFolder) -> None:
    use = survey(folder)
    assert {kind: (row.stages, row.failures) for kind, row in use.kinds.items()} == {
        "channel_prune": (2, 0),
        "ptq": (4, 1),
        "qat": (1, 0),
        "train": (1, 0),
    }
    entries = StageCache(folder.stages).entries()
    assert use.total.size_bytes == size(folder) == sum(row.size_bytes for row in use.kinds.values())
    assert use.total.seconds == pytest.approx(sum(e.seconds for e in entries))
    assert (use.needed.stages, use.needed.failures) == (4, 0)
    assert use.needed.size_bytes == sum(e.size_bytes for e in entries if e.key in NEEDED)


def test_last_stages_go_first_then_parents_and_the_needed_stay(folder: ExperimentFolder) -> None:
    whole = left(folder)
    order = []
    while True:
        before = left(folder)
        collected = collect(folder, max_bytes=size(folder) - 1)
        gone = before - left(folder)
        assert {e.key for e in collected.removed} == gone
        if not gone:
            break
        order += gone
    assert order == [digest(point(2)), "1" * 64, "b" * 64]
    assert left(folder) == NEEDED | {"c" * 64} == whole - set(order)
    assert collected.kept_bytes == size(folder) > collected.max_bytes


def test_nothing_goes_that_need_not(folder: ExperimentFolder) -> None:
    whole, bound = left(folder), size(folder)
    assert collect(folder, max_bytes=bound).removed == []
    assert left(folder) == whole
    sizes = {e.key: e.size_bytes for e in StageCache(folder.stages).entries()}
    collected = collect(folder, max_bytes=bound - sizes[digest(point(2))])  # exactly one has to go
    assert collected.freed_bytes == sizes[digest(point(2))]
    assert collected.kept_bytes == size(folder) == collected.max_bytes


def test_a_dry_run_says_the_same_and_changes_nothing(folder: ExperimentFolder) -> None:
    files = tree(folder.path)
    dry = collect(folder, max_bytes=0, dry_run=True)
    assert tree(folder.path) == files
    assert collect(folder, max_bytes=0) == dry
    assert len(dry.removed) == 3


def test_a_live_driver_is_not_disturbed(folder: ExperimentFolder) -> None:
    whole = left(folder)
    with Lease(folder):
        with pytest.raises(LeaseHeld):
            collect(folder, max_bytes=0)
        assert len(collect(folder, max_bytes=0, dry_run=True).removed) == 3
    assert left(folder) == whole


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[ExperimentFolder, int], None]:
    """Fills a disk: nothing more is written below a folder while it holds more than so many bytes."""

    draft, most = posix._draft, dict[ExperimentFolder, int]()

    @contextlib.contextmanager
    def on_full_disk(path: Path, content: bytes, *, durable: bool) -> Iterator[Path]:
        if any(on_disk(folder) + len(content) > most_bytes for folder, most_bytes in most.items()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with draft(path, content, durable=durable) as made:
            yield made

    monkeypatch.setattr(posix, "_draft", on_full_disk)
    return most.__setitem__


Fill = Callable[[ExperimentFolder, int], None]


def on_disk(folder: ExperimentFolder) -> int:
    return sum(path.stat().st_size for path in Path(str(folder.path)).rglob("*") if path.is_file())


@pytest.mark.parametrize("storage", ["posix"], indirect=True)
def test_a_full_disk_is_made_room_on(folder: ExperimentFolder, full_disk: Fill) -> None:
    planned = collect(folder, max_bytes=0, dry_run=True)
    full_disk(folder, on_disk(folder) - planned.removed[0].size_bytes - 1)  # two have to go before anything is written
    with pytest.raises(StorageUnavailable, match="No space left"), Lease(folder):
        pass
    found = collect(folder, max_bytes=0)
    assert (found, left(folder)) == (planned, NEEDED | {"c" * 64})
    with Lease(folder):
        pass


@pytest.mark.parametrize("storage", ["posix"], indirect=True)
def test_nothing_goes_from_a_full_disk_beneath_a_driver(folder: ExperimentFolder, full_disk: Fill) -> None:
    before = left(folder)
    with Lease(folder):
        full_disk(folder, 0)
        with pytest.raises(LeaseHeld):
            collect(folder, max_bytes=0)
        assert left(folder) == before
        full_disk(folder, 10**9)


@pytest.mark.parametrize("storage", ["posix"], indirect=True)
def test_a_disk_that_stays_full_is_said(folder: ExperimentFolder, full_disk: Fill) -> None:
    full_disk(folder, 0)
    with pytest.raises(StorageUnavailable, match="No space left"):
        collect(folder, max_bytes=0)
    assert left(folder) == NEEDED | {"c" * 64}


@pytest.mark.parametrize("storage", ["posix"], indirect=True)
def test_nothing_goes_where_writing_is_forbidden(folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def forbidden(path: Path, content: bytes, *, durable: bool) -> Iterator[Path]:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        yield path

    before = left(folder)
    monkeypatch.setattr(posix, "_draft", forbidden)
    with pytest.raises(StorageUnavailable, match="Permission denied"):
        collect(folder, max_bytes=0)
    assert left(folder) == before


def test_what_killed_processes_left_behind_goes_too(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    put(folder, BASELINE, "train")
    places = (f"trials/{DRAFT}record", f"stages/{DRAFT}stage", f"stages/progress/{BASELINE}")
    left_behind, young = [tmp_path / "toy" / place for place in places], tmp_path / "toy" / f"{DRAFT}young"
    for path in left_behind:
        path.mkdir(parents=True)
        os.utime(path, (1e9, 1e9))
    young.touch()
    collect(folder, max_bytes=size(folder), dry_run=True)
    assert all(path.exists() for path in left_behind)
    assert collect(folder, max_bytes=size(folder)).removed == []
    assert not any(path.exists() for path in left_behind)
    assert young.exists()
    assert left(folder) == {BASELINE}


def test_an_imported_teacher_stays(storage: StoragePath) -> None:
    teacher = BaselineImport(kind="import", checkpoint="/teacher.pt", sha256="e" * 64)
    folder = make_experiment(storage, base=make_spec(storage).base.model_copy(update={"teacher": teacher}))
    put(folder, "f" * 64, "import")
    put(folder, "d" * 64, "ptq")
    collect(folder, max_bytes=0)
    assert left(folder) == {"f" * 64}


class Search:
    """The loop of `tune-app run` in this process, a trial at a time, as a new process would begin it."""

    def __init__(self, spec: ExperimentSpec) -> None:
        read_stage.cache_clear()
        self.folder = ExperimentFolder(spec.folder)
        self.folder.claim(spec)
        data = load_data(spec.base.data)
        self.baseline = make_baseline(spec, data)
        self.spec, self.workplace = spec, open_workplace(data, self.folder.stages, cpu=1, gpu=0)
        self.ledger = Ledger(self.folder.trials)
        self.proposer = Proposer(
            spec,
            key_of=lambda params, repeat=0: config_key(spec, data.fingerprint, params, repeat=repeat),
            steps_of=lambda params, rung: [],
            reference=self.baseline.reference(self.spec),
            records=self.ledger.read()[0],
            in_flight=Lease(self.folder).in_flight(),
        )

    def run(self, trials: int) -> list[TrialRecord]:
        done: list[TrialRecord] = []
        while len(done) < trials and (work := self.proposer.next()) is not None:
            done.append(run_trial(work, self.spec, self.folder, self.workplace))
            self.proposer.tell(done[-1])
        return done


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> ExperimentSpec:
    """A real search without training after quantization, five of its six trials done; the last three are pruned."""
    spec = tiny_spec(tmp_path_factory.mktemp("begun"), space={"prune_frac": [0.0, 0.5], "w_bits": [3, 4, 8]})
    base = spec.base.model_dump()
    base["baseline"]["schedule"] |= {"epochs": 1}
    base["prune"]["fine_tune"] |= {"epochs": 1, "batch_size": 64}
    base["quantize"] = {"kind": "ptq"}
    spec = ExperimentSpec.model_validate({**spec.model_dump(), "base": base})
    done = Search(spec).run(5)
    assert [computed(r) for r in done] == [["ptq"]] * 3 + [["channel_prune", "ptq"], ["ptq"]]
    return spec


@pytest.fixture
def spec(begun: ExperimentSpec, tmp_path: Path) -> ExperimentSpec:
    """A copy of the search that was begun; pruned networks are outside its bounds."""
    shutil.copytree(begun.storage, tmp_path, dirs_exist_ok=True)
    whole = read_baseline(ExperimentFolder(begun.folder))
    assert whole is not None
    changes = {"storage": str(tmp_path), "constraints": [f"parameters >= {whole.parameters}"]}
    return ExperimentSpec.model_validate({**begun.model_dump(), **changes})


def computed(record: TrialRecord) -> list[str]:
    return [stage.kind for stage in record.result.stages if not stage.cached]


def test_a_search_goes_on_after_its_stages_are_gone(spec: ExperimentSpec) -> None:
    before = Search(spec)
    done = before.proposer.records
    frontier = frontier_ids(done, spec)
    collected = collect(before.folder, max_bytes=0)
    kept = {s.key for r in done if r.assignment.trial_id in frontier for s in r.result.stages}
    assert left(before.folder) == kept | {before.baseline.key}
    assert {"channel_prune", "ptq"} == {e.kind for e in collected.removed}
    again = Search(spec)
    assert again.proposer.records == done
    [last] = again.run(10)
    assert computed(last) == ["channel_prune", "ptq"]
    assert last.state == "complete"
    assert [run_trial(r.assignment, spec, again.folder, again.workplace) for r in done] == done
    assert frontier_ids(again.proposer.records, spec) == frontier
    assert all((again.folder.artifacts / r.assignment.trial_id / "model.mbq").is_file() for r in done)


def test_a_stage_that_went_is_made_again_to_the_last_bit(spec: ExperimentSpec) -> None:
    search = Search(spec)
    record = search.proposer.records[3]
    collect(search.folder, max_bytes=0)
    (search.folder.trials / f"{record.assignment.trial_id}.json").unlink()
    made = run_trial(record.assignment, spec, search.folder, search.workplace)
    assert computed(made) == ["channel_prune", "ptq"]
    assert made.metrics() == record.metrics()
    assert made.result.artifact_sha256 == record.result.artifact_sha256  # type: ignore[union-attr]


def test_what_was_in_flight_keeps_its_stages(spec: ExperimentSpec) -> None:
    search = Search(spec)
    work = search.proposer.next()
    assert work is not None
    keys = stage_keys(spec.trial(work.params), fingerprint=search.baseline.fingerprint)
    Lease(search.folder).save_in_flight([work, work.model_copy(update={"rung": "dropped"})])
    collect(search.folder, max_bytes=0)
    assert keys[1] in left(search.folder)
    Lease(search.folder).save_in_flight([])
    collect(search.folder, max_bytes=0)
    assert keys[1] not in left(search.folder)


Cli = Callable[..., Result]


def test_ls_is_a_line_for_each_kind_and_totals(folder: ExperimentFolder, cli: Cli) -> None:
    result = cli("cache", "ls", folder.path)
    assert (result.code, result.err) == (0, "")
    lines = {line.split()[0]: line.split() for line in result.out.splitlines()[2:]}
    assert list(lines) == ["channel_prune", "ptq", "qat", "train", "all", "needed"]
    assert lines["ptq"][1:3] == ["4", "1"]
    assert lines["all"][3] == f"{size(folder):,}"
    use = json.loads(cli("cache", "ls", folder.path, "--json").out)
    assert use["total"]["size_bytes"] == size(folder)
    assert use["kinds"]["ptq"]["failures"] == 1
    assert use["needed"]["stages"] == len(NEEDED)


def test_gc_says_what_went_and_what_it_freed(folder: ExperimentFolder, cli: Cli) -> None:
    before = size(folder)
    dry = cli("cache", "gc", folder.path, "--max-bytes", "0", "--dry-run")
    assert dry.out.startswith("would remove 1 ptq, 1 qat, 1 channel_prune; would free ")
    assert size(folder) == before
    result = cli("cache", "gc", folder.path, "--max-bytes", "0")
    freed, kept = before - size(folder), size(folder)
    first, second = result.out.splitlines()
    assert first == (f"removed 1 ptq, 1 qat, 1 channel_prune; freed {freed:,} bytes, {kept:,} bytes of stages stay")
    assert second.startswith("the bound of 0 bytes is not reached")
    assert (result.code, result.err) == (0, "")
    enough = cli("cache", "gc", folder.path, "--max-bytes", "2GB")
    assert enough.out == f"removed nothing; freed 0 bytes, {kept:,} bytes of stages stay\n"


def test_gc_refuses_what_is_no_size_and_waits_for_no_driver(folder: ExperimentFolder, cli: Cli) -> None:
    result = cli("cache", "gc", folder.path, "--max-bytes", "much")
    assert (result.code, result.err) == (2, "error: 'much' is no size: write it like 500MB, 2GB or 1_000_000.\n")
    with Lease(folder):
        assert cli("cache", "gc", folder.path, "--max-bytes", "0").code == 5
    assert cli("cache", "gc", folder.path / "below", "--max-bytes", "0").code == 2
