"""What all figures share: a sheet to draw on, colours, names that fit, an image in its place (matplotlib on use)."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tune_app.plots import COLOURS, GREY, INK

BLUE, ORANGE = COLOURS[0], COLOURS[5]
GRID, EDGE = "#E4E4E4", "#D0D0D0"
NAME_CHARS, LABEL_CHARS = 16, 48
DPI = 120
STYLE = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.unicode_minus": False,
    "text.parse_math": False,  # a class may be called "$"
}


def to_png(draw: Callable[[Any], None], *, width_in: float, height_in: float) -> bytes:
    """A PNG of what `draw` puts on a matplotlib figure; the same drawing gives the same bytes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        draw(figure)
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
    return stream.getvalue()


def title(figure: Any, text: str) -> None:
    """Heads a figure, from its left edge."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=12)


def clean(axes: Any, *, grid: str = "") -> None:
    """Leaves the frame out; `grid` is x, y, both or nothing."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(color=GRID, linewidth=0.8, axis=grid)


def percent_axis(axis: Any) -> None:
    """Shares as whole percents."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))


def count_axis(axis: Any) -> None:
    """Whole numbers, to both sides of zero."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):g}"))


def short(name: str, chars: int = NAME_CHARS) -> str:
    """A name that fits beside a figure."""
    return name if len(name) <= chars else f"{name[: chars - 1]}…"


def blend(colour: str, strength: np.ndarray) -> np.ndarray:
    """From white (0) to a colour (1), (…, 3): one hue, its lightness falls evenly."""
    from matplotlib.colors import to_rgb

    mixed: np.ndarray = 1 - np.asarray(strength)[..., None] * (1 - np.array(to_rgb(colour)))
    return mixed


def text_colour(background: Sequence[float] | np.ndarray) -> str:
    """What can be read on a colour (WCAG relative luminance)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in background]
    return INK if float(np.dot([0.2126, 0.7152, 0.0722], linear)) > 0.25 else "white"


def picture(pixels: np.ndarray) -> np.ndarray:
    """(C, S, S) uint8 → (S, S, 3) uint8: colour as it is, else the mean of the channels as grey."""
    if len(pixels) == 3:
        return pixels.transpose(1, 2, 0)
    grey = pixels.mean(0).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


__all__ = [
    "BLUE",
    "EDGE",
    "GREY",
    "INK",
    "LABEL_CHARS",
    "ORANGE",
    "blend",
    "clean",
    "count_axis",
    "percent_axis",
    "picture",
    "short",
    "text_colour",
    "title",
    "to_png",
]
