"""The page: sections, table and everything that a browser needs, in one file."""

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from tune_app.drawing.palette import PALETTES
from tune_app.ledger.baseline import caveat
from tune_app.report.contents import Contents
from tune_app.report.coordinates import NAME as PARALLEL
from tune_app.report.coordinates import coordinates_info
from tune_app.report.overview import cards, key_findings, status
from tune_app.report.pareto_figure import NAME as PARETO
from tune_app.report.section import Section
from tune_app.report.sections import EXPLORE
from tune_app.report.templates import WEB, fill, script
from tune_app.report.trial_table import packed, trial_columns
from tune_app.terminal.shell import quoted

MEASURED = ("accuracy", "accuracy_mean", "test_accuracy", "size_bytes", "compression_ratio", "seconds")
"""What is said of a hovered point after its parameters."""


def render(contents: Contents, sections: Sequence[Section], *, now: datetime, watch: str = "") -> str:
    """The whole page as HTML, with all sections in their order; `now`, in UTC, is when the contents were read.

    `watch` is the version of the contents, for a page that a server of ours serves: it asks this server, and nobody
    else, for newer ones. Empty: the page asks no network at all.
    """
    plotly, own = (files("plotly") / "package_data" / "plotly.min.js").read_text("utf-8"), script()
    text = fill(
        "report/web/report.html.j2",
        title=contents.spec.name,
        version=version("tune-app"),
        made=now.strftime("%Y-%m-%d %H:%M:%S"),
        status=status(contents),
        caveat=caveat(contents.spec).capitalize(),
        damaged=contents.damaged,
        cards=cards(contents),
        findings=key_findings(contents),
        sections=sections,
        explore=EXPLORE,
        watch=watch,
        policy=_policy([plotly, own], watch=bool(watch)),
        styles=(WEB / "report.css").read_text("utf-8"),
        plotly=plotly,
        script=own,
        data=embedded(_data(contents, sections)),
    )
    # A path may hold bytes that are no UTF-8, which the page has to be.
    return text.encode(errors="backslashreplace").decode()


def embedded(value: object) -> str:
    """JSON for a script element: nothing in it can end the element or start a comment."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _data(contents: Contents, sections: Sequence[Section]) -> dict[str, Any]:
    figures = [figure for section in sections for figure in section.figures if figure.data]
    shown = {figure.name: figure.embedded() for figure in figures}
    assert len(shown) == len(figures), "figures have different names"
    return {
        "columns": packed(trial_columns(contents)),
        "figures": shown,
        "palettes": PALETTES,
        "params": list(contents.spec.space.root),
        "measured": [*MEASURED, *(name for name in contents.spec.objectives if name not in MEASURED)],
        # How a height at an axis of the parallel coordinates becomes a value of the table.
        "dimensions": [
            {name: getattr(dimension, name) for name in ("column", "low", "high", "log", "names")}
            for dimension in coordinates_info(contents).dimensions
        ],
        "folder": quoted(contents.folder.path),
        "by_id": [row for row in range(len(contents.records)) if contents.handle(row) != contents.label(row)],
        # Until a reader chooses another one.
        "chosen": contents.balanced,
        "curves": next((figure.choices for figure in figures if figure.choices), {"name": ""}),
        "explore": EXPLORE,
        "pareto": PARETO,
        "parallel": PARALLEL,
    }


def _policy(scripts: Sequence[str], *, watch: bool) -> str:
    """Returns what the browser may do: run these scripts alone, and reach nothing but our server in a watched page."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{found}'" for found in hashes)
    connect = "'self'" if watch else "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        f"connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
