"""An analysis as a section of an HTML page: no script, no network, nothing that reaches out of the section."""

import html

from tune_app.drawing.inline_svg import to_svg
from tune_app.ledger.folder import ExperimentFolder
from tune_app.mistakes.analysis import Analysis, analyze, predictions
from tune_app.mistakes.figures import figures
from tune_app.mistakes.rows import NAMES, class_rows, confusion_rows, group_rows, mutual_rows
from tune_app.mistakes.subject import trial_subject
from tune_app.mistakes.text import headline
from tune_app.report.templates import fill
from tune_app.terminal.progress import counting, track

LIMIT = 20
"""Rows of a table in the page; report.txt has them all."""


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
    content = fill(
        "mistakes/section.html.j2",
        headline=headline(analysis),
        tables={
            "Classes": class_rows(analysis),
            "Top confusions": confusion_rows(analysis),
            "Mutual confusions: both directions together": mutual_rows(analysis),
            "Errors by group": group_rows(analysis),
        },
        figures=[
            (figure.text, to_svg(figure.drawing, text=html.escape(figure.text)))
            for figure in track(found, "figures", total=len(found))
        ],
        limit=LIMIT,
        names=NAMES,
    )
    return f"Errors of {analysis.about.label}", content
