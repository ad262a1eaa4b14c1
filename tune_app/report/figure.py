"""Figure: what plotly draws, with the words for those who cannot see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FONT = "-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"


@dataclass(frozen=True)
class Figure:
    """One figure in plotly's terms, with its words.

    Colors are names of the palette (`@ink`). In a linked figure `customdata` of a trace names a trial's row for each
    point: the page hides the points whose rows are filtered out, and says what a point is when it is hovered.
    """

    name: str
    """The name of the figure's file; lower-case letters and dashes."""
    title: str
    words: str
    """What the figure shows, in a sentence or two."""
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    height: int = 420
    least_width: int = 0
    """The width in pixels below which the figure scrolls."""
    linked: bool = False
    choices: Mapping[str, Any] | None = None
    """For the figure of the chosen trial, what the page's script draws of other choices."""
    most: int | None = None
    """For a linked figure, rows that are drawn at once; of more the frontier and an even choice of the others."""

    def spec(self) -> dict[str, Any]:
        """The figure in plotly's terms: the layout that all figures share, and what is this one's own."""
        return {"data": list(self.data), "layout": merged(_shared(self.height), self.layout)}


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with what `more` says, branch by branch."""
    found = dict(base)
    for key, value in more.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found


def escaped(text: str) -> str:
    """Returns text for a place where plotly reads tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut(text: str, chars: int) -> str:
    """Returns a name of at most so many letters, with its middle left out."""
    return text if len(text) <= chars else f"{text[: chars // 2]}…{text[len(text) - (chars - 1) // 2 :]}"


def _shared(height: int) -> dict[str, Any]:
    axis = {
        "gridcolor": "@grid",
        "linecolor": "@grid",
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 12, "font": {"size": 13, "color": "@muted"}},
    }
    return {
        "height": height,
        "autosize": True,
        "font": {"family": FONT, "size": 12, "color": "@ink"},
        "paper_bgcolor": "@surface",
        "plot_bgcolor": "@surface",
        "margin": {"l": 56, "r": 16, "t": 12, "b": 48},
        "xaxis": axis,
        "yaxis": axis,
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "hoverlabel": {
            "bgcolor": "@surface",
            "bordercolor": "@muted",
            "font": {"family": FONT, "color": "@ink", "size": 12},
            "align": "left",
        },
        "hovermode": "closest",
        "dragmode": "zoom",
        "uirevision": "keep",
    }
