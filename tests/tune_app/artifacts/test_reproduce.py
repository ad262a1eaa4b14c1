"""A trial made again from nothing is the same trial."""

import re
from pathlib import Path

import pytest

from tests.tune_app.factories import make_record
from tests.tune_app.real import label_of, make_real_experiment
from trainables.errors import ConfigError
from trainables.storage import sha256
from tune_app.artifacts.reproduce import Reproduction, again_name, reproduce
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.spec.experiment import NAME


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    return make_real_experiment(tmp_path_factory.mktemp("reproduce"))


def test_the_file_is_the_same_and_nothing_of_the_experiment_is_used(folder: ExperimentFolder, tmp_path: Path) -> None:
    found = reproduce(folder, label_of(folder), tmp_path / "again")
    assert found.same_file
    assert found.changed == []
    again = ExperimentFolder(tmp_path / "again")
    assert sha256(found.artifact.read_bytes()) == found.first.result.artifact_sha256  # type: ignore[union-attr]
    assert len(list(again.stages.iterdir())) >= 2
    assert not any(stage.cached for stage in found.again.result.stages[1:])


def test_a_place_that_is_taken_is_refused(folder: ExperimentFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists: give a new folder"):
        reproduce(folder, label_of(folder), tmp_path)
    with pytest.raises(ConfigError, match=r"no trial of .* is called 'p99'"):
        reproduce(folder, "p99", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_place_that_can_be_no_experiment_is_refused(folder: ExperimentFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"letters, digits, '\.', '_' and '-' alone, 64 at most, but got 'so so'"):
        reproduce(folder, label_of(folder), tmp_path / "so so")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("params", "rung", "repeat", "name"),
    [
        ({"prune_frac": 0.25, "w_bits": 4}, "full", 0, "p25_w4-again"),
        ({"prune_frac": 0.25, "w_bits": 4}, "ptq", 1, "p25_w4-ptq-2-again"),
        ({"quantize.kind": "ptq", "w_bits": 4}, "full", 0, "quantize.kind-ptq_w4-again"),
        ({f"quantize.scheme.w_bits_by_group.group{i}": 4 for i in range(9)}, "full", 0, None),
    ],
)
def test_the_folder_is_called_like_the_trial(
    params: dict[str, float | int | str], rung: str, repeat: int, name: str | None
) -> None:
    record = make_record(0, params, rung=rung, repeat=repeat)
    again = again_name(record)
    assert again == (name or f"{record.assignment.trial_id}-again")
    assert re.match(NAME, again)


def test_what_changed_in_the_environment_is_named(folder: ExperimentFolder) -> None:
    def record(torch: str) -> TrialRecord:
        return make_record(0, {"w_bits": 4}, environment={"torch": torch})

    found = Reproduction(record("2.14.0"), record("2.15.0"), folder.path)
    assert found.changed == ["torch: 2.14.0 → 2.15.0"]
