"""An experiment in a notebook: shown while it goes on, ended by the kernel's interrupt, gone on with afterwards."""

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import tune_app
from tests.notebooks import Message, errors, kernel, pages, settle_in
from tests.specs import tiny_spec, write_spec
from tests.tune_app.factories import make_experiment
from trainables.errors import ConfigError
from tune_app.api import live
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease

OPEN = """
import tune_app
experiment = tune_app.Experiment(tune_app.load_spec("spec.yaml"))
"""


class Cell:
    """What a cell of a notebook shows, without a kernel."""

    def __init__(self) -> None:
        self.shown: list[object] = []
        self.updates = 0
        self.updated = threading.Event()

    def display(self, what: object, *, display_id: bool) -> "Cell":
        assert display_id
        self.shown.append(what)
        return self

    def update(self, what: object) -> None:
        assert self.shown == [what]
        self.updates += 1
        self.updated.set()


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    found = Cell()
    display = SimpleNamespace(display=found.display)
    ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()), display=display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setattr(live, "EVERY_S", 0.01)
    monkeypatch.setattr(live, "SHARE", 1.0)
    return found


def test_what_goes_on_is_shown_again_and_once_more_at_its_end(cell: Cell) -> None:
    with live.shown("it"):
        assert cell.shown == ["it"]
        assert cell.updated.wait(60)
    assert live.THREAD not in {thread.name for thread in threading.enumerate()}
    assert cell.updates >= 2


def test_the_end_is_shown_whatever_it_was(cell: Cell) -> None:
    with pytest.raises(KeyError), live.shown("it"):
        raise KeyError
    assert cell.updates >= 1


@pytest.mark.parametrize(
    "ipython", [None, SimpleNamespace(get_ipython=lambda: None), "terminal"], ids=["absent", "no shell", "terminal"]
)
def test_elsewhere_nothing_is_shown(ipython: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if ipython == "terminal":
        ipython = SimpleNamespace(get_ipython=lambda: SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    with live.shown("it"):
        pass
    with pytest.raises(ConfigError, match="and this is none: print summary"):
        tune_app.Experiment(make_experiment(tmp_path).path).live()


def test_a_search_of_another_process_is_followed_until_it_ends(
    cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_app.api.experiment.EVERY_S", 0.01)
    folder = make_experiment(tmp_path)
    experiment = tune_app.Experiment(folder.path)
    with Lease(folder):
        follower = threading.Thread(target=experiment.live)
        follower.start()
        assert cell.updated.wait(60)
        assert follower.is_alive()
    follower.join(60)
    assert not follower.is_alive()
    assert cell.shown == [experiment]


@pytest.mark.slow
def test_the_kernels_interrupt_ends_a_search_that_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle_in(tmp_path, monkeypatch)
    base = tiny_spec(tmp_path).base.model_dump()
    base["quantize"]["schedule"]["epochs"] = 60  # seconds, in which the interrupt comes
    spec = tiny_spec(tmp_path, base=base, budget={"trials": 1})
    write_spec(tmp_path / "spec.yaml", spec)
    folder = ExperimentFolder(spec.folder)

    def at_first(message: Message) -> None:
        if any(">not started<" in page for page in pages([message])):
            time.sleep(0.5)
            notebook.interrupt()

    def interrupt(message: Message) -> None:
        if any(">running<" in page for page in pages([message])) and folder.in_flight_file.exists():
            notebook.interrupt()

    with kernel(tmp_path) as notebook:
        assert errors(notebook.run(OPEN)) == []
        # While torch is imported, which could not be done again in this kernel.
        assert errors(notebook.run("experiment.run(in_process=True)", seen=at_first)) == ["KeyboardInterrupt"]
        first = notebook.run("experiment.run(in_process=True)", seen=interrupt)
        assert errors(first) == ["KeyboardInterrupt"]
        assert "During handling" not in str(first)
        assert ">stopped<" in pages(first)[-1]
        assert "0 of 1 trials" in pages(first)[-1]
        second = notebook.run("experiment.run(in_process=True)")
        assert errors(second) == [], second[-1]["evalue"]
        assert ">finished<" in pages(second)[-1]
        assert errors(notebook.run("experiment.live()")) == []  # nobody works on it: it ends at once
    assert folder.frontier_table.exists()
