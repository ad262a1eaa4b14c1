"""The confusion matrix of the knee, of a real trial."""

import shutil
from pathlib import Path

import pytest

from tests.tune_app.factories import make_experiment
from tests.tune_app.mistakes.test_cli import made_in
from tests.tune_app.tracking.experiments import make_tracked
from tests.tune_app.tracking.wandb_files import offline_runs
from trainables.storage import remove_tree
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger
from tune_app.spec.trackers import WandbConfig
from tune_app.tracking.confusion import is_cheap, knee_confusion
from tune_app.tracking.overview import read_overview
from tune_app.tracking.track import track


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    """An experiment with one trial."""
    return made_in(tmp_path_factory.mktemp("experiment"))


@pytest.fixture
def folder(made: ExperimentFolder, tmp_path: Path) -> ExperimentFolder:
    """A copy of it."""
    assert isinstance(made.path, Path)
    return ExperimentFolder(Path(shutil.copytree(made.path, tmp_path / "copy")))


def test_it_counts_every_image_of_the_validation_split(folder: ExperimentFolder) -> None:
    ((record,), _) = Ledger(folder.trials).read()
    found = knee_confusion(folder, read_overview(folder))
    assert found is not None
    assert (found.label, tuple(found.classes)) == ("p50_w4_a8", tuple("0123456789"))
    right, images = sum(row[i] for i, row in enumerate(found.counts)), sum(map(sum, found.counts))
    assert images == record.metrics()["n"]
    assert found.picture.startswith(b"\x89PNG")
    assert right / images == pytest.approx(record.metrics()["accuracy"])


def test_the_summary_run_has_it(folder: ExperimentFolder) -> None:
    assert is_cheap(folder)
    track(folder, WandbConfig(mode="offline"), confusion=False)
    track(folder, WandbConfig(mode="offline"))
    track(folder, WandbConfig(mode="offline"))
    assert isinstance(folder.tracking, Path)
    (name,) = (name for name in offline_runs(folder.tracking) if name.endswith("-summary"))
    without, with_it = offline_runs(folder.tracking)[name]
    assert ["confusion_matrix_table" in row for row in (*without.history, *with_it.history)] == [False, True]
    assert without.history[0]["_step"] < with_it.history[0]["_step"]
    picture = with_it.folder / "files" / with_it.history[0]["confusion_images"]["path"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_there_is_none_without_the_file(folder: ExperimentFolder) -> None:
    overview = read_overview(folder)
    remove_tree(folder.artifacts)
    assert knee_confusion(folder, overview) is None


def test_there_is_none_without_a_frontier(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, [])
    assert knee_confusion(folder, read_overview(folder)) is None
    assert not is_cheap(folder), "nothing is known of it"


def test_a_large_data_set_is_not_cheap(tmp_path: Path) -> None:
    assert not is_cheap(make_tracked(tmp_path))
