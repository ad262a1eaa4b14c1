"""What one experiment learns from another: results that mean the same, advice, and nothing else."""

from pathlib import Path

import pytest

from search_spaces.rungs import FULL
from tests.stored import content, tree
from tests.tune_app.factories import make_record, make_spec, of_older_version
from tests.tune_app.search.test_ladder import make_laddered, open_proposer
from tests.tune_app.search.test_proposer import optuna_trials
from trainables.config import digest
from trainables.errors import ConfigError, CorruptFile
from trainables.storage import StoragePath, remove, replace, sha256
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger, Params, TrialRecord
from tune_app.ledger.test_results import HeldOut, store_held_out
from tune_app.run.warm_start import compare, take_over

INSIDE: list[Params] = [{"prune_frac": p, "w_bits": 4, "a_bits": 8} for p in (0.0, 0.3, 0.5)]


def key_of(params: Params, repeat: int = 0) -> str:
    return digest([dict(params), repeat] if repeat else dict(params))


def other_key(params: Params, repeat: int = 0) -> str:
    return digest(["another base", dict(params), repeat])


def records(**more: object) -> list[TrialRecord]:
    found = [make_record(7 + i, params, 0.9 - i / 10, **more) for i, params in enumerate(INSIDE)]  # type: ignore[arg-type]
    return [r.model_copy(update={"result": r.result.model_copy(update={"artifact_sha256": seal(r)})}) for r in found]


def seal(record: TrialRecord) -> str:
    """The SHA-256 of its packed file, which holds its name."""
    return sha256(record.assignment.trial_id.encode())


def test_results_of_the_same_configurations_are_results_here(tmp_path: Path) -> None:
    found = compare(records(), make_spec(tmp_path), make_spec(tmp_path), key_of)
    assert found.results == records()
    assert found.advice == []


def test_results_on_another_base_are_advice_when_they_are_complete(tmp_path: Path) -> None:
    mixed = [*records()[:2], make_record(9, INSIDE[2], state="invalid")]
    found = compare(mixed, make_spec(tmp_path), make_spec(tmp_path), other_key)
    assert found.results == []
    assert found.advice == records()[:2]


def test_a_fault_of_a_machine_is_no_result(tmp_path: Path) -> None:
    for state, kind in (("invalid", "Diverged"), ("failed", "WorkerLost"), ("failed", "UnexpectedError")):
        ended = make_record(9, INSIDE[2], state=state, kind=kind)
        found = compare([ended], make_spec(tmp_path), make_spec(tmp_path), key_of)
        assert found.results == ([ended] if state == "invalid" else [])


def test_points_beside_the_space_and_other_rungs_are_of_no_use(tmp_path: Path) -> None:
    spec, other = (
        make_laddered(tmp_path),
        make_laddered(tmp_path, fidelity={"rungs": [{"name": "ptq", "qat_epochs": 1}]}),
    )
    outside = make_record(0, {"prune_frac": 0.9, "w_bits": 4, "a_bits": 8})
    fewer = make_record(1, {"w_bits": 4, "a_bits": 8})
    longer = make_record(2, {"prune_frac": 0.2, "w_bits": 4, "a_bits": 8}, rung="ptq")
    full = make_record(3, {"prune_frac": 0.2, "w_bits": 4, "a_bits": 8})
    assert compare([outside, fewer, longer, full], other, spec, key_of).results == [full]
    assert compare([longer], spec, spec, key_of).results == [longer]


def test_a_result_without_an_objective_is_of_no_use(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, objectives={"macro_f1": "maximize"}, constraints=["cross_entropy <= 1"])
    older, newer, failed = of_older_version(records()[0]), records()[1], make_record(9, INSIDE[2], state="invalid")
    for key, results, advice in ((key_of, [newer, failed], []), (other_key, [], [newer])):
        found = compare([older, newer, failed], spec, spec, key)
        assert (found.results, found.advice) == (results, advice)
        bound = spec.model_copy(update={"objectives": {"accuracy": "maximize"}})
        assert compare([older, newer, failed], spec, bound, key) == found


def test_repeats_are_results_or_nothing(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    again = [make_record(i, INSIDE[0], repeat=i) for i in range(3)]
    assert compare(again, spec, spec, key_of).results == again
    found = compare(again, spec, spec, other_key)
    assert (found.results, found.advice) == ([], again[:1])


Folders = tuple[ExperimentFolder, ExperimentFolder]


@pytest.fixture
def folders(storage: StoragePath) -> Folders:
    other, here = ExperimentFolder(storage / "other"), ExperimentFolder(storage / "here")
    for record in records():
        Ledger(other.trials).add(record)
        replace(other.artifacts / record.assignment.trial_id / "model.mbq", record.assignment.trial_id.encode())
        replace(other.artifacts / record.assignment.trial_id / "card.json", b"{}")
    return other, here


def test_a_result_comes_with_its_file_and_a_number_of_this_experiment(folders: Folders) -> None:
    other, here = folders
    Ledger(here.trials).add(make_record(0, {"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}))
    replace(other.artifacts / records()[0].assignment.trial_id / ".draft-of-a-killed-process", b"half")
    store_held_out(other.artifacts / records()[0].assignment.trial_id, HeldOut(accuracy=0.9, n=10))
    assert take_over(records(), other, here) == 3
    taken, _ = Ledger(here.trials).read()
    assert [r.assignment.number for r in taken] == [0, 1, 2, 3]
    assert [r.result for r in taken[1:]] == [r.result for r in records()]
    assert [r.taken_from for r in taken] == ["", "other", "other", "other"]
    for record in taken[1:]:
        name = record.assignment.trial_id
        assert content(here.artifacts / name) == {"card.json": b"{}", "model.mbq": name.encode()}


def test_taking_over_twice_changes_nothing(folders: Folders) -> None:
    other, here = folders
    take_over(records(), other, here)
    before = tree(here.path)
    assert take_over(records(), other, here) == 0
    assert tree(here.path) == before


def test_who_ran_a_trial_stays_known_when_it_goes_from_hand_to_hand(folders: Folders) -> None:
    other, here = folders
    take_over([r.model_copy(update={"taken_from": "first"}) for r in records()], other, here)
    assert {r.taken_from for r in Ledger(here.trials).read()[0]} == {"first"}


def test_what_is_known_here_is_not_taken_over(folders: Folders) -> None:
    other, here = folders
    own = make_record(0, INSIDE[0], 0.123)
    Ledger(here.trials).add(own)
    assert take_over(records(), other, here) == 2
    assert own in Ledger(here.trials).read()[0]


@pytest.mark.parametrize("name", ["model.mbq", "card.json"])
def test_an_artifact_that_was_cut_off_is_copied_again(name: str, folders: Folders) -> None:
    other, here = folders
    half = here.artifacts / records()[0].assignment.trial_id
    replace(half / name, b"half")
    take_over(records(), other, here)
    assert content(half) == {"card.json": b"{}", "model.mbq": records()[0].assignment.trial_id.encode()}


def test_a_missing_file_is_named_and_its_record_stays_away(folders: Folders) -> None:
    other, here = folders
    name = records()[0].assignment.trial_id
    remove(other.artifacts / name / "model.mbq")
    with pytest.raises(ConfigError, match=name):
        take_over(records(), other, here)
    assert Ledger(here.trials).find(name) is None


def test_a_damaged_file_is_named_and_its_record_stays_away(folders: Folders) -> None:
    other, here = folders
    name = records()[0].assignment.trial_id
    replace(other.artifacts / name / "model.mbq", b"a bit flipped")
    with pytest.raises(CorruptFile, match=rf"{name}/model\.mbq is not the file that was measured.*tune-app reproduce"):
        take_over(records(), other, here)
    assert Ledger(here.trials).find(name) is None
    assert tree(here.path) == {}


def test_failures_are_remembered_too(folders: Folders) -> None:
    other, here = folders
    failed = make_record(3, {"prune_frac": 0.3, "w_bits": 2, "a_bits": 8}, state="invalid")
    assert take_over([failed], other, here) == 1
    assert Ledger(here.trials).read()[0][0].state == "invalid"


def test_advice_teaches_the_sampler_and_is_nobodys_result(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, sampler="tpe")
    proposer = open_proposer(spec, advice=records())
    assert [t.params["prune_frac"] for t in optuna_trials(proposer)] == [0, 1, 2]
    assert proposer.records == []
    assert proposer.spent.trials == 0
    work = proposer.next()
    assert work is not None
    assert work.rung == FULL
