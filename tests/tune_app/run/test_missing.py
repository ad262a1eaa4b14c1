"""What is gone or damaged in an experiment's folder is noticed by the next run, which loses nothing more."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Result
from tests.specs import write_spec
from tests.tune_app.engine.test_in_process import short_spec
from trainables.errors import CorruptFile
from trainables.storage import remove, remove_tree, replace, sha256
from tune_app.engine.engine import ReadySearch
from tune_app.engine.in_process import InProcess
from tune_app.ledger.folder import SEALED, ExperimentFolder
from tune_app.ledger.ledger import Ledger, TrialRecord
from tune_app.run.search import run_search
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec
from tune_app.tables.query import frontier_frame

Cli = Callable[..., Result]
TRIALS = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("missing")
    assert run_search(short_spec(place, TRIALS), engine=InProcess()).totals.count == TRIALS
    return place


@pytest.fixture
def spec(made: Path, tmp_path: Path) -> ExperimentSpec:
    """Of a finished search, in a copy that a test may change."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    copied = short_spec(tmp_path, TRIALS)
    ExperimentFolder(copied.folder).store_spec(copied)
    return copied


def last_of(folder: ExperimentFolder) -> TrialRecord:
    return Ledger(folder.trials).read()[0][-1]


def run(spec: ExperimentSpec, cli: Cli) -> Result:
    return cli("run", write_spec(Path(spec.storage) / "spec.yaml", spec), "--in-process")


@pytest.mark.parametrize("harm", [remove, lambda path: remove_tree(path.parent)], ids=["file", "folder"])
def test_a_packed_file_that_is_gone_is_named_after_the_summary(
    harm: Callable[[Path], None], spec: ExperimentSpec, cli: Cli
) -> None:
    folder = ExperimentFolder(spec.folder)
    assert run(spec, cli).code == 0
    work = last_of(folder).assignment
    harm(Path(str(folder.packed_file(work.trial_id))))
    done = run(spec, cli)
    assert (done.code, f"{TRIALS} trials (0 new), {TRIALS} complete" in done.out) == (6, True)
    assert f"the packed file of {work.label} is gone: `tune-app reproduce {folder.path} {work.label}`" in done.err


def test_a_record_that_was_removed_is_named_and_its_trial_runs_again(spec: ExperimentSpec, cli: Cli) -> None:
    folder = ExperimentFolder(spec.folder)
    lost = last_of(folder)
    remove(folder.trials / f"{lost.assignment.trial_id}.json")
    done = run(spec, cli)
    assert (done.code, f"{TRIALS} trials (1 new)" in done.out) == (0, True)
    assert f"{lost.assignment.label} is in trials.parquet, but its record was removed" in done.err
    again = last_of(folder)
    assert (again.assignment.trial_id, again.metrics()) == (lost.assignment.trial_id, lost.metrics())
    assert "removed" not in run(spec, cli).err


@pytest.mark.parametrize("harm", [remove, lambda path: replace(path, b"{")], ids=["removed", "damaged"])
def test_a_record_that_is_harmed_while_a_search_runs_is_not_counted(
    harm: Callable[[Path], None], spec: ExperimentSpec
) -> None:
    folder = ExperimentFolder(spec.folder)
    lost = last_of(folder).assignment
    place = Path(str(folder.trials)) / f"{lost.trial_id}.json"

    class Harmed(InProcess):
        def run(self, search: ReadySearch, data: Any) -> None:
            super().run(search, data)
            harm(place)

    more = short_spec(Path(spec.storage), TRIALS + 1)
    outcome = run_search(more, engine=Harmed())
    assert (outcome.totals.count, outcome.new) == (TRIALS, 1)
    with pytest.raises(CorruptFile, match=rf"{lost.trial_id}\.json: .*Run again"):
        outcome.check()
    again = run_search(more, engine=InProcess())
    again.check()
    assert (again.totals.count, again.new) == (TRIALS + 1, 1)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "half": lambda content: content[: len(content) // 2],
    "no text": lambda _: b"\xff\xfe",
    "one bit": lambda content: content.replace(b"epochs: 2", b"epochs: 3", 1),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_stored_spec_that_is_damaged_is_written_again_from_one_that_fits(
    name: str, spec: ExperimentSpec, cli: Cli
) -> None:
    folder = ExperimentFolder(spec.folder)
    before = folder.spec_file.read_bytes()  # type: ignore[union-attr]
    replace(folder.spec_file, DAMAGE[name](before))
    read = cli("frontier", folder.path)
    assert (read.code, "`tune-app run` writes it again, given a spec that fits the records" in read.err) == (6, True)
    done = run(spec, cli)
    assert (done.code, f"{folder.spec_file} was damaged, and is written again" in done.err) == (0, True)
    assert folder.spec_file.read_bytes() == before  # type: ignore[union-attr]
    assert len(frontier_frame(folder.path)) >= 1


OTHERS: dict[str, Any] = {
    "its baseline": {"baseline": {"schedule": {"epochs": 7}}},
    "its trial": {"quantize": {"scheme": {"observer": "minmax"}}},
    "its trial p": {"pack": {"coder": "bits"}},
}


@pytest.mark.parametrize("whose", OTHERS)
def test_a_stored_spec_that_is_damaged_is_not_replaced_by_another(whose: str, spec: ExperimentSpec, cli: Cli) -> None:
    folder = ExperimentFolder(spec.folder)
    replace(folder.spec_file, b"")
    base = merged(spec.base.model_dump(), OTHERS[whose])
    done = run(ExperimentSpec.model_validate({**spec.model_dump(), "base": base}), cli)
    assert (done.code, f"the given spec is not that of {whose}" in done.err) == (6, True)
    assert folder.spec_file.read_bytes() == b""  # type: ignore[union-attr]


def merged(old: Any, new: Any) -> Any:
    """A tree of dicts with some leaves changed."""
    return {**old, **{key: merged(old[key], value) for key, value in new.items()}} if isinstance(new, dict) else new


def test_a_damaged_spec_of_an_experiment_that_made_nothing_is_written_again(tmp_path: Path, cli: Cli) -> None:
    spec = short_spec(tmp_path, 1)
    replace(ExperimentFolder(spec.folder).spec_file, b"")
    assert run(spec, cli).code == 0


def test_a_spec_is_not_known_without_the_baseline_of_the_records(spec: ExperimentSpec, cli: Cli) -> None:
    folder = ExperimentFolder(spec.folder)
    remove(folder.baseline_file)
    replace(folder.spec_file, b"")
    done = run(spec, cli)
    assert (done.code, f"{folder.baseline_file}, by which a spec is known, is gone" in done.err) == (6, True)
    assert folder.spec_file.read_bytes() == b""  # type: ignore[union-attr]


def test_a_whole_spec_of_another_version_is_left_alone(spec: ExperimentSpec, cli: Cli) -> None:
    folder = ExperimentFolder(spec.folder)
    text = dump_spec(spec) + "new_key: 1\n"
    sealed = f"{text}{SEALED}{sha256(text.encode())}\n".encode()
    replace(folder.spec_file, sealed)
    done = run(spec, cli)
    assert (done.code, "it is whole: use the version of tune-app that wrote it" in done.err) == (6, True)
    assert folder.spec_file.read_bytes() == sealed  # type: ignore[union-attr]
