"""Metric: how a measured column is written, in text and along an axis."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_app.spec.experiment import Direction, ExperimentSpec
from tune_app.terminal.quantities import show_ratio, show_share, show_size

LOG_SPAN = 10.0
"""An axis of bytes or counts whose values span more than this is logarithmic."""
SHARES = {
    "accuracy",
    "accuracy_drop",
    "accuracy_fine_tuned",
    "accuracy_pruned",
    "accuracy_sparsified",
    "accuracy_trained",
    "prune_frac",
    "prune_frac_achieved",
    "prune_frac_requested",
    "sparsity",
    "sparsity_achieved",
    "sparsity_reached",
    "sparsity_requested",
    "test_accuracy",
    "test_accuracy_mean",
    "test_accuracy_sd",
}
TITLES = {
    "accuracy": "accuracy (validation split)",
    "accuracy_drop": "accuracy below the baseline's",
    "accuracy_pruned": "accuracy after pruning, before fine-tuning",
    "accuracy_fine_tuned": "accuracy after pruning and fine-tuning",
    "accuracy_sparsified": "accuracy after sparsifying",
    "accuracy_trained": "accuracy after quantization",
    "size_bytes": "size of the packed file",
    "compression_ratio": "compression ratio",
    "parameters": "parameters",
    "macs": "multiply-accumulates",
    "bops": "bit operations",
    "activation_bytes": "activations of an image",
    "peak_activation_bytes": "peak activations of an image",
    "prune_frac_requested": "share of channels to remove",
    "prune_frac_achieved": "share of channels removed",
    "sparsity_requested": "sparsity requested of the stage",
    "sparsity_reached": "sparsity reached by the stage",
    "sparsity_achieved": "sparsity",
}
SHORT = {
    "accuracy_drop": "drop",
    "accuracy_pruned": "pruned accuracy",
    "accuracy_fine_tuned": "fine-tuned accuracy",
    "accuracy_sparsified": "sparsified accuracy",
    "accuracy_trained": "quantized accuracy",
    "prune_frac_requested": "pruning requested",
    "prune_frac_achieved": "pruned",
    "sparsity_requested": "sparsity requested",
    "sparsity_reached": "sparsity reached",
    "stopped_early": "stopped early",
    "size_bytes": "size",
    "compression_ratio": "ratio",
    "macs": "MACs",
    "bops": "BOPs",
    "activation_bytes": "activations",
    "peak_activation_bytes": "peak activations",
    "sparsity_achieved": "sparsity",
}


def show(name: str, value: float) -> str:
    """A value as people write it: `97.77 %`, `296 KB`, `10.3x`, `1,644,048`."""
    if name in SHARES:
        return show_share(value)
    if name.endswith("_bytes"):
        return show_size(value)
    if name == "compression_ratio":
        return show_ratio(value)
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def short(name: str) -> str:
    """A name that fits above a column."""
    return SHORT.get(name, name)


def direction(name: str, spec: ExperimentSpec) -> Direction:
    """Which way is better."""
    upward = name in {"compression_ratio", "sparsity_achieved", "sparsity_reached"} or _is_accuracy(name)
    return spec.objectives.get(name, "maximize" if upward else "minimize")


def _is_accuracy(name: str) -> bool:
    return "accuracy" in name and name != "accuracy_drop"


@dataclass(frozen=True)
class Axis:
    """An axis for one column: what it is divided by, how ticks are written, and whether it is logarithmic."""

    metric: str
    direction: Direction
    title: str
    divisor: float
    tickformat: str
    log: bool

    def scaled(self, value: float) -> float:
        """A value in the axis' unit; six digits say more than any pixel."""
        return float(f"{value / self.divisor:.6g}")

    def layout(self) -> dict[str, Any]:
        """The axis in plotly's terms."""
        arrow = {"maximize": "higher is better", "minimize": "lower is better"}[self.direction]
        found: dict[str, Any] = {
            "title": {"text": f"{self.title} · {arrow}"},
            "tickformat": self.tickformat,
            "automargin": True,
        }
        # Of the digits of a decade, 1, 2 and 5 are written.
        return found | ({"type": "log", "dtick": "D2"} if self.log else {})


def axis_of(name: str, spec: ExperimentSpec, values: Sequence[float]) -> Axis:
    """The axis that suits these values."""
    title, divisor, tickformat = TITLES[name], 1.0, ""
    if name in SHARES:
        tickformat = ".2~%"
    elif name == "compression_ratio":
        tickformat = "~g"
    else:
        unit, divisor = _unit(max(map(abs, values), default=0.0), "B" if name.endswith("_bytes") else "")
        title, tickformat = f"{title}{f' ({unit})' if unit else ''}", ",~r"
    return Axis(
        metric=name,
        direction=direction(name, spec),
        title=title,
        divisor=divisor,
        tickformat=tickformat,
        log=is_log(name, values),
    )


def is_log(name: str, values: Sequence[float]) -> bool:
    """Whether these values are easier to tell apart on a logarithmic axis."""
    positive = name not in SHARES and bool(values) and min(values) > 0
    return positive and max(values) / min(values) > LOG_SPAN


def _unit(largest: float, base: str) -> tuple[str, float]:
    """A power of ten that leaves numbers of one to five digits before the point."""
    words = {0: base, 3: f"K{base}", 6: f"M{base}", 9: f"G{base}", 12: f"T{base}"} if base else _COUNTS
    power = 3 * min(4, max(0, math.floor((math.log10(largest) - 1) / 3))) if largest > 0 else 0
    return words[power], 10.0**power


_COUNTS = {0: "", 3: "thousands", 6: "millions", 9: "billions", 12: "trillions"}
