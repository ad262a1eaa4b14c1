"""How the making of a baseline is shown: on a terminal, in a log, in a summary, in a report."""

import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.conftest import Result
from tests.tune_app.factories import Clock, make_experiment, make_spec, store_baseline
from trainables.config import BaselineTrain, Schedule, sealed
from trainables.stages.saved_epochs import SavedEpoch, SavedEpochs
from trainables.storage import replace
from tune_app.engine import live_view
from tune_app.engine.live_view import LiveView, Status
from tune_app.ledger.baseline import BegunBaseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.report.contents import read_contents
from tune_app.report.overview import cards
from tune_app.report.serve import version_of
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.baseline_so_far import baseline_so_far
from tune_app.terminal.progress import Pace

KEY = "a" * 64
HINT = " (1 thread on 2 cores, since not all were free when it began: `resources: {baseline_cpu: 2}` takes all)"
WAIT_S = 60


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    """An experiment without trials whose baseline began to train for four epochs, with one thread of two cores."""
    base = make_spec(tmp_path).base
    base = base.model_copy(update={"baseline": BaselineTrain(schedule=Schedule(epochs=4, lr=0.1))})
    made = make_experiment(tmp_path, records=[], tables=False, base=base)
    begin(made, threads=1, cores=2, key=KEY)
    return made


def begin(folder: ExperimentFolder, **fields: int | str) -> None:
    replace(folder.baseline_threads_file, sealed(BegunBaseline.model_validate(fields)))


def save(folder: ExperimentFolder, epochs: int) -> None:
    history = [{"epoch": n, "val_accuracy": (80 + n) / 100} for n in range(1, epochs + 1)]
    SavedEpochs(folder.stages / "progress" / KEY).save(SavedEpoch({"weight": torch.zeros(1)}, history))


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def view_of(folder: ExperimentFolder, shown: io.StringIO, *, terminal: bool) -> LiveView:
    return LiveView(Status(folder.read_spec()), console=Console(file=shown, force_terminal=terminal, width=100))


def test_a_terminal_shows_its_epochs_and_the_time_left(
    folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, clock = io.StringIO(), Clock()
    monkeypatch.setattr(live_view, "Pace", lambda: Pace(clock=clock))
    view = view_of(folder, shown, terminal=True)
    with view.making_baseline():
        for epochs in range(3):
            clock.now = 30.0 * epochs
            if epochs:
                save(folder, epochs)
            view._console.print(view._render())
    view._console.print(view._render())
    text = shown.getvalue()
    assert [text.count(f"{n} done of 4") for n in range(4)] == [1, 1, 1, 0]
    assert [text.count(f"8{n}.00 %") for n in range(3)] == [0, 1, 1]
    assert text.count("about 1.5 min") == text.count("about 1.0 min") == 1
    assert text.count("1 thread on 2 cores") == 3


@pytest.mark.parametrize("asked", [None, 1])
@pytest.mark.parametrize("cores", [1, 2])
def test_a_log_tells_of_a_long_one_now_and_then(
    cores: int, asked: int | None, folder: ExperimentFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_view, "BASELINE_EVERY_S", 0.01)
    begin(folder, threads=1, cores=cores, key=KEY)
    shown = io.StringIO()
    view = view_of(folder, shown, terminal=False)
    view.status.spec = view.status.spec.model_copy(
        update={"resources": view.status.spec.resources.model_copy(update={"baseline_cpu": asked})}
    )
    save(folder, 1)  # of an earlier run, whose pace is not known
    with view.making_baseline():
        wait_until(lambda: shown.getvalue().count("\nbaseline: ") == 1)
        save(folder, 3)
        wait_until(lambda: shown.getvalue().count("\nbaseline: ") == 2)
    begins, first, second = shown.getvalue().splitlines()
    assert begins == "loading data, making the baseline"
    assert first == f"baseline: 1 of 4 epochs, accuracy 81.00 %{HINT if cores == 2 and asked is None else ''}"
    assert second.startswith("baseline: 3 of 4 epochs, accuracy 83.00 %, about ")
    assert second.endswith(" left")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_path_in_a_phase_is_shown_as_it_is(terminal: bool, folder: ExperimentFolder) -> None:
    shown, said = io.StringIO(), "/data/[old]/[/old]/demo: 3 results taken over"
    view = view_of(folder, shown, terminal=terminal)
    view.phase(said)
    view._console.print(view._render())
    assert said in shown.getvalue()


def test_a_report_shows_how_far_it_is_and_looks_again_after_each_epoch(folder: ExperimentFolder) -> None:
    versions = set()
    for epochs in (1, 2):
        save(folder, epochs)
        versions.add(version_of(folder))
        [card] = [card for card in cards(read_contents(folder)) if card.name == "Baseline"]
        assert (card.value, card.detail) == ("none yet", f"in training: {epochs} of 4 epochs, accuracy 8{epochs}.00 %")
    assert len(versions) == 2


def test_what_needs_one_says_that_it_is_in_training(folder: ExperimentFolder, cli: Callable[..., Result]) -> None:
    done = cli("epochs", folder.path, columns=200)
    assert (done.code, done.out) == (2, "")
    assert "has no baseline yet: it trains, or was cut off (`tune-app summary` says how far it is)" in done.err
    folder.baseline_threads_file.unlink()
    assert "has no baseline yet: run `tune-app run` first." in cli("epochs", folder.path, columns=200).err


def test_one_that_was_made_before_is_no_news(folder: ExperimentFolder) -> None:
    store_baseline(folder)
    shown = io.StringIO()
    with view_of(folder, shown, terminal=False).making_baseline():
        pass
    assert shown.getvalue() == "loading data\n"


def test_a_summary_tells_how_far_it_is(folder: ExperimentFolder, cli: Callable[..., Result]) -> None:
    assert "baseline in training: 0 of 4 epochs\n" in cli("summary", folder.path).out
    save(folder, 3)
    assert "baseline in training: 3 of 4 epochs, accuracy 83.00 %\n" in cli("summary", folder.path).out
    told = {"epochs": 3, "planned_epochs": 4, "accuracy": 0.83, "threads": 1, "cores": 2}
    assert json.loads(cli("summary", folder.path, "--json").out)["baseline_in_training"] == told
    store_baseline(folder)
    assert "in training" not in cli("summary", folder.path).out
    assert json.loads(cli("summary", folder.path, "--json").out)["baseline_in_training"] is None


def test_nothing_is_known_of_one_that_an_older_version_began(folder: ExperimentFolder) -> None:
    spec = folder.read_spec()
    begin(folder, threads=1)
    assert baseline_so_far(folder, spec) is None
    folder.baseline_threads_file.write_bytes(b"1\n")
    assert baseline_so_far(folder, spec) is None
    folder.baseline_threads_file.unlink()
    assert baseline_so_far(folder, spec) is None


def test_one_without_epochs_is_not_in_training(folder: ExperimentFolder) -> None:
    spec: ExperimentSpec = make_spec(folder.path.parent)
    nothing = spec.base.baseline.model_copy(update={"schedule": Schedule(epochs=0, lr=0.1)})
    spec = spec.model_copy(update={"base": spec.base.model_copy(update={"baseline": nothing})})
    assert baseline_so_far(folder, spec) is None


def test_no_more_time_is_left_than_the_wall_time_of_the_run(tmp_path: Path) -> None:
    now = time.monotonic()
    spec = make_spec(tmp_path, budget={"trials": 100, "wall_s": 60})
    left = Status(spec, now - 50, done=10, started=now - 40).seconds_left()
    assert left == pytest.approx(10, abs=1)
    assert Status(spec, now - 70, done=10, started=now - 40).seconds_left() == 0
    spec = make_spec(tmp_path, budget={"trials": 11, "wall_s": 60})
    assert Status(spec, now - 50, done=10, started=now - 40).seconds_left() == pytest.approx(4, abs=0.5)
