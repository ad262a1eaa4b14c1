"""A drawing as SVG inside a page: in the page's colors, light or dark, and with letters that can be selected."""

import hashlib
import io
import re
from collections.abc import Callable

from tune_app.drawing.palette import GRAY, INK
from tune_app.drawing.sheet import EDGE, GRID, PAPER, STYLE, Drawing, drawn

PX_PER_IN = 96
"""Pixels of an inch on a page, as CSS defines them."""
ROLES = {INK: "ink", GRAY: "muted", GRID: "line", EDGE: "line", PAPER: "surface"}
"""Colors of a drawing that are those of the page; the others look right on both papers."""
NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def to_svg(drawing: Drawing, *, text: str) -> str:
    """Returns an `svg` element, named by a text; the same drawing gives the same element.

    Its letters are in the page's font, and its colors are the page's variables (`--ink`, `--muted`, `--line`,
    `--surface`), or those of a light page where there are none. Names inside it are its own, so that a page may hold
    many.
    """
    stream = io.StringIO()
    with drawn(drawing, facecolor="none", style=STYLE | {"svg.fonttype": "none", "svg.hashsalt": "tune-app"}) as figure:
        figure.savefig(stream, format="svg", metadata=NO_METADATA)
    content = re.split(r"<svg[^>]*>", stream.getvalue(), maxsplit=1)[1]
    content = re.sub(r"<style.*?</style>|<!--.*?-->|<metadata>.*?</metadata>", "", content, flags=re.S)
    own = _own_names(content)
    # What stands between the tags is text, whatever it looks like.
    content = re.sub(
        "<[^>]+>", lambda tag: re.sub(r"font-family: [^;\"]*; ", "", _in_page_colors(own(tag[0]))), content
    )
    width, height = round(PX_PER_IN * drawing.width_in), round(PX_PER_IN * drawing.height_in)
    box = f"0 0 {72 * drawing.width_in:g} {72 * drawing.height_in:g}"
    return f'<svg role="img" aria-label="{text}" width="{width}" height="{height}" viewBox="{box}">{content}'


def _own_names(content: str) -> Callable[[str], str]:
    """Returns what lets names in a tag that something refers to begin with a digest of the drawing; the others go."""
    known = set(re.findall(r'(?:href="|url\()#([^")]+)', content))
    own = hashlib.sha256(content.encode()).hexdigest()[:8]

    def change(tag: str) -> str:
        tag = re.sub(r' id="([^"]+)"', lambda found: f' id="{own}-{found[1]}"' if found[1] in known else "", tag)
        return re.sub(r'(href="|url\()#', rf"\g<1>#{own}-", tag)

    return change


def _in_page_colors(content: str) -> str:
    names = {color.lower(): f"var(--{role}, {color})" for color, role in ROLES.items()}
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: names.get(found[0], found[0]), content)
