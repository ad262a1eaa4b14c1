"""How much training each way to search needs: all replayed on one table of real trials, in simulated time.

    python -m benchmarks.search.replay

The table is what `tune-app run benchmarks/search/table.yaml` writes as trials.parquet: every point of a grid at
every rung. A method's figure is the training seconds until its frontier has 95 % and 99 % of the hypervolume that
the whole grid has; medians and quartiles over seeds.
"""

import argparse
import functools
import math
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import markdown_table, write_report
from benchmarks.search import policies
from benchmarks.search.policies import Make
from benchmarks.search.simulator import Trace, simulate
from benchmarks.search.table import Table, load_table
from tune_app.spec.yaml_file import load_spec

HERE = Path(__file__).parent
SHARES = (0.95, 0.99)
BARS = {0.95: (1 / 5, 1 / 2), 0.99: (1 / 3, 1 / 1.5)}
"""Most of the training of the ordered grid, and of the best other method, that ours may need."""
Seconds = Mapping[str, Mapping[float, Sequence[float]]]
"""Training seconds of each seed, by method and share of the hypervolume."""
FIRST, OURS = "grid in order, no cache", "ours"


@dataclass(frozen=True)
class Method:
    """A policy, and whether its trials share stages."""

    make: Make
    cache: bool
    seeded: bool = True
    lent: bool = False
    """Its own users have no such cache: shown, and compared apart, to tell what of the gain is the cache's."""


METHODS = {
    FIRST: Method(policies.ordered, cache=False, seeded=False),
    "grid shuffled, no cache": Method(policies.shuffled, cache=False),
    "grid shuffled, our cache": Method(policies.shuffled, cache=True),
    "random, no cache": Method(policies.uniform, cache=False),
    "random, our cache": Method(policies.uniform, cache=True, lent=True),
    "Ray OptunaSearch TPE, no cache": Method(policies.ray_tpe, cache=False),
    "Ray OptunaSearch TPE, our cache": Method(policies.ray_tpe, cache=True, lent=True),
    "Ray OptunaSearch NSGA-II, no cache": Method(policies.ray_nsga2, cache=False),
    "Ray OptunaSearch NSGA-II, our cache": Method(policies.ray_nsga2, cache=True, lent=True),
    "Ray OptunaSearch multivariate TPE, our cache": Method(policies.ray_multivariate_tpe, cache=True, lent=True),
    "Ray OptunaSearch GP, our cache": Method(policies.ray_gp, cache=True, lent=True),
    "Syne Tune MO-ASHA, our cache": Method(policies.MoAsha, cache=True),
    "ours, TPE and Pareto ranks": Method(policies.ranked, cache=True),
    OURS: Method(policies.ours, cache=True),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Replays, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, default=HERE.parent / "results" / "search_table.parquet")
    parser.add_argument("--spec", type=Path, default=HERE / "table.yaml")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=100, help="0 to 79 chose the defaults of the product")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--max-jobs", type=int, default=1_000, help="trials after which a search is given up")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--output", type=Path, default=HERE.parent / "results" / "search")
    options = parser.parse_args(arguments)
    table = load_table(options.table, load_spec(options.spec))
    traces = replay_all(table, options)
    seconds = {
        name: {share: [t.seconds_to(share * table.volume) for t in found] for share in SHARES}
        for name, found in traces.items()
    }
    text = report(seconds, table, options)
    print(text)
    write_report(options.output, title="Training to the frontier", text=text, data=seconds)
    plot(traces, table, options.output.with_suffix(".png"))


def replay_all(table: Table, options: argparse.Namespace) -> dict[str, list[Trace]]:
    """One trace per seed for each method, on all cores: simulated time does not notice."""
    runs = [(name, seed) for name in options.only for seed in _seeds(name, options)]
    found: dict[str, list[Trace]] = {name: [] for name in options.only}
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        traces = pool.map(functools.partial(replay, table=table, options=options), runs)
        for (name, seed), trace in zip(runs, traces, strict=True):
            found[name].append(trace)
            print(f"{name}, seed {seed}: {trace.jobs} jobs", file=sys.stderr, flush=True)
    return found


def _seeds(name: str, options: argparse.Namespace) -> range:
    count = options.seeds if METHODS[name].seeded else 1
    return range(options.first_seed, options.first_seed + count)


def replay(run: tuple[str, int], table: Table, options: argparse.Namespace) -> Trace:
    """The trace of a method and a seed."""
    name, seed = run
    method = METHODS[name]
    return simulate(
        method.make(table, seed),
        table,
        workers=options.workers,
        cache=method.cache,
        target=max(SHARES) * table.volume,
        max_jobs=options.max_jobs,
    )


def report(seconds: Seconds, table: Table, options: argparse.Namespace) -> str:
    """The table of all methods, what an oracle would need, and whether the bars are met."""
    rows = []
    for name, found in seconds.items():
        cells = [name]
        for share in SHARES:
            low, middle, high = _quartiles(found[share])
            first = seconds[FIRST][share][0] if FIRST in seconds else math.nan
            cells += [_shown(middle), f"{_shown(low)}–{_shown(high)}", _shown(middle / first, digits=3)]
        rows.append(cells)
    heads = [h for s in SHARES for h in (f"s to {100 * s:.0f} %", "quartiles", "× ordered grid")]
    parts = [
        f"{len(table.points)} points, {options.workers} workers, {options.seeds} seeds, from {options.first_seed} on. "
        "Reference point: accuracy "
        f"{100 * table.reference['accuracy']:.0f} %, {table.reference['size_bytes']:,.0f} bytes.",
        markdown_table(["method", *heads], rows),
        *(verdict(seconds, share) for share in SHARES),
        oracle_line(table),
    ]
    return "\n\n".join(part for part in parts if part)


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Of the values themselves, without interpolation: a search that never arrived took infinitely long."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75), method="higher").tolist()
    return low, middle, high


def _shown(value: float, *, digits: int = 0) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "never"


def verdict(seconds: Seconds, share: float) -> str:
    """Ours beside the ordered grid and the best of the others, by medians; apart, beside those that our cache helps."""
    if OURS not in seconds or FIRST not in seconds:
        return ""
    medians = {name: _quartiles(found[share])[1] for name, found in seconds.items()}
    others = [name for name in medians if not name.startswith(OURS)]
    bar_grid, bar_best = BARS[share]
    parts = [
        f"To {100 * share:.0f} %: ours needs {_judged(medians[OURS] / medians[FIRST], bar_grid)} of the ordered grid"
    ]
    for words, lent in (("of the best other", False), ("of the best of those that our cache was lent to", True)):
        candidates = [name for name in others if METHODS[name].lent is lent]
        if candidates:
            best = min(candidates, key=lambda name: medians[name])
            parts.append(f"{_judged(medians[OURS] / medians[best], bar_best)} {words} ({best})")
    return ", ".join(parts) + "."


def _judged(ratio: float, bar: float) -> str:
    return f"{ratio:.3f} (bar {bar:.3f}: {'met' if ratio <= bar else 'missed'})"


def oracle_line(table: Table) -> str:
    """What a search would need that knows the table: greedily the most volume per second of training."""
    found = {share: oracle(table, share) for share in SHARES}
    return "An oracle that knows the table, greedy: " + ", ".join(
        f"{seconds:,.0f} s to {100 * share:.0f} %" for share, seconds in found.items()
    )


def oracle(table: Table, share: float) -> float:
    """Training seconds of a greedy schedule; an upper bound of the least possible."""
    from tune_app.frontier.pareto import hypervolume

    cells = [cell for (_, rung), cell in table.cells.items() if rung == "full" and cell.row["state"] == "complete"]
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


def plot(traces: Mapping[str, Sequence[Trace]], table: Table, path: Path) -> None:
    """Share of the hypervolume against training seconds: medians with quartile bands."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 5))
    longest = max(float(t.training_s[-1]) for found in traces.values() for t in found if len(t.training_s))
    grid = np.geomspace(max(1.0, longest / 1e4), longest, 300)
    for name, found in traces.items():
        shares = np.array([_share_at(trace, grid, table.volume) for trace in found])
        low, middle, high = np.quantile(shares, (0.25, 0.5, 0.75), axis=0)
        [line] = axes.plot(grid, middle, label=name, linewidth=2.5 if name == OURS else 1.2)
        axes.fill_between(grid, low, high, color=line.get_color(), alpha=0.15)
    for share in SHARES:
        axes.axhline(share, color="gray", linewidth=0.6, linestyle=":")
    axes.set(xscale="log", xlabel="training seconds", ylabel="share of the grid's hypervolume", ylim=(0.5, 1.0))
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _share_at(trace: Trace, seconds: np.ndarray, volume: float) -> np.ndarray:
    place = np.searchsorted(trace.training_s, seconds, side="right")
    return np.r_[0.0, trace.volume][place] / volume


if __name__ == "__main__":
    main(sys.argv[1:])
