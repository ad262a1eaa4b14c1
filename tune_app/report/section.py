"""Section: a part of the page with a heading."""

from dataclasses import dataclass

from tune_app.report.figure import Figure


@dataclass(frozen=True)
class Section:
    """A heading, words, figures, then a fragment of HTML.

    This is how other modules add to a report: they hand sections of their own to `page.render` or
    `build.write_report`. Names of sections and of figures must not be taken already.
    """

    name: str
    """Of its place in the page; lower-case letters and dashes."""
    title: str
    figures: tuple[Figure, ...] = ()
    words: str = ""
    """Plain text."""
    html: str = ""
    """Put in as it is, so what comes from data in it must be escaped; images as `data:` URIs, no scripts."""
