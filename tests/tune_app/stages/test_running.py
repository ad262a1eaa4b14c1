"""What a driver runs is known by what it has in flight, by heartbeats of workers, and by the epochs that are saved."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.tune_app.factories import make_experiment, store_baseline
from trainables.config import BaselineTrain, ChannelPrune, QuantAwareTrain, Schedule, TrialConfig
from trainables.stages.saved_epochs import SavedEpoch, SavedEpochs
from trainables.storage import publish_folder, replace
from tune_app.findings.summary import RUNNING
from tune_app.ledger.baseline import require_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment
from tune_app.stages.epochs import stages_by_key
from tune_app.stages.running import RunningTrial, running_trials


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    """An experiment whose trials prune, fine-tune for one epoch, and train for three with quantization."""
    schedule = Schedule(epochs=1, lr=0.1)
    base = TrialConfig(
        baseline=BaselineTrain(schedule=schedule),
        prune=ChannelPrune(fine_tune=schedule),
        quantize=QuantAwareTrain(kind="qat", schedule=Schedule(epochs=3, lr=0.1)),
    )
    made = make_experiment(tmp_path, records=[], tables=False, base=base)
    store_baseline(made)
    return made


@pytest.fixture
def lease(folder: ExperimentFolder) -> Iterator[Lease]:
    with Lease(folder) as held:
        yield held


def work(number: int, prune_frac: float, w_bits: int) -> Assignment:
    params = {"prune_frac": prune_frac, "w_bits": w_bits, "a_bits": 8}
    return Assignment(number=number, config_key=f"{number:x}" * 64, params=params, seed=0)


def keys(folder: ExperimentFolder, one: Assignment) -> list[str]:
    return list(stages_by_key(folder.read_spec().trial(one.params, one.rung), fingerprint="f"))


def found(folder: ExperimentFolder) -> list[RunningTrial]:
    return running_trials(folder, folder.read_spec(), require_baseline(folder).fingerprint)


def test_a_trial_is_at_its_first_stage_that_is_not_finished(folder: ExperimentFolder, lease: Lease) -> None:
    one, other = work(0, 0.3, 4), work(1, 0.3, 8)
    train, prune, qat = keys(folder, one)
    lease.save_in_flight([one, other])
    publish_folder({"stage.json": b"{}"}, folder.stages / train, marker="stage.json")
    assert found(folder) == [RunningTrial(t.label, "channel_prune", 0, 1) for t in (one, other)]
    publish_folder({"stage.json": b"{}"}, folder.stages / prune, marker="stage.json")
    SavedEpochs(folder.stages / "progress" / qat).save(SavedEpoch({}, [{"epoch": 1.0}, {"epoch": 2.0}]))
    assert found(folder) == [RunningTrial(one.label, "qat", 2, 3), RunningTrial(other.label, "qat", 0, 3)]
    publish_folder({"stage.json": b"{}"}, folder.stages / qat, marker="stage.json")
    assert found(folder)[0].text() == f"{one.label} measured"


def test_on_ray_a_trial_runs_when_its_worker_was_heard(folder: ExperimentFolder, lease: Lease) -> None:
    one, other = work(0, 0.3, 4), work(1, 0.3, 8)
    lease.save_in_flight([one, other])
    replace(folder.heartbeat(other.trial_id), b"{}")
    assert [trial.label for trial in found(folder)] == [other.label]


def test_nothing_runs_without_a_driver(folder: ExperimentFolder) -> None:
    with Lease(folder) as held:
        held.save_in_flight([work(0, 0.3, 4)])
        assert len(found(folder)) == 1
    assert found(folder) == []


def test_a_summary_names_a_few(folder: ExperimentFolder, lease: Lease, cli: Callable[..., Result]) -> None:
    assert "running" not in cli("summary", folder.path).out
    many = [work(number, 0.1 * number, 4) for number in range(RUNNING + 2)]
    lease.save_in_flight(many)
    [line] = [text for text in cli("summary", folder.path, columns=400).out.splitlines() if text.startswith("running")]
    assert line.startswith(f"running: {many[0].label} in train, 0 of 1 epoch; {many[1].label} in ")
    assert line.endswith("; 2 more")
    [first, *_] = json.loads(cli("summary", folder.path, "--json").out)["running"]
    assert first == {"label": many[0].label, "stage": "train", "epochs": 0, "planned_epochs": 1}
