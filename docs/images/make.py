"""Makes the pictures of the documentation from experiments: `python docs/images/make.py demo/demo runs/photos`.

Run it in a folder where `tune-app demo` was run, and what the tutorial says. It needs the system's Chromium and the
dependency group dev. What the pictures show is what the commands wrote.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
TRIAL = "p75_w2_a8"
SESSION = ("summary {}", "frontier {}", "pick {} --max-bytes 50KB")
WIDTH = 100
SCHEMES: dict[Literal["light", "dark"], str] = {"light": "report.png", "dark": "report_dark.png"}
# Rich's own template without the web fonts: a picture loads nothing.
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace;
font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""


def terminal(experiment: str) -> None:
    """terminal.svg: a session, with what the commands print on a terminal of this width."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for command in SESSION:
        line = command.format(experiment)
        console.print(Text.assemble(("$ ", "green"), (f"tune-app {line}", "bold")))
        console.print(Text.from_ansi(tune_app(*line.split(), FORCE_COLOR="1")))  # long lines are broken at a word
    console.save_svg(str(HERE / "terminal.svg"), title="tune-app", code_format=SVG, unique_id="session")


def report(experiment: str, work: Path) -> None:
    """report.png and report_dark.png: the top of the report."""
    from playwright.sync_api import sync_playwright

    page_file = work / "report.html"
    tune_app("report", experiment, "--output", str(page_file))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme, name in SCHEMES.items():
            page = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme=scheme)
            page.goto(page_file.as_uri())
            page.wait_for_selector(".js-plotly-plot .main-svg")
            page.wait_for_timeout(1000)  # the figures settle
            page.screenshot(path=HERE / name)
        browser.close()


def confusion(experiment: str, work: Path) -> None:
    """confusion_images.png: of the trial that the tutorial looks at."""
    tune_app("failures", experiment, TRIAL, "--output", str(work / "failures"))
    shutil.copyfile(work / "failures/confusion_images.png", HERE / "confusion_images.png")


def tune_app(*arguments: str, **env: str) -> str:
    """What a command prints, with these environment variables too."""
    command = [sys.executable, "-m", "tune_app", *arguments]
    return subprocess.run(
        command, env={**os.environ, "COLUMNS": str(WIDTH), **env}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


if __name__ == "__main__":
    demo, tutorial = sys.argv[1:]
    with tempfile.TemporaryDirectory() as scratch:
        terminal(demo)
        confusion(tutorial, Path(scratch))
        report(demo, Path(scratch))
