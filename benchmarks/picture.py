"""The picture of the README: accuracy against bytes of public networks, ours beside other tools' files and papers.

    python -m benchmarks.picture

It draws what the files under benchmarks/results say, and measures nothing. Accuracies are those of the whole test set;
other tools' files count as zstd leaves them.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tune_app.drawing.palette import BLUE as OURS
from tune_app.drawing.palette import GRAY, GREEN, INK, ORANGE, VERMILION
from tune_app.drawing.sheet import Drawing, to_png

RESULTS = Path("benchmarks/results")
TFLITE_BYTES, TARGET = 98_496, 85.0
"""MLPerf Tiny's reference int8 file of ResNet-8, and the accuracy in percent that the benchmark asks for."""
WEIGHTS, EDGE_WEIGHTS = 268_336, 1_072
"""The weights of ResNet-20, and those of its first and last layer, which papers keep at 8 bits."""
PAPERS = {
    "PACT": ("v", {4: 91.3, 3: 91.1, 2: 89.7}),
    "LQ-Nets": ("s", {3: 91.6, 2: 90.2}),
    "APoT": ("^", {4: 92.3, 3: 92.2, 2: 91.0}),
}
"""Accuracies in percent that papers give for ResNet-20 with equal bits in weights and activations, after 200 epochs and
more (Choi et al., arXiv 1805.06085; Zhang et al., arXiv 1807.10029; Li et al., arXiv 1909.13144)."""
TICKS_KB = (15, 20, 30, 40, 60, 80, 100, 150)
TOOLS = {"Brevitas": ORANGE, "PT2E": GREEN}
"""Those whose files are small enough to be seen beside ours."""


@dataclass(frozen=True)
class Panel:
    """A network: its name, its accuracy in float32 in percent, and the searches and rows that are told of it."""

    network: str
    title: str
    float_accuracy: float
    searches: tuple[str, ...]
    epochs: int
    """The most of any of their points."""


PANELS = (
    Panel(
        "MLPerf Tiny ResNet-8", "MLPerf Tiny's ResNet-8", 87.19, ("mlperf_tiny_resnet8_bits", "mlperf_tiny_resnet8"), 9
    ),
    Panel("ResNet-20", "ResNet-20", 91.73, ("resnet20_low_bits", "resnet20_frontier"), 15),
)


def searched(panel: Panel) -> list[tuple[float, float]]:
    """Returns bytes and accuracy of the points of a panel's searches: the means of both halves of the test set."""
    names = ["size_bytes", "accuracy_mean", "test_accuracy_mean"]
    files = [RESULTS / name / "frontier.parquet" for name in panel.searches]
    rows = [row for file in files if file.exists() for row in pq.read_table(file, columns=names).to_pylist()]
    return sorted((row[names[0]], 50 * (row[names[1]] + row[names[2]])) for row in rows)


def compared(panel: Panel, tool: str) -> list[tuple[float, float]]:
    """Returns bytes and accuracy of a tool's files in the comparison of quantization-aware training."""
    file = RESULTS / "qat.json"
    rows = json.loads(file.read_text())["figures"].get(panel.network, []) if file.exists() else []
    return sorted(
        (min(row["size_bytes"], row["zstd_bytes"]), 100 * row["accuracy"])
        for row in rows
        if row.get("tool") == tool and "accuracy" in row
    )


def paper_bytes(bits: int) -> float:
    """Returns the bytes that a paper's bits take by themselves, without steps, biases and a header."""
    return ((WEIGHTS - EDGE_WEIGHTS) * bits + EDGE_WEIGHTS * 8) / 8


def draw(figure: Any) -> None:
    """Draws the panels side by side on a matplotlib figure."""
    for axes, panel in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        _draw_panel(axes, panel)


def _draw_panel(axes: Any, panel: Panel) -> None:
    axes.axhline(panel.float_accuracy, color=GRAY, linewidth=1, linestyle="--")
    axes.text(0.99, panel.float_accuracy, "float32", color=INK, ha="right", va="bottom", transform=_beside(axes))
    plot = partial(axes.plot, linestyle="none", markersize=7)
    for tool, color in TOOLS.items():
        if points := compared(panel, tool):
            plot(*zip(*points, strict=True), marker="D", color=color, label=f"{tool}, 2 epochs")
    if ours := searched(panel):
        front = [point for place, point in enumerate(ours) if all(point[1] > less[1] for less in ours[:place])]
        axes.plot(*zip(*front, strict=True), color=OURS)
        plot(*zip(*ours, strict=True), marker="o", color=OURS, label=f"ours, at most {panel.epochs} epochs")
    if panel.network == "ResNet-20":
        for name, (marker, found) in PAPERS.items():
            points = [(paper_bytes(bits), accuracy) for bits, accuracy in found.items()]
            plot(*zip(*points, strict=True), marker=marker, color=GRAY, label=f"{name}, the bits alone")
    else:
        axes.axvline(TFLITE_BYTES, color=VERMILION, linewidth=1, linestyle=":")
        axes.text(TFLITE_BYTES, 0.02, "int8 TFLite file ", ha="right", va="bottom", transform=_above(axes))
        axes.axhline(TARGET, color=GRAY, linewidth=1, linestyle=":")
        axes.text(0.99, TARGET, "MLPerf Tiny's target", ha="right", va="bottom", transform=_beside(axes))
    axes.set(
        xscale="log", xlabel="kilobytes of the file", ylabel="accuracy on CIFAR-10's test set, %", title=panel.title
    )
    axes.set_xlim(14_000, 160_000)
    axes.set_xticks([1_000 * size for size in TICKS_KB], [str(size) for size in TICKS_KB])
    axes.set_xticks([], minor=True)
    axes.set_ylim(panel.float_accuracy - 5.5, panel.float_accuracy + 2)
    axes.legend(loc="lower right", fontsize=8, bbox_to_anchor=(1, 0.08))


def _beside(axes: Any) -> Any:
    """Places a text across the axes, at a value."""
    return axes.get_yaxis_transform()


def _above(axes: Any) -> Any:
    """Places a text along the axes' height, at a value."""
    return axes.get_xaxis_transform()


def main(arguments: Sequence[str] | None = None) -> int:
    """Draws and writes the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/public_networks.png"))
    options = parser.parse_args(arguments)
    options.output.write_bytes(to_png(Drawing(draw, width_in=11, height_in=4.6)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
