"""The figure of a frontier as an image (matplotlib is imported on use)."""

import dataclasses
import io
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trainables.errors import ConfigError
from trainables.storage import StoragePath, refuse_folder, replace
from tune_app.drawing.axis import UNITS, Axis
from tune_app.drawing.frontier_info import STANDINGS, FrontierInfo, Mark
from tune_app.drawing.palette import COLORS, GRAY, INK
from tune_app.drawing.sheet import Drawing, drawn
from tune_app.terminal.progress import doing

SIZE_IN, DPI = (12.0, 8.0), 100
"""1200 × 800 pixels, which fill a page or a slide."""
STYLE = {"svg.hashsalt": "tune-app", "font.size": 12, "axes.unicode_minus": False, "text.parse_math": False}


def save_frontier_plot(info: FrontierInfo, path: StoragePath) -> None:
    """Writes the figure, 1200 × 800 px; the suffix chooses PNG or SVG. The same data give the same bytes.

    Raises:
        ConfigError: another suffix.
        StorageUnavailable: the file cannot be written.
    """
    _save(path, lambda figure: _draw(info, figure))


def save_comparison_plot(infos: Mapping[str, FrontierInfo], path: StoragePath) -> None:
    """Writes one figure with the frontiers of several experiments with the same objectives, a .png or .svg file.

    `infos` has each under the name that tells it from the others.

    Raises:
        ConfigError, StorageUnavailable: as in `save_frontier_plot`.
    """
    _save(path, lambda figure: _draw_comparison(infos, figure))


def _save(path: StoragePath, draw: Callable[[Any], None]) -> None:
    """Draws a figure, and writes it in the format that the suffix names."""
    suffix = path.suffix.lower()
    refuse_folder(path, such_as="frontier.png")
    if suffix not in {".png", ".svg"}:
        raise ConfigError(f"a figure is a .png or .svg file, but got {str(path)!r}: name one, such as frontier.png.")
    stream = io.BytesIO()
    with doing("drawing"), drawn(Drawing(draw, *SIZE_IN), facecolor="white", dpi=DPI, style=STYLE) as figure:
        figure.savefig(stream, format=suffix[1:], metadata={"Date": None} if suffix == ".svg" else {})
    replace(path, stream.getvalue())


def _draw(info: FrontierInfo, figure: Any) -> None:
    feasible = len(info.dominated) + len(info.frontier)
    title = f"{info.experiment}: {len(info.frontier)} of {feasible} trials on the frontier"
    axes = _axes(figure, "\n".join(filter(None, (title, info.caveat))), info.x, info.y)
    if not info.tried and not info.refused:
        axes.text(0.5, 0.5, "no complete trial yet", transform=axes.transAxes, ha="center", va="center", color=INK)
    _draw_points(info, axes)
    _finish(axes)
    _draw_labels(info, figure, axes)


def _draw_comparison(infos: Mapping[str, FrontierInfo], figure: Any) -> None:
    title = " and ".join(f"{name} ({len(info.frontier)})" for name, info in infos.items())
    first = next(iter(infos.values()))
    x = dataclasses.replace(first.x, log=any(info.x.log for info in infos.values()))
    y = dataclasses.replace(first.y, log=any(info.y.log for info in infos.values()))
    mark = "".join(f"\n{name}: {info.caveat}" for name, info in infos.items() if info.caveat)
    axes = _axes(figure, f"frontiers of {title}{mark}", x, y)
    for i, ((name, info), marker) in enumerate(zip(infos.items(), itertools.cycle("os^D"), strict=False)):
        color = COLORS[i % len(COLORS)]
        _line(info, axes, color=color, linewidth=1.6)
        name = f" {name}" if name.startswith("_") else name  # matplotlib's legends leave out what begins so
        _scatter(axes, info.frontier, label=name, color=color, marker=marker, s=90, edgecolors=INK, zorder=3)
        if info.baseline:
            star = f"{name}: {info.baseline.label}, fp32"
            _scatter(axes, [info.baseline], label=star, color=color, s=260, marker="*", edgecolors=INK, zorder=3)
    _finish(axes)


def _axes(figure: Any, title: str, x: Axis, y: Axis) -> Any:
    """Returns empty axes with their scales and names."""
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.grid(color="#E4E4E4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _scale(axes.xaxis, axes.set_xscale, x)
    _scale(axes.yaxis, axes.set_yscale, y)
    axes.set_xlabel(f"{_named(x)}   {'←' if x.direction == 'minimize' else '→'} better")
    axes.set_ylabel(f"{_named(y)}   {'↓' if y.direction == 'minimize' else '↑'} better")
    return axes


def _named(axis: Axis) -> str:
    """Returns the name of an axis whose ticks have their units."""
    return f"{axis.column.title} (log scale)" if axis.log else axis.column.title


def _draw_points(info: FrontierInfo, axes: Any) -> None:
    _scatter(axes, info.dominated, label="dominated", color=GRAY, s=36)
    _scatter(axes, info.infeasible, label=STANDINGS["infeasible"], color=GRAY, s=36, marker="x")
    for standing, marks in info.refused.items():
        x, y = info.placed(marks)
        style = {"s": 40, "marker": "v", "facecolors": "none", "edgecolors": COLORS[5]}
        axes.scatter(
            [v * info.x.divisor for v in x], [v * info.y.divisor for v in y], label=STANDINGS[standing], **style
        )
    _line(info, axes, color=INK, linewidth=1.2)
    for i, bits in enumerate(sorted({p.w_bits for p in info.frontier}, key=lambda b: b or 0)):
        members = [p for p in info.frontier if p.w_bits == bits]
        name = "frontier" if bits is None else f"frontier, {bits}-bit weights"
        _scatter(axes, members, label=name, color=COLORS[i % len(COLORS)], s=90, edgecolors=INK, zorder=3)
    if info.baseline:
        name = f"{info.baseline.label}, fp32"
        _scatter(axes, [info.baseline], label=name, color=INK, s=260, marker="*", zorder=3)


def _scatter(axes: Any, points: Sequence[Mark], **style: Any) -> None:
    if points:
        axes.scatter([p.x for p in points], [p.y for p in points], **style)


def _line(info: FrontierInfo, axes: Any, **style: Any) -> None:
    """Draws the border of what is reached: between two members, the worse value of each holds."""
    if info.stepped and info.frontier:
        steps = "steps-post" if info.x.direction == "minimize" else "steps-pre"
        axes.plot([m.x for m in info.frontier], [m.y for m in info.frontier], drawstyle=steps, zorder=2, **style)


def _finish(axes: Any) -> None:
    """Leaves room around the points, and names what is drawn, if anything is."""
    axes.margins(0.08)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", frameon=False)


def _draw_labels(info: FrontierInfo, figure: Any, axes: Any) -> None:
    """Names the frontier's members; a name that would cover one already written, or a marker, is left out."""
    figure.draw_without_rendering()
    pixels = axes.transData.transform([(point.x, point.y) for point in info.frontier] or np.empty((0, 2)))
    taken = np.c_[pixels - 5, pixels + 5]
    corners = (((-7, 7), {"ha": "right", "va": "bottom"}), ((7, -7), {"ha": "left", "va": "top"}))
    for point, place in zip(info.frontier, pixels, strict=True):
        for offset, side in corners:
            # Every name covers the pixel at its corner; of thousands few fit, and it takes long to lay out the others.
            pixel = np.sort([at := place + np.array(offset) * figure.dpi / 72, at + np.sign(offset)], axis=0)
            if _overlaps(pixel.ravel(), taken):
                continue
            text = axes.annotate(point.label, (point.x, point.y), offset, textcoords="offset points", size=10, **side)
            extent = text.get_window_extent()
            if axes.bbox.count_contains(extent.corners()) == 4 and not _overlaps(extent.extents, taken):
                taken = np.r_[taken, [extent.extents]]
                break
            text.remove()


def _overlaps(box: np.ndarray, others: np.ndarray) -> bool:
    """Whether a box, (4,), lies over one of others, (n, 4): left, bottom, right, top."""
    apart = (box[:2] >= others[:, 2:]) | (box[2:] <= others[:, :2])
    return bool((~apart.any(axis=1)).any())


def _scale(axis: Any, set_scale: Any, info: Axis) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter, PercentFormatter

    if info.log:
        set_scale("log")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_formatter(NullFormatter())
    if info.column.kind == "share":
        axis.set_major_formatter(PercentFormatter(xmax=1, symbol=" %"))
    elif info.column.kind in UNITS:
        written = EngFormatter(unit="B" if info.column.kind == "bytes" else "")
        axis.set_major_formatter(FuncFormatter(lambda value, _: written(value).replace("kB", "KB")))
    elif info.log:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
