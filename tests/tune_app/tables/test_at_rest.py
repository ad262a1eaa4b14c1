import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tune_app.factories import REFERENCE, make_experiment, make_record, make_records, store_baseline, tabulate
from trainables.config import sealed
from trainables.errors import CorruptFile
from trainables.storage import StoragePath, read_bytes, remove, replace
from tune_app.errors import LeaseHeld, SearchAborted
from tune_app.findings.summary import summarize
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Ledger, latest
from tune_app.ledger.reading import read_records
from tune_app.ledger.test_results import HeldOut, store_held_out
from tune_app.run.search import run_search
from tune_app.spec.constraint import Constraint
from tune_app.tables.at_rest import Known, known_trials, ledger_state, recall, settle
from tune_app.tables.totals import totals_of
from tune_app.tables.trials import load_trials

FAILED = make_record(3, {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}, state="failed")


@pytest.fixture
def folder(storage: StoragePath) -> ExperimentFolder:
    """An experiment whose budget is spent, whose totals were remembered; one of its four trials failed."""
    found = make_experiment(storage, [*make_records()[:3], FAILED], budget={"trials": 4}, tables=False)
    store_baseline(found)
    tabulate(found)
    return found


def test_totals_are_recalled_while_nothing_is_touched(folder: ExperimentFolder) -> None:
    known = recall(folder)
    assert known is not None
    totals = known.totals
    assert (totals.trials, totals.done, totals.on_frontier) == ({"complete": 3, "failed": 1}, 4, 2)
    assert known.trials == load_trials(folder, read_records(folder))
    assert recall(folder) == known


def test_neither_an_idle_run_nor_a_summary_reads_a_record(
    folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("records are read")

    monkeypatch.setattr(Ledger, "read", read)
    outcome = run_search(folder.read_spec())
    known = recall(folder)
    assert known is not None
    assert (outcome.new, outcome.totals) == (0, known.totals)
    assert summarize(folder).totals == outcome.totals


def test_a_summary_of_what_was_remembered_is_that_of_the_records(folder: ExperimentFolder) -> None:
    remembered = summarize(folder)
    remove(folder.totals_file)
    assert recall(folder) is None
    assert summarize(folder) == remembered


def place(folder: ExperimentFolder, number: int) -> StoragePath:
    return folder.trials / f"{make_records()[number].assignment.trial_id}.json"


TOUCH: dict[str, Callable[[ExperimentFolder], object]] = {
    "a new record": lambda f: Ledger(f.trials).add(make_records()[4]),
    "a record is gone": lambda f: remove(place(f, 0)),
    "a record is damaged": lambda f: replace(place(f, 0), read_bytes(place(f, 0))[:-9] + b"?" * 9),
    "another spec": lambda f: replace(f.spec_file, read_bytes(f.spec_file).replace(b"trials: 4", b"trials: 5")),
    "another baseline": lambda f: replace(f.baseline_file, read_bytes(f.baseline_file).replace(b"0.95", b"0.94")),
    "a test result": lambda f: store_held_out(f.artifacts / "x", HeldOut(accuracy=0.5, n=10)),
    "a table is gone": lambda f: remove(f.frontier_table),
    "a table is cut": lambda f: replace(f.trials_table, read_bytes(f.trials_table)[:-1]),
    "another table": lambda f: replace(f.trials_table, read_bytes(f.frontier_table)),
    "the totals are damaged": lambda f: replace(
        f.totals_file, read_bytes(f.totals_file).replace(b'"failed": 1', b'"failed": 0')
    ),
    "the totals have no seal": lambda f: replace(
        f.totals_file, re.sub(rb',\s*"sha256": "[^"]*"', b"", read_bytes(f.totals_file))
    ),
    "the totals are cut": lambda f: replace(f.totals_file, read_bytes(f.totals_file)[:99]),
    "the totals are of another version": lambda f: replace(
        f.totals_file, re.sub(rb'"made_by": "[^"]*"', b'"made_by": "another"', read_bytes(f.totals_file))
    ),
}


@pytest.mark.parametrize("what", TOUCH)
def test_whatever_is_touched_the_records_are_read_again(what: str, folder: ExperimentFolder) -> None:
    before = read_bytes(folder.totals_file)
    TOUCH[what](folder)
    assert recall(folder) is None
    if what in {"a table is gone", "a table is cut", "another table"}:
        assert run_search(folder.read_spec()).new == 0
        assert recall(folder) is not None
        assert read_bytes(folder.totals_file) != before


def test_a_record_that_changes_in_place_and_keeps_its_size_is_seen(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, make_records()[:4])
    state = ledger_state(folder)
    path = Path(str(place(folder, 0)))
    content = path.read_bytes()
    os.utime(path, (1e9, 1e9))
    with path.open("r+b") as file:
        file.write(content)
    assert ledger_state(folder) != state


def test_a_folder_with_a_record_s_name_is_seen_and_a_copy_that_keeps_its_time_too(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, make_records()[:4])
    state, path = ledger_state(folder), Path(str(place(folder, 0)))
    shutil.copy2(path, tmp_path / "backup")
    path.unlink()
    shutil.copy2(tmp_path / "backup", path)
    restored = ledger_state(folder)
    assert restored != state
    (path.parent / "x.json").mkdir()
    assert ledger_state(folder) != restored


def test_a_test_result_that_was_replaced_is_seen_and_a_damaged_one_named(folder: ExperimentFolder) -> None:
    place = folder.artifacts / make_records()[0].assignment.trial_id
    store_held_out(place, HeldOut(accuracy=0.5, n=10))
    tabulate(folder)
    assert recall(folder) is not None
    replace(place / "test.json", sealed(HeldOut(accuracy=0.9, n=10)))
    assert recall(folder) is None
    replace(place / "test.json", b"{")
    with pytest.raises(CorruptFile, match=r"test\.json is damaged"):
        run_search(folder.read_spec())


def test_totals_that_cannot_be_written_cost_a_run_nothing(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, make_records()[:4], budget={"trials": 4}, tables=False)
    store_baseline(folder)
    Path(str(folder.totals_file)).mkdir()
    assert [run_search(folder.read_spec()).totals.count for _ in range(2)] == [4, 4]


def test_a_search_without_a_usable_trial_is_refused_each_time(tmp_path: Path) -> None:
    records = [make_record(i, {"w_bits": i + 2}, state="failed") for i in range(2)]
    folder = make_experiment(tmp_path, records, budget={"trials": 2}, tables=False)
    store_baseline(folder)
    for _ in range(2):
        with pytest.raises(SearchAborted, match="none of 2 trials"):
            run_search(folder.read_spec())


def test_a_run_that_recalls_looks_at_its_lease(folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    known = recall(folder)

    def overtaken(place: ExperimentFolder) -> Known | None:
        replace(place.lease / "00000099.json", b"{}")
        return known

    monkeypatch.setattr("tune_app.run.stock.recall", overtaken)
    with pytest.raises(LeaseHeld, match="took over"):
        run_search(folder.read_spec())


def test_a_spec_that_another_driver_stored_meanwhile_has_no_totals(folder: ExperimentFolder) -> None:
    """A driver that has just slept counted by its own spec."""
    spec, seen = folder.read_spec(), ledger_state(folder)
    folder.store_spec(spec.model_copy(update={"constraints": (Constraint.model_validate("accuracy >= 0.9"),)}))
    found = latest(Ledger(folder.trials).read()[0])
    with Lease(folder) as lease:
        settle(lease, found, spec, totals_of(found, spec, REFERENCE), reference=REFERENCE, seen=seen)
    assert recall(folder) is None


def test_a_damaged_record_lets_nothing_be_remembered(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, make_records()[:4], budget={"trials": 3}, tables=False)
    store_baseline(folder)
    path = Path(str(place(folder, 3)))
    path.write_bytes(b"{")
    assert run_search(folder.read_spec()).quarantined == [path.name]
    assert recall(folder) is None
    assert run_search(folder.read_spec()).quarantined == []
    assert recall(folder) is not None


def test_a_copy_of_an_experiment_is_read_once(tmp_path: Path) -> None:
    """Other times of change are another state: that its records are the same, nobody knows before they are read."""
    folder = make_experiment(tmp_path / "a", make_records()[:4], budget={"trials": 4}, tables=False)
    store_baseline(folder)
    tabulate(folder)
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    copied = ExperimentFolder(tmp_path / "b" / "toy")
    assert recall(copied) is None
    assert len(known_trials(copied)) == 4


def test_a_newer_attempt_counts(folder: ExperimentFolder) -> None:
    again = make_record(3, FAILED.assignment.params, 0.5, 50_000, attempt=2)
    Ledger(folder.trials).add(again)
    assert recall(folder) is None
    assert run_search(folder.read_spec()).totals.trials == {"complete": 4}
