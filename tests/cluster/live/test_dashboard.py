"""Ray's dashboard in a browser: it asks for the token and then shows the jobs by their names."""

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from cluster.local_cluster import free_port
from tests.browser import chromium, require
from tests.cluster.live.conftest import Shown
from tests.cluster.live.test_demo import wait_for
from tests.conftest import Result
from tune_app.ledger.ledger import Ledger

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.ray
Cli = Callable[..., Result]


@pytest.fixture
def page() -> Iterator["Page"]:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(120_000)
        yield page


def test_the_jobs_page_shows_our_submission(cli: Cli, page: "Page", shown: Shown, tmp_path: Path) -> None:
    told = cli("dashboard", "--address", shown.cluster.address)
    assert told.out == f"{shown.cluster.address}\n"
    page.goto(f"{told.out.strip()}/#/jobs")
    token = page.get_by_placeholder("Enter your authentication token")
    token.fill(shown.cluster.token_file.read_text())
    token.press("Enter")
    page.get_by_text("demo-1", exact=True).first.wait_for()
    page.screenshot(path=tmp_path / "jobs.png")
    text = page.inner_text("body")
    assert "SUCCEEDED" in text
    assert "python -m tune_app run spec.yaml" in text


def test_the_page_of_a_job_lists_trials_by_their_names(page: "Page", shown: Shown, tmp_path: Path) -> None:
    page.goto(f"{shown.cluster.address}/#/jobs/demo-1")
    token = page.get_by_placeholder("Enter your authentication token")
    token.fill(shown.cluster.token_file.read_text())
    token.press("Enter")
    page.get_by_text("Task Table").first.click()
    page.get_by_text("TrialWorker.train").first.wait_for()  # the function of a task, beside its name
    page.screenshot(path=tmp_path / "job.png", full_page=True)
    text = page.inner_text("body")
    labels = {record.assignment.label for record in Ledger(shown.folder.trials).read()[0]}
    assert [label for label in labels if f"\t{label}\t" in text]  # it shows ten tasks at a time
    assert f"tune-app report {shown.folder.path} --watch" in text


def test_prometheus_is_started_for_it_and_ends_with_the_command(
    start_python: Callable[..., "subprocess.Popen[str]"], shown: Shown
) -> None:
    require(shutil.which("prometheus"), "prometheus (apt-get install prometheus)")
    places = {name: f"http://localhost:{free_port()}" for name in ("RAY_PROMETHEUS_HOST", "RAY_GRAFANA_HOST")}
    command = ("-m", "tune_app", "dashboard", "--metrics", "--address", shown.cluster.address)
    process = start_python(*command, **places)
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(3)]
    prometheus = places["RAY_PROMETHEUS_HOST"]
    assert said[:2] == [f"{shown.cluster.address}\n", f"Prometheus: {prometheus}, started\n"], process.communicate()
    assert said[2].startswith("Grafana: none runs" if shutil.which("grafana") is None else "Grafana: ")
    read = f"{prometheus}/api/v1/targets?state=active"
    wait_for(lambda: any(t["health"] == "up" for t in requests.get(read, timeout=30).json()["data"]["activeTargets"]))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err.splitlines()[-1]) == (0, "", "Ctrl-C ends what was started")
    with pytest.raises(requests.ConnectionError):
        requests.get(read, timeout=30)
