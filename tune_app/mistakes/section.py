"""An analysis as a section of an HTML page: no script, no network, nothing that reaches out of the section."""

import html
from collections.abc import Iterable, Sequence

from tune_app.drawing.inline_svg import to_svg
from tune_app.ledger.folder import ExperimentFolder
from tune_app.mistakes.analysis import Analysis, analyze, predictions
from tune_app.mistakes.figures import Figure, figures
from tune_app.mistakes.rows import NAMES, Row, class_rows, confusion_rows, group_rows
from tune_app.mistakes.subject import trial_subject
from tune_app.mistakes.text import headline
from tune_app.terminal.progress import counting, track

LIMIT = 20
"""Rows of a table in the page; report.txt has them all."""
# What is wider than the screen scrolls by itself, with the keyboard as well.
STYLE = """
.failures figure { margin: 1.5rem 0; }
.failures figcaption { margin-bottom: .5rem; font-weight: 600; }
.failures .scroll { overflow-x: auto; }
.failures figure .scroll { padding: .7rem .8rem; }
.failures svg { display: block; max-width: 100%; min-width: 42rem; height: auto; stroke-linejoin: round; }
.failures table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.failures th, .failures td { padding: .2rem .7rem .2rem 0; text-align: right; white-space: nowrap; }
.failures .name { text-align: left; }
.failures thead th { border-bottom: 1px solid currentColor; }
"""


def trial_section(folder: ExperimentFolder, name: str) -> tuple[str, str]:
    """Returns the title and the HTML of a trial's mistakes beside the baseline's, by label or id of the trial.

    Raises:
        ConfigError, CorruptFile: as in `trial_subject` and `analyze`.
    """
    subject = trial_subject(folder, name)
    with counting(f"predictions of {subject.about.label}", total=predictions(subject)) as advance:
        analysis = analyze(subject, advance=advance)
    return section(analysis)


def section(analysis: Analysis) -> tuple[str, str]:
    """Returns a title, which is plain text, and an HTML fragment, in which everything is escaped."""
    found = figures(analysis)
    parts = [
        f'<div class="failures"><style>{STYLE}</style>',
        *(f"<p>{html.escape(line)}</p>" for line in headline(analysis)),
        _table("Classes", class_rows(analysis)),
        _table("Top confusions", confusion_rows(analysis)),
        _table("Errors by group", group_rows(analysis)),
        *(_figure(figure) for figure in track(found, "figures", total=len(found))),
        "</div>",
    ]
    return f"Errors of {analysis.about.label}", "\n".join(parts)


def _table(title: str, rows: Sequence[Row]) -> str:
    """Returns the first rows as HTML, under a head that says how many there are; nothing without a row."""
    head, *body = rows
    if not body:
        return ""
    names = [name in NAMES for name in head]
    caption = title if len(body) <= LIMIT else f"{title}, {LIMIT} of {len(body):,}"
    return (
        f'<h3>{html.escape(caption)}</h3><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{html.escape(caption)}"><table><thead><tr>{_cells(head, names, "th")}</tr></thead><tbody>'
        + "".join(f"<tr>{_cells(row, names, 'td')}</tr>" for row in body[:LIMIT])
        + "</tbody></table></div>"
    )


def _cells(cells: Row, names: Iterable[bool], tag: str) -> str:
    scope = ' scope="col"' if tag == "th" else ""
    kinds = (' class="name"' if name else "" for name in names)
    return "".join(f"<{tag}{scope}{kind}>{html.escape(c)}</{tag}>" for c, kind in zip(cells, kinds, strict=True))


def _figure(figure: Figure) -> str:
    text = html.escape(figure.text)
    return (
        f'<figure><figcaption>{text}</figcaption><div class="scroll" tabindex="0" role="region" aria-label="{text}">'
        f"{to_svg(figure.drawing, text=text)}</div></figure>"
    )
