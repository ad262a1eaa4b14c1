"""Section: a part of the page with a heading."""

from dataclasses import dataclass

from tune_app.report.figure import Figure


@dataclass(frozen=True)
class Section:
    """A part of the page: a heading, words, figures, then a fragment of HTML.

    This is how other modules add to a report: they hand sections of their own to `page.render` or
    `build.write_report`. Names of sections and of figures must not be taken already.
    """

    name: str
    """The name of the section's place in the page; lower-case letters and dashes."""
    title: str
    figures: tuple[Figure, ...] = ()
    words: str = ""
    """What the section says, as plain text."""
    html: str = ""
    """HTML that is put in as it is: what comes from data must be escaped; images are `data:` URIs, and no scripts."""
