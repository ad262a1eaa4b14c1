"""The browser of the tests of this folder."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser import chromium
from tests.tune_app.report.visits import Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser


# Not of the session: while Playwright runs, its event loop keeps others from starting theirs.
@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """One for a file of tests."""
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: "Browser") -> Iterator[Visit]:
    """A page of its own, as wide as a desk's screen."""
    opened = Visit(browser)
    yield opened
    opened.page.close()
