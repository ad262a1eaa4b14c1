"""What running trials say of themselves is a hint: what is missing or damaged counts as nothing."""

import pytest

from tests.tune_app.factories import make_experiment
from trainables.storage import StoragePath, exists, replace
from tune_app.ledger.folder import ExperimentFolder
from tune_app.on_ray.heartbeat import (
    Heartbeat,
    end_heartbeat,
    forget_heartbeats,
    read_heartbeats,
    take_heartbeat,
    write_heartbeat,
)

HERE = Heartbeat(node_id="node", pid=1, started=2.5)


@pytest.fixture
def folder(storage: StoragePath) -> ExperimentFolder:
    return make_experiment(storage, [], tables=False)


def test_each_trial_is_read_by_its_id_and_the_silent_ones_are_left_out(folder: ExperimentFolder) -> None:
    there = HERE.model_copy(update={"pid": 2, "out_of_memory": True})
    write_heartbeat(folder, "a", HERE)
    write_heartbeat(folder, "b", there)
    assert read_heartbeats(folder, ["a", "silent", "b"]) == {"a": HERE, "b": there}
    assert read_heartbeats(folder, []) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"node_id": "node"}', b"\xff"])
def test_a_damaged_file_says_nothing(content: bytes, folder: ExperimentFolder) -> None:
    write_heartbeat(folder, "a", HERE)
    replace(folder.heartbeat("b"), content)
    assert read_heartbeats(folder, ["a", "b"]) == {"a": HERE}
    assert take_heartbeat(folder, "b") is None


def test_what_was_said_last_counts_and_is_taken_once(folder: ExperimentFolder) -> None:
    write_heartbeat(folder, "a", HERE)
    last = HERE.model_copy(update={"pid": 3})
    write_heartbeat(folder, "a", last)
    assert take_heartbeat(folder, "a") == last
    assert take_heartbeat(folder, "a") is None
    assert not exists(folder.heartbeat("a"))


def test_a_trial_with_a_record_says_nothing_more(folder: ExperimentFolder) -> None:
    write_heartbeat(folder, "a", HERE)
    end_heartbeat(folder, "a")
    assert read_heartbeats(folder, ["a"]) == {}
    end_heartbeat(folder, "a")


def test_what_trials_of_an_earlier_driver_said_is_forgotten(folder: ExperimentFolder) -> None:
    forget_heartbeats(folder)
    for name in ("a", "b"):
        write_heartbeat(folder, name, HERE)
    forget_heartbeats(folder)
    assert read_heartbeats(folder, ["a", "b"]) == {}
    write_heartbeat(folder, "a", HERE)
    assert read_heartbeats(folder, ["a"]) == {"a": HERE}
