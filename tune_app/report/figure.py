"""Figure: what plotly draws, with the words for those who cannot see it."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tune_app.drawing.frontier_info import Standing

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
    wide: bool = False
    """Whether it takes the whole width of its section."""
    least_width: int = 0
    """The width in pixels below which the figure is drawn upright: with `upright`, and x for y."""
    upright: Mapping[str, Any] | None = None
    """The layout of a figure that is drawn upright."""
    linked: bool = False
    choices: Mapping[str, Any] | None = None
    """For the figure of the chosen trial, what the page's script draws of other choices."""
    most: int | None = None
    """For a linked figure, rows that are drawn at once; of more the frontier and an even choice of the others."""

    def spec(self, width: int | None = None) -> dict[str, Any]:
        """The figure in plotly's terms: the layout that all figures share, and what is this one's own.

        `width` is that of the place where it is drawn, in pixels; None: as wide as it likes.
        """
        if self.upright is not None and width is not None and width < self.least_width:
            data = [{**trace, "x": trace["y"], "y": trace["x"]} for trace in self.data]
            return {"data": data, "layout": self._whole(self.upright)}
        return {"data": list(self.data), "layout": self._whole(self.layout)}

    def embedded(self) -> dict[str, Any]:
        """The figure as a page has it, whose script draws it."""
        upright = None if self.upright is None else self._whole(self.upright)
        own = {"linked": self.linked, "most": self.most, "least_width": self.least_width, "upright": upright}
        return {**self.spec(), **own}

    def _whole(self, layout: Mapping[str, Any]) -> dict[str, Any]:
        axes = ["xaxis", "yaxis", *(name for name in layout if name.startswith("yaxis"))]
        return merged(_shared(self.height, axes), layout)


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `base` with what `more` says, branch by branch."""
    found = dict(base)
    for key, value in more.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return found


def numbered(figures: Iterable[Figure]) -> tuple[Figure, ...]:
    """Returns figures under different names: one whose name an earlier one has gets a number at its end."""
    found: dict[str, Figure] = {}
    for figure in figures:
        names = (figure.name, *(f"{figure.name}-{n}" for n in range(2, len(found) + 2)))
        name = next(name for name in names if name not in found)
        found[name] = replace(figure, name=name)
    return tuple(found.values())


def escaped(text: str) -> str:
    """Returns text for a place where plotly reads tags."""
    return html.escape(text, quote=False)


def cut(text: str, chars: int) -> str:
    """Returns a name of at most so many letters, with its middle left out."""
    return text if len(text) <= chars else f"{text[: chars // 2]}…{text[len(text) - (chars - 1) // 2 :]}"


def guide(x: Sequence[float], y: Sequence[float], **line: Any) -> dict[str, Any]:
    """Returns a line that helps to read a figure: it has no name, and says nothing when it is hovered."""
    quiet = {"hoverinfo": "skip", "showlegend": False}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, **quiet}


def refused_marker(standing: Standing) -> dict[str, Any]:
    """Returns how a point is drawn that was measured and is no result."""
    symbol = {"chance": "triangle-down-open", "invalid": "cross-thin-open"}.get(standing, "x-thin")
    return {"color": "@outside", "size": 8, "symbol": symbol, "line": {"width": 1.5, "color": "@outside"}}


def whole_ticks(most: int) -> dict[str, Any]:
    """Returns ticks at whole numbers up to `most`, also where plotly would put some between."""
    return {"tickformat": "d", **({"dtick": 1} if most <= 12 else {})}


def names_axis(places: Sequence[Any], names: Sequence[str], chars: int) -> dict[str, Any]:
    """Returns an axis with a name at each place, from the top down, cut to so many letters."""
    texts = [f"{escaped(cut(name, chars))}  " for name in names]
    return {"autorange": "reversed", "showgrid": False, "tickvals": places, "ticktext": texts}


def _shared(height: int, axes: Sequence[str]) -> dict[str, Any]:
    axis = {
        "gridcolor": "@grid",
        "linecolor": "@grid",
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 12, "font": {"size": 13, "color": "@muted"}},
    }
    font = {"family": FONT, "size": 12, "color": "@ink"}
    above = {"x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"}
    return {
        "height": height,
        "autosize": True,
        "font": font,
        "paper_bgcolor": "@surface",
        "plot_bgcolor": "@surface",
        "margin": {"l": 56, "r": 28, "t": 12, "b": 48},
        **dict.fromkeys(axes, axis),
        "legend": {"orientation": "h", "font": {"size": 12}, "tracegroupgap": 0, **above},
        "hoverlabel": {"bgcolor": "@surface", "bordercolor": "@muted", "font": font, "align": "left"},
        "hovermode": "closest",
        "dragmode": "zoom",
        "uirevision": "keep",
    }
