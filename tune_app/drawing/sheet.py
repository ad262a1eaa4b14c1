"""The sheet that all matplotlib figures are drawn on: its style, names that fit, images (matplotlib on use)."""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tune_app.drawing.palette import COLORS, INK

BLUE, ORANGE = COLORS[0], COLORS[5]
PAPER, GRID, EDGE = "#FEFEFE", "#E4E4E4", "#D0D0D0"
NAME_CHARS, LABEL_CHARS = 16, 48
"""Letters of a name beside a figure and of a trial's label above it: more of them would push the figure aside."""
DPI = 120
"""Pixels per inch: sharp on a screen, and small enough for a page with many figures."""
MOST_PIXELS = 96
"""Pixels along a side of an image that is shown; larger ones are made smaller, since a page may hold dozens."""
OUTSIDE = {"textcoords": "offset points", "annotation_clip": False}
"""How a note is placed that may lie outside the axes."""
STYLE = {
    "font.size": 11,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$"
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.unicode_minus": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "hatch.color": INK,
}


@dataclass(frozen=True)
class Drawing:
    """A function that draws on a matplotlib figure, and the size of that figure."""

    draw: Callable[[Any], None]
    width_in: float
    height_in: float


def to_png(drawing: Drawing) -> bytes:
    """Returns a drawing on white as PNG; the same drawing gives the same bytes."""
    stream = io.BytesIO()
    with drawn(drawing, facecolor="white") as figure:
        figure.savefig(stream, format="png")
    return stream.getvalue()


@contextmanager
def drawn(drawing: Drawing, *, facecolor: str, dpi: int = DPI, style: Mapping[str, Any] = STYLE) -> Iterator[Any]:
    """Yields a matplotlib figure with the drawing on it, while its style holds."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (drawing.width_in, drawing.height_in)
    with rc_context(dict(style)), warnings.catch_warnings():
        # A name of a class may have letters that matplotlib's own font has not.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=size, dpi=dpi, layout="constrained", facecolor=facecolor)
        FigureCanvasAgg(figure)
        drawing.draw(figure)
        yield figure


def title(figure: Any, text: str) -> None:
    """Heads a figure, from its left edge."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=12)


def clean(axes: Any, *, grid: str = "") -> None:
    """Removes the frame of axes, and draws a grid along x, y, both or neither."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(color=GRID, linewidth=0.8, axis=grid)


def percent_axis(axis: Any) -> None:
    """Writes the shares along an axis as whole percents."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(xmax=1, decimals=0, symbol=" %"))


def count_axis(axis: Any) -> None:
    """Writes counts along an axis, to both sides of zero, as whole numbers without a sign."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):g}"))


def short(name: str, chars: int = NAME_CHARS) -> str:
    """Returns a name, cut where it would not fit beside a figure."""
    return name if len(name) <= chars else f"{name[: chars - 1]}…"


def tint(color: str, strength: np.ndarray) -> np.ndarray:
    """Returns a color from invisible (0) to opaque (1), (…, 4): on any paper one hue, which grows evenly."""
    from matplotlib.colors import to_rgb

    strength = np.asarray(strength)
    return np.concatenate([np.broadcast_to(to_rgb(color), (*strength.shape, 3)), strength[..., None]], axis=-1)


def picture(pixels: np.ndarray) -> np.ndarray:
    """Turns (C, S, S) uint8 into (S, S, 3) uint8: color as it is, else the mean of the channels as gray."""
    shown = pixels if len(pixels) == 3 else np.repeat(pixels.mean(0, keepdims=True).round().astype(np.uint8), 3, axis=0)
    shown = shown.transpose(1, 2, 0)
    if shown.shape[0] <= MOST_PIXELS:
        return shown
    from PIL import Image

    return np.asarray(Image.fromarray(shown).resize((MOST_PIXELS, MOST_PIXELS), Image.Resampling.BOX))
