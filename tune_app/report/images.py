"""Figures as PNG or SVG files, drawn by a Chromium of the system (kaleido is imported on use)."""

import asyncio
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from trainables.errors import ConfigError
from trainables.storage import StoragePath, refuse_file, replace
from tune_app.drawing.palette import painted
from tune_app.report.figure import Figure, merged
from tune_app.terminal.progress import track

Format = Literal["png", "svg"]
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
)
WIDTH, PNG_SCALE = 1000, 2.0
"""Pixels of an image's width as in the page, and the factor for PNG files, so that print is sharp."""
HEAD_PX, ROW_PX = 64, 20
"""Room of the title with one row of names below it, and of each further row."""
LETTER_PX, SYMBOL_PX, SIDES_PX = 7.0, 55, 100
"""Widths of a letter of a name, of its symbol, and of what stands left and right of the names."""
LIMIT_S = 90.0
"""Seconds after which a browser that draws one figure is taken as hung."""


def find_browser() -> str:
    """Returns the browser that BROWSER_PATH names, or the first known one on the path.

    Raises:
        ConfigError: there is none.
    """
    named = os.environ.get("BROWSER_PATH", "")
    if named:
        if not os.access(named, os.X_OK) or not Path(named).is_file():
            raise ConfigError(f"BROWSER_PATH must name a browser's program, but is {named!r}: correct it or unset it.")
        return named
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        raise ConfigError(
            "figures are drawn by Chromium or Chrome, and there is none on the path: install one "
            "(apt-get install chromium), or name its program in BROWSER_PATH."
        )
    return found


def write_images(figures: Sequence[Figure], target: StoragePath, form: Format, *, caveat: str = "") -> list[str]:
    """Draws every figure that shows something into a folder and returns the names of the files.

    A caveat stands in the title of each.

    Raises:
        ConfigError: the target is a file, there is no browser, or it does not draw.
        StorageUnavailable: the folder cannot be written.
    """
    refuse_file(target)
    shown = [figure for figure in figures if figure.data]
    if not shown:
        return []
    browser = find_browser()
    with tempfile.TemporaryDirectory(prefix="tune-app-figures-") as scratch:
        files = [Path(scratch) / f"{figure.name}.{form}" for figure in shown]
        _draw([_order(*order, form, caveat) for order in zip(shown, files, strict=True)], browser)
        for file in files:
            replace(target / file.name, file.read_bytes())
    return [file.name for file in files]


def _order(figure: Figure, path: Path, form: Format, caveat: str) -> dict[str, Any]:
    """Returns a figure as kaleido takes it: in light colors, with its title, since no page says it."""
    spec = figure.spec(WIDTH)
    text = f"{figure.title} ({caveat})" if caveat else figure.title
    title = {"text": text, "x": 0.01, "xanchor": "left", "font": {"size": 17}}
    above = HEAD_PX + ROW_PX * (_legend_rows(spec["data"]) - 1)
    layout = merged(spec["layout"], {"title": title, "margin": {"t": spec["layout"]["margin"]["t"] + above}})
    layout["title"] |= {"yref": "container", "y": 1, "yanchor": "top", "pad": {"t": 16}}
    height = spec["layout"]["height"] + above
    return {
        "fig": painted({"data": spec["data"], "layout": {**layout, "height": height, "width": WIDTH}}, "light"),
        "path": str(path),
        "opts": {"format": form, "width": WIDTH, "height": height, "scale": PNG_SCALE if form == "png" else 1},
    }


def _legend_rows(data: Sequence[dict[str, Any]]) -> int:
    """Returns the rows of names above a figure, whose columns are as wide as the longest name; 1 for none."""
    names = [str(trace["name"]) for trace in data if trace.get("name") and trace.get("showlegend", True)]
    widest = SYMBOL_PX + LETTER_PX * max(map(len, names), default=0)
    return max(1, math.ceil(len(names) / max(1, int((WIDTH - SIDES_PX) / widest))))


def _draw(orders: Sequence[dict[str, Any]], browser: str) -> None:
    """Draws all figures with one browser, without MathJax, which kaleido would fetch from the network."""
    try:
        import kaleido
    except ImportError as err:
        raise ConfigError("figures need the package kaleido: pip install 'tune-app[figures]'.") from err

    async def draw() -> None:
        async with kaleido.Kaleido(path=browser, mathjax=False, timeout=LIMIT_S) as pages:
            for order in track(orders, "figures", total=len(orders)):
                await pages.write_fig_from_object(order, cancel_on_error=True)

    try:
        with ThreadPoolExecutor(max_workers=1) as pool:  # a notebook's own thread runs an event loop already
            pool.submit(asyncio.run, draw()).result()
    except Exception as err:
        problem = next(iter(str(err).splitlines()), "") or type(err).__name__
        raise ConfigError(f"{browser} does not draw ({problem[:200]}): name another browser in BROWSER_PATH.") from err
