"""Settings of the benchmark: what is searched for, where, by how many workers; and how each method did there."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import markdown_table
from benchmarks.search.table import Table
from benchmarks.search.tables import OBJECTIVES
from search_spaces.rungs import FULL
from tune_app.frontier.pareto import hypervolume, non_dominated

SHARES = (0.95, 0.99)
OURS = "ours"
BAR = 0.7
BARS = {("digits", "bytes", 4): 0.5}
"""Most of the best rival's training that ours may need, in a setting, or else in any."""
Seconds = Mapping[str, Mapping[float, Sequence[float]]]
"""Seconds of each seed, by method and share of the hypervolume."""


class Setting(NamedTuple):
    """A table and objectives, by their names, and the number of workers."""

    table: str
    objectives: str
    workers: int

    @property
    def title(self) -> str:
        """What it is, in words."""
        workers = "worker" if self.workers == 1 else "workers"
        return f"{self.table}: {', '.join(OBJECTIVES[self.objectives])}; {self.workers} {workers}"


def medians(cells: Mapping[Setting, Seconds]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Each method's seconds by setting and share, as JSON has them: null for never."""
    return {
        ", ".join(map(str, setting)): {
            name: {f"{share:g}": _finite(_quartiles(found[share])[1]) for share in SHARES}
            for name, found in seconds.items()
        }
        for setting, seconds in cells.items()
    }


def _finite(seconds: float) -> float | None:
    return round(seconds, 3) if math.isfinite(seconds) else None


def cell_table(seconds: Seconds, walls: Seconds) -> str:
    """All methods in one setting."""
    rows = []
    for name, found in seconds.items():
        cells = [name]
        for share in SHARES:
            low, middle, high = _quartiles(found[share])
            _, wall, _ = _quartiles(walls[name][share])
            cells += [_shown(middle), f"{_shown(low)}–{_shown(high)}", _shown(wall)]
        rows.append(cells)
    heads = [head for share in SHARES for head in (f"s to {100 * share:.0f} %", "quartiles", "on the clock")]
    return markdown_table(["method", *heads], rows)


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Of the values themselves, without interpolation: a search that never arrived took infinitely long."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), method="higher").tolist()
    return low, middle, high


def _shown(value: float, *, digits: int = 0) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "never"


def summary(verdicts: Sequence[Sequence[str]]) -> list[str]:
    """Ours beside the best rival in every setting."""
    rows = [row for row in verdicts if row]
    heads = ["setting", "to", "ours, s", "best rival, s", "which", "ratio", "bar", "oracle to best rival", "behind"]
    return [markdown_table(heads, rows)] if rows else []


def verdict(seconds: Seconds, setting: Setting, share: float, least: float) -> list[str]:
    """Ours and the best of the others by medians, and those that ours is behind by more than the quartiles of both."""
    rivals = [name for name in seconds if not name.startswith(OURS)]
    if OURS not in seconds or not rivals:
        return []
    quartiles = {name: _quartiles(found[share]) for name, found in seconds.items()}
    low, ours, _ = quartiles[OURS]
    best = min(rivals, key=lambda name: quartiles[name][1])
    theirs = quartiles[best][1]
    bar = BARS.get(setting, BAR)
    behind = [name for name in rivals if quartiles[name][2] < low]
    return [
        setting.title,
        f"{100 * share:.0f} %",
        _shown(ours),
        _shown(theirs),
        best,
        _shown(ours / theirs, digits=2),
        f"{bar:.1f} {'met' if ours <= bar * theirs else 'missed'}",
        _shown(least / theirs, digits=2),
        ", ".join(behind) or "none",
    ]


def oracle_line(least: Mapping[float, float]) -> str:
    """What a search would need that knows the table, in seconds by share: greedily the most volume per second."""
    return "An oracle that knows the table, greedy: " + ", ".join(
        f"{seconds:,.0f} s to {100 * share:.0f} %" for share, seconds in least.items()
    )


def oracle(table: Table, share: float) -> float:
    """Training seconds of a greedy schedule of the frontier's points; an upper bound of the least possible."""
    full = [cell for (_, rung), cell in table.cells.items() if rung == FULL and cell.row["state"] == "complete"]
    front = np.flatnonzero(non_dominated(np.array([table.costs(cell.row) for cell in full])))
    cells = [full[i] for i in front]
    costs = np.array([table.costs(cell.row) for cell in cells])
    paid: set[Any] = set()
    chosen: list[int] = []
    spent, volume = 0.0, 0.0
    while volume < share * table.volume - 1e-12:
        best, rate, gain, price = -1, -1.0, 0.0, 0.0
        for i, cell in enumerate(cells):
            if i in chosen:
                continue
            seconds = sum(s.seconds for s in cell.stages if s.key not in paid)
            gained = min(hypervolume(costs[[*chosen, i]], table.corner), share * table.volume) - volume
            if gained / seconds > rate:
                best, rate, gain, price = i, gained / seconds, gained, seconds
        chosen.append(best)
        paid |= {s.key for s in cells[best].stages}
        spent, volume = spent + price, volume + gain
    return spent


def plot(cells: Mapping[Setting, Seconds], path: Path) -> None:
    """Each method's training in each setting as a multiple of ours, by medians; what never arrives is not drawn."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(name for seconds in cells.values() for name in seconds if not name.startswith(OURS)))
    colors = dict(zip(names, plt.get_cmap("tab20").colors, strict=False))
    figure, panels = plt.subplots(1, len(SHARES), figsize=(12, 1.5 + 0.32 * len(cells)), sharey=True)
    for share, axes in zip(SHARES, panels, strict=True):
        for name in names:
            ratios = [_ratio(seconds, name, share) for seconds in cells.values()]
            axes.plot(ratios, range(len(cells)), "o", color=colors[name], label=name, markersize=6, alpha=0.85)
        axes.axvline(1, color="black", linewidth=1.5)
        axes.grid(axis="y", linewidth=0.3)
        axes.set(xscale="log", title=f"to {100 * share:.0f} % of the hypervolume", xlabel="training seconds, ours = 1")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panels[0].set_yticks(range(len(cells)), [setting.title for setting in cells])
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _ratio(seconds: Seconds, name: str, share: float) -> float:
    """A method's median over ours; not a number where either is missing or never arrived."""
    ours, theirs = (_quartiles(seconds[each][share])[1] if each in seconds else math.inf for each in (OURS, name))
    return theirs / ours if math.isfinite(theirs) and math.isfinite(ours) else math.nan
