"""What running trials say of themselves is a hint: what is missing or damaged counts as nothing."""

import pytest

from tests.tune_app.factories import make_experiment
from trainables.storage import StoragePath, exists, replace
from tune_app.ledger.folder import ExperimentFolder
from tune_app.on_ray.heartbeat import Pulse, end_pulse, forget_pulses, read_pulses, take_pulse, write_pulse

HERE = Pulse(node_id="node", pid=1, started=2.5)


@pytest.fixture
def folder(storage: StoragePath) -> ExperimentFolder:
    return make_experiment(storage, [], tables=False)


def test_each_trial_is_read_by_its_id_and_the_silent_ones_are_left_out(folder: ExperimentFolder) -> None:
    there = HERE.model_copy(update={"pid": 2, "out_of_memory": True})
    write_pulse(folder, "a", HERE)
    write_pulse(folder, "b", there)
    assert read_pulses(folder, ["a", "silent", "b"]) == {"a": HERE, "b": there}
    assert read_pulses(folder, []) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"node_id": "node"}', b"\xff"])
def test_a_damaged_file_says_nothing(content: bytes, folder: ExperimentFolder) -> None:
    write_pulse(folder, "a", HERE)
    replace(folder.pulse("b"), content)
    assert read_pulses(folder, ["a", "b"]) == {"a": HERE}
    assert take_pulse(folder, "b") is None


def test_what_was_said_last_counts_and_is_taken_once(folder: ExperimentFolder) -> None:
    write_pulse(folder, "a", HERE)
    last = HERE.model_copy(update={"pid": 3})
    write_pulse(folder, "a", last)
    assert take_pulse(folder, "a") == last
    assert take_pulse(folder, "a") is None
    assert not exists(folder.pulse("a"))


def test_a_trial_with_a_record_says_nothing_more(folder: ExperimentFolder) -> None:
    write_pulse(folder, "a", HERE)
    end_pulse(folder, "a")
    assert read_pulses(folder, ["a"]) == {}
    end_pulse(folder, "a")


def test_what_trials_of_an_earlier_driver_said_is_forgotten(folder: ExperimentFolder) -> None:
    forget_pulses(folder)
    for name in ("a", "b"):
        write_pulse(folder, name, HERE)
    forget_pulses(folder)
    assert read_pulses(folder, ["a", "b"]) == {}
    write_pulse(folder, "a", HERE)
    assert read_pulses(folder, ["a"]) == {"a": HERE}
