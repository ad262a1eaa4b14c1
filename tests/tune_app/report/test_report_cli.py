"""`tune-app report`: what it writes, and one line for what cannot be."""

import json
import signal
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.browser import needs_chromium
from tests.conftest import Result
from tests.tune_app.factories import make_experiment, make_record, make_spec, store_baseline
from tests.tune_app.report.factories import STARTED, point, small
from trainables.config import digest
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.spec.yaml_file import dump_spec

Cli = Callable[..., Result]
MANY = 10_000
MOST_BYTES = 15_000_000


def test_a_page_is_written(cli: Cli, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    done = cli("report", small(tmp_path).folder.path, "--output", output)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"{output}: 4.")
    assert "p30_w4_a8" in output.read_text()


@pytest.mark.parametrize(
    "records", [[], [make_record(0, point(0.3, 2), state="invalid")]], ids=["empty", "failures only"]
)
def test_there_need_not_be_a_result(records: list[TrialRecord], cli: Cli, tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, records, tables=False)
    assert cli("report", folder.path, "--output", tmp_path / "page.html").code == 0


def test_no_experiment_is_one_line(cli: Cli, tmp_path: Path) -> None:
    done = cli("report", tmp_path)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "is no experiment" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "0"], "--port 0 is for --watch"),
        (["--format", "svg"], "--format svg is for --figures"),
        (["--figures", "f", "--failures", "p50_w4_a8"], "--failures adds to the page"),
    ],
)
def test_an_option_without_its_fellow_is_refused(options: list[str], said: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("report", small(tmp_path).folder.path, *options)
    assert (done.code, said in done.err) == (2, True)


def test_one_thing_at_a_time(cli: Cli, tmp_path: Path) -> None:
    folder = small(tmp_path).folder
    for more in (["--watch", "--figures", "f"], ["--output", "r.html", "--watch"], ["--output", "r", "--figures", "f"]):
        done = cli("report", folder.path, *more)
        assert (done.code, "choose one of them" in done.err) == (2, True)


def test_where_a_trial_errs_is_a_section(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trial_section(folder: ExperimentFolder, name: str) -> tuple[str, str]:
        return f"Errors of <{name}>", f"<p>these, of {folder.path.name}</p>"

    monkeypatch.setattr("tune_app.mistakes.section.trial_section", trial_section)
    output = tmp_path / "page.html"
    more = ["--failures", "p30_w4_a8", "--failures", "p0_w8_a8"]
    assert cli("report", small(tmp_path).folder.path, "--output", output, *more).code == 0
    page = output.read_text()
    assert page.count("<p>these, of toy</p>") == 2
    assert "Errors of &lt;p30_w4_a8&gt;" in page


def test_figures_are_files(cli: Cli, tmp_path: Path) -> None:
    needs_chromium()
    target = tmp_path / "figures"
    done = cli("report", small(tmp_path).folder.path, "--figures", target, "--format", "svg")
    assert done.code == 0
    assert done.out.splitlines() == [str(target / name) for name in (
        "pareto.svg", "parallel.svg", "hypervolume-trials.svg", "hypervolume-training.svg", "sizes.svg", "timeline.svg",
        "failures.svg",
    )]  # fmt: skip
    assert {file.suffix for file in target.iterdir()} == {".svg"}


def test_without_a_browser_figures_are_refused(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/no/such/browser")
    done = cli("report", small(tmp_path).folder.path, "--figures", tmp_path / "figures")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "BROWSER_PATH" in done.err


def test_a_search_is_followed_until_ctrl_c(start_python: Callable[..., Any], tmp_path: Path) -> None:
    process = start_python("-m", "tune_app", "report", small(tmp_path).folder.path, "--watch")
    line = process.stderr.readline()
    url = line.split()[0]
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{url}version") as answer:
        assert len(answer.read()) == 16
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0


def test_ten_thousand_trials(cli: Cli, tmp_path: Path) -> None:
    folder, output = many_trials(tmp_path), tmp_path / "page.html"
    done = cli("report", folder.path, "--output", output)
    assert (done.code, done.err) == (0, "")
    assert output.stat().st_size < MOST_BYTES
    assert f"{MANY:,} of {MANY:,}" in output.read_text()


def many_trials(storage: Path) -> ExperimentFolder:
    """MANY records, written without waiting for the disk; one in forty failed."""
    space = {"prune_frac": {"low": 0.0, "high": 0.9, "step": 0.001}, "w_bits": [2, 3, 4, 5, 6, 8], "a_bits": [4, 8]}
    spec = make_spec(storage, space=space, budget={"trials": MANY})
    folder = ExperimentFolder(spec.folder)
    (storage / "toy" / "trials").mkdir(parents=True)
    (storage / "toy" / "experiment.yaml").write_text(dump_spec(spec))
    store_baseline(folder)
    for number in range(MANY):
        record = _record(number)
        body = record.model_dump(mode="json")
        content = json.dumps({"schema": 1, "sha256": digest(body), "record": body})
        (storage / "toy" / "trials" / f"{record.assignment.trial_id}.json").write_text(content)
    return folder


def _record(number: int) -> TrialRecord:
    step, rest = divmod(number, 12)
    p, w, a = step / 1000, (2, 3, 4, 5, 6, 8)[rest // 2], (4, 8)[rest % 2]
    wobble = (7919 * number % 1000 - 500) / 50_000
    accuracy = round(0.95 - 0.2 * p**2 - 0.5 / 2**w - 0.3 / 2**a + wobble, 4)
    failed = {"state": "invalid"} if number % 40 == 0 else {}
    record = make_record(number, point(p, w, a), accuracy, int(1e6 * (1 - p) * w / 32) + 3000 + a, **failed)  # type: ignore[arg-type]
    return record.model_copy(update={"started_at": (STARTED + timedelta(seconds=number)).isoformat()})


def test_a_report_is_html_and_nothing_else(cli: Cli, tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    done = cli("report", folder.path, "--output", tmp_path / "report.pdf")
    assert (done.code, done.out) == (2, "")
    assert "a report is an .html file" in done.err
    assert not (tmp_path / "report.pdf").exists()
