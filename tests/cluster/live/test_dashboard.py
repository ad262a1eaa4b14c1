"""Ray's dashboard in a browser: it asks for the token and then shows the jobs by their names."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import chromium
from tests.cluster.live.conftest import Shown
from tests.conftest import Result

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
