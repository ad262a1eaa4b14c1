"""A trial made again from nothing is the same trial."""

from pathlib import Path

import pytest

from tests.specs import tiny_spec
from trainables.data import load_data
from trainables.errors import ConfigError
from trainables.storage import replace, sha256
from trainables.workplace import open_workplace
from tune_app.baseline import make_baseline
from tune_app.experiment import ExperimentSpec
from tune_app.folder import ExperimentFolder
from tune_app.ledger import Assignment, TrialRecord
from tune_app.point_keys import config_key
from tune_app.reproduce import Reproduction, reproduce
from tune_app.spec_file import dump_spec
from tune_app.trainable import run_trial


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """An experiment of one trial."""
    tiny = tiny_spec(tmp_path_factory.mktemp("reproduce"))
    base = tiny.base.model_dump()
    base["baseline"]["schedule"] |= {"epochs": 1, "batch_size": 64}
    base["prune"]["fine_tune"] |= {"epochs": 1, "lr": 0.05, "batch_size": 64}
    base["quantize"] = {"kind": "ptq"}
    spec = ExperimentSpec.model_validate({**tiny.model_dump(), "base": base})
    made, data = ExperimentFolder(spec.folder), load_data(spec.base.data)
    replace(made.spec_file, dump_spec(spec).encode())
    make_baseline(spec, data)
    params = spec.space.point(1)
    work = Assignment(number=0, config_key=config_key(spec, data.fingerprint, params), params=params, seed=0)
    run_trial(work, spec, made, open_workplace(data, made.stages, cpu=1, gpu=0))
    return made


def label_of(folder: ExperimentFolder) -> str:
    spec = folder.read_spec()
    return Assignment(number=0, config_key="", params=spec.space.point(1), seed=0).label.partition("@")[0]


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


def test_what_changed_in_the_environment_is_named(folder: ExperimentFolder) -> None:
    def record(torch: str) -> TrialRecord:
        from tests.tune_app.factories import make_record

        return make_record(0, {"w_bits": 4}, environment={"torch": torch})

    found = Reproduction(record("2.14.0"), record("2.15.0"), folder.path)
    assert found.changed == ["torch: 2.14.0 → 2.15.0"]
