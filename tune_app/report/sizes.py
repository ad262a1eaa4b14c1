"""Where the bytes of the frontier's packed files go."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tune_app.drawing.palette import CYCLE
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure, escaped, names_axis
from tune_app.terminal.quantities import show_size

MOST = 16
"""Points that are shown; of more, so many are spread evenly over the frontier, as their names need room."""
OTHER = "other"
LABEL_CHARS = 28
"""Characters of a label beside its bar; a longer one would take the room of the bars."""
T = TypeVar("T")


@dataclass(frozen=True)
class SizesInfo:
    """Bytes by part, the largest part first, of some points of the frontier in its order; `of` are there."""

    labels: tuple[str, ...]
    parts: dict[str, tuple[int, ...]]
    of: int


def sizes_info(contents: Contents) -> SizesInfo:
    """Returns the measured breakdown of each file; parts beyond the six largest are one, and a file without any is."""
    groups = spread(contents.frontier, MOST)
    measured = [group.first.result.measurement for group in groups]
    parted = [m for m in measured if m is not None]
    files = [Counter(m.size_breakdown if any(m.size_breakdown.values()) else {OTHER: m.size_bytes}) for m in parted]
    total: Counter[str] = Counter()
    for parts in files:
        total.update(parts)
    kept = names = [name for name, _ in total.most_common()]
    if len(names) > len(CYCLE):
        kept = [name for name in names if name != OTHER][: len(CYCLE) - 1]
    rest = [name for name in names if name not in kept]
    found = {name: tuple(parts[name] for parts in files) for name in kept}
    if rest:
        found[OTHER] = tuple(sum(parts[name] for name in rest) for parts in files)
    labels = tuple(contents.label(contents.row_of(group)) for group in groups)
    return SizesInfo(labels, found, len(contents.frontier))


def draw_sizes(info: SizesInfo) -> Figure:
    """Draws a bar for each point, the smallest file on top."""
    totals, bars = _totals(info), list(map(escaped, info.labels))
    unit, divisor = ("MB", 1e6) if max(totals, default=0) >= 1e7 else ("KB", 1e3)
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": escaped(part),
            "y": bars,
            "x": [round(size / divisor, 4) for size in sizes],
            "text": [
                f"{show_size(size)}, {100 * size / total:.1f} %" for size, total in zip(sizes, totals, strict=True)
            ],
            "textposition": "none",
            "hovertemplate": f"%{{y}}<br>{escaped(part)}: %{{text}}<extra></extra>",
            "marker": {"color": color, "line": {"color": "@surface", "width": 0.5}},
        }
        for (part, sizes), color in zip(info.parts.items(), CYCLE, strict=False)
    ]
    layout = {
        "barmode": "stack",
        "bargap": 0.3,
        "xaxis": {"title": {"text": f"packed file ({unit})"}, "tickformat": ",~r"},
        "yaxis": {"type": "category", **names_axis(bars, info.labels, LABEL_CHARS)},
        "legend": {"traceorder": "normal"},  # of stacked bars plotly would turn it around
    }
    height = 110 + 26 * max(2, len(info.labels))
    return Figure("sizes", "Where the bytes go", _words(info), data, layout, height=height)


def spread(items: Sequence[T], most: int) -> list[T]:
    """Returns at most so many of a sequence, evenly spaced, both ends among them."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)]


def _totals(info: SizesInfo) -> list[int]:
    return [sum(sizes[i] for sizes in info.parts.values()) for i in range(len(info.labels))]


def _words(info: SizesInfo) -> str:
    if not info.labels:
        return "No point is on the frontier yet."
    totals, (largest, sizes) = _totals(info), next(iter(info.parts.items()))
    shares = [size / total for size, total in zip(sizes, totals, strict=True)]
    shown = f"{len(info.labels)} of {info.of} frontier points" if len(info.labels) < info.of else "All frontier points"
    ends = dict.fromkeys(f"{100 * share:.0f} %" for share in (min(shares), max(shares)))
    most = "" if largest == OTHER else f" {largest.capitalize()} are {' to '.join(ends)} of a file."
    return f"{shown}, by parts of the packed file.{most}"
