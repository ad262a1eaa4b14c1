"""The system's Chromium for tests; where it is missing they are skipped, but not in CI."""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def needs_chromium() -> None:
    """Skips without it."""
    require(CHROMIUM, "chromium (apt-get install chromium)")


@contextlib.contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser that is closed at the end."""
    needs_chromium()
    require(importlib.util.find_spec("playwright"), "playwright (dependency group dev)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def require(condition: object, what: str) -> None:
    """Skips where something is not installed; CI must have it."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing")
    pytest.skip(f"{what} is missing")
