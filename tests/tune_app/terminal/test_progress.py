"""What is shown beside the results, and when nothing is."""

import io
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.conftest import Result
from tests.tune_app.factories import (
    REFERENCE,
    Clock,
    make_experiment,
    make_record,
    make_spec,
    store_baseline,
    store_files,
)
from tune_app.engine.live_view import LiveView, Status
from tune_app.search.strategy import Outlook
from tune_app.terminal import progress
from tune_app.terminal.progress import (
    LOGGERS,
    Pace,
    Verbosity,
    counted,
    counting,
    doing,
    following,
    set_verbosity,
    track,
    verbosity,
)

Cli = Callable[..., Result]


@pytest.fixture(autouse=True)
def silent_again() -> Iterator[None]:
    yield
    set_verbosity(Verbosity.QUIET)
    for name in LOGGERS:
        logging.getLogger(name).handlers = []
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a person at a terminal sees, with every bar shown at once."""
    shown = io.StringIO()
    monkeypatch.setattr(progress, "SHOWN_AFTER_S", 0.0)
    monkeypatch.setattr(
        progress,
        "console",
        lambda: Console(file=shown, force_terminal=True, width=100, quiet=verbosity() is Verbosity.QUIET),
    )
    return shown


def wait_for(text: str, shown: io.StringIO) -> None:
    for _ in range(200):
        if text in shown.getvalue():
            return
        time.sleep(0.02)
    raise AssertionError(shown.getvalue())


def test_a_terminal_shows_what_is_done_and_how_far_it_is(terminal: io.StringIO) -> None:
    set_verbosity(Verbosity.NORMAL)
    seen = []
    for item in track("abc", "reading letters", total=3):
        seen.append(item)
        if item == "c":
            wait_for("2/3", terminal)
    assert seen == ["a", "b", "c"]
    assert "reading letters" in terminal.getvalue()


def test_work_that_is_counted_elsewhere_moves_the_bar(terminal: io.StringIO) -> None:
    set_verbosity(Verbosity.NORMAL)
    with counting("images", total=5) as advance:
        advance(2)
        advance(1)
        wait_for("3/5", terminal)


def test_work_that_says_nothing_is_looked_at(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_EVERY_S", 0.01)
    set_verbosity(Verbosity.NORMAL)
    looks = iter([OSError("gone for a moment"), *range(1, 1000)])

    def done() -> int:
        found = next(looks)
        if isinstance(found, OSError):
            raise found
        return min(found, 7)

    with following("training, epochs", total=9, done=done):
        wait_for("7/9", terminal)
        wait_for("s left", terminal)


def test_work_of_no_countable_length_is_named_alone(terminal: io.StringIO) -> None:
    set_verbosity(Verbosity.NORMAL)
    with following("copying", total=0, done=lambda: 0):
        wait_for("copying", terminal)
    assert "0/0" not in terminal.getvalue()


def test_the_time_left_is_that_of_the_pace_so_far_and_counts_down() -> None:
    clock = Clock()
    pace = Pace(clock=clock)
    seen = []
    for now, done in ((0, 2), (10, 2), (20, 3), (25, 3), (40, 4), (99, 4), (100, 1)):
        clock.now = now
        seen.append(pace.left(done, total=6))
    # Two were done before; the third took 20 s, so three more take 60 s; it restarted at the end.
    assert seen == [None, None, 60, 55, 40, 0, None]


def test_work_of_unknown_length_is_named(terminal: io.StringIO) -> None:
    set_verbosity(Verbosity.NORMAL)
    with doing("thinking"):
        wait_for("thinking", terminal)


def test_an_error_ends_the_bar(terminal: io.StringIO) -> None:
    set_verbosity(Verbosity.NORMAL)

    def fail() -> None:
        wait_for("thinking", terminal)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), doing("thinking"):
        fail()
    before = terminal.getvalue()
    time.sleep(0.4)  # several turns of a spinner
    assert terminal.getvalue() == before


@pytest.mark.parametrize("wanted", [Verbosity.QUIET, Verbosity.NORMAL])
def test_a_log_gets_no_bars(wanted: Verbosity, capsys: pytest.CaptureFixture[str]) -> None:
    set_verbosity(wanted)
    with doing("thinking"):
        assert list(track("ab", "reading", total=2)) == ["a", "b"]
        with following("training", total=2, done=lambda: 1):
            pass
    assert capsys.readouterr() == ("", "")


def test_a_log_with_detail_gets_lines(capsys: pytest.CaptureFixture[str]) -> None:
    set_verbosity(Verbosity.DETAILED)
    with doing("thinking"):
        list(track("ab", "reading", total=2))
        assert list(counted("ab", "counting", total=2)) == ["a", "b"]
    assert capsys.readouterr() == ("", "thinking\nreading: 1 of 2\nreading: 2 of 2\ncounting\n")


def test_the_library_is_silent_by_itself(terminal: io.StringIO) -> None:
    with doing("thinking"):
        list(track("ab", "reading", total=2))
    assert terminal.getvalue() == ""


def test_detail_shows_messages_and_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_verbosity(Verbosity.DETAILED)
    logging.getLogger("tune_app.driver").info("a worker started")
    shown = io.StringIO()
    view = LiveView(Status(make_spec(tmp_path)), console=Console(file=shown, width=200))
    view.finished(make_record(0, {"w_bits": 4}))
    set_verbosity(Verbosity.NORMAL)
    view.finished(make_record(0, {"w_bits": 4}))
    assert capsys.readouterr().err == "tune_app.driver: a worker started\n"
    detailed, normal = shown.getvalue().splitlines()
    assert detailed == normal + " (train cached, ptq 1.5 s)"


@pytest.mark.parametrize("terminal", [True, False])
def test_what_the_next_trials_promise_is_shown(terminal: bool, tmp_path: Path) -> None:
    shown, records = io.StringIO(), [make_record(i, {"w_bits": i}) for i in range(10)]
    outlook = Outlook(growth=0.0012, training_s=330)
    status = Status(make_spec(tmp_path), records=records, done=10, reference=REFERENCE, outlook=outlook)
    console = Console(file=shown, width=200, force_terminal=terminal)
    with LiveView(status, console=console) as view:
        view.finished(records[-1])
    assert "of the next 10 trials: 0.12 % more hypervolume for 5.5 min of training" in shown.getvalue()


def test_quiet_and_verbose_exclude_each_other(cli: Cli, tmp_path: Path) -> None:
    done = cli("-v", "-q", "summary", tmp_path)
    assert (done.code, done.out) == (2, "")
    assert "choose one of the two" in done.err


def test_json_stands_alone_on_standard_output(cli: Cli, tmp_path: Path) -> None:
    folder = store_files(make_experiment(tmp_path))
    store_baseline(folder)
    for level in ([], ["-v"], ["-q"]):
        done = cli(*level, "optuna", folder.path, "--output", tmp_path / f"study{len(level)}{level}.log")
        assert done.code == 0
        done = cli(*level, "pick", folder.path, "--json")
        assert json.loads(done.out)["label"] == "p30_w4_a8"
