"""How much training each way to search needs: all replayed on one table of real trials, in simulated time.

    python -m benchmarks.search.replay

The table is what `tune-app run benchmarks/search/table.yaml` writes as trials.parquet: every point of a grid at
every rung. A method's figure is the training seconds until its frontier has 95 % and 99 % of the hypervolume that
the whole grid has; medians and quartiles over seeds. It is measured for each set of objectives and number of workers.

Each run is kept in a file of its own under `--folder`, and is not computed again while that is there: a replay that was
cut off goes on. After a change of a method its files, or the folder, must be removed.
"""

import argparse
import dataclasses
import functools
import json
import math
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.report import markdown_table, write_report
from benchmarks.search import policies
from benchmarks.search.policies import Make
from benchmarks.search.simulator import Trace, simulate
from benchmarks.search.table import Table, load_table
from trainables.results import METRICS
from tune_app.spec.yaml_file import load_spec

HERE = Path(__file__).parent
SHARES = (0.95, 0.99)
FIRST, OURS = "grid in order, no cache", "ours"
OBJECTIVES = {
    "bytes": ("accuracy", "size_bytes"),
    "bops": ("accuracy", "bops"),
    "memory": ("accuracy", "size_bytes", "peak_activation_bytes"),
}
"""What a frontier is made of, by name."""
BAR = 0.7
BARS = {("bytes", 4): 0.5}
"""Most of the best rival's training that ours may need, in a cell, or else in any."""
Seconds = Mapping[str, Mapping[float, Sequence[float]]]
"""Seconds of each seed, by method and share of the hypervolume."""


class Setting(NamedTuple):
    """A cell of the benchmark: what is searched for, and on how many workers."""

    objectives: str
    workers: int

    @property
    def title(self) -> str:
        """What it is, in words."""
        workers = "worker" if self.workers == 1 else "workers"
        return f"{', '.join(OBJECTIVES[self.objectives])}; {self.workers} {workers}"


class Run(NamedTuple):
    """One search of one method."""

    setting: Setting
    method: str
    seed: int

    @property
    def file(self) -> str:
        """Where its trace is kept, in the folder."""
        method = "".join(c if c.isalnum() else "_" for c in self.method)
        return f"{self.setting.objectives}_{self.setting.workers}_{method}_{self.seed}.json"


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
    "ours, every trial in full": Method(policies.in_full, cache=True),
    OURS: Method(policies.ours, cache=True),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Replays, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--table", type=Path, default=HERE.parent / "results" / "search_table.parquet")
    parser.add_argument("--spec", type=Path, default=HERE / "table.yaml")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=100, help="0 to 79 chose the defaults of the product")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 1, 16, 64])
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--max-jobs", type=int, default=1_000, help="trials after which a search is given up")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--folder", type=Path, default=Path("runs") / "search", help="where each run is kept")
    parser.add_argument("--output", type=Path, default=HERE.parent / "results" / "search")
    options = parser.parse_args(arguments)
    tables = {name: judged_by(load_table(options.table, load_spec(options.spec)), name) for name in options.objectives}
    settings = [Setting(name, workers) for name in options.objectives for workers in options.workers]
    traces = replay_all(tables, settings, options)
    parts, ratios, figures = [], [], {}
    for setting in settings:
        table, found = tables[setting.objectives], traces[setting]
        seconds, walls = times(found, table, Trace.seconds_to), times(found, table, Trace.wall_to)
        parts += [f"## {setting.title}", cell_table(seconds, walls), oracle_line(table)]
        ratios += [verdict(seconds, setting, share, oracle(table, share)) for share in SHARES]
        figures[f"{setting.objectives}, {setting.workers}"] = {"training_s": seconds, "wall_s": walls}
    text = "\n\n".join([about(tables, options), *summary(ratios), *parts])
    print(text)
    write_report(options.output, title="Training to the frontier", text=text, data=figures)
    plot(traces[settings[0]], tables[settings[0].objectives], options.output.with_suffix(".png"))


def judged_by(table: Table, objectives: str) -> Table:
    """The same trials under other objectives; nobody wants what costs as much as 8 bits without pruning."""
    names = OBJECTIVES[objectives]
    full = [cell.row for (_, rung), cell in table.cells.items() if rung == "full" and cell.row["state"] == "complete"]
    corner = {name: table.reference.get(name, max(float(row[name]) for row in full)) for name in names}
    spec = table.spec.model_copy(update={"objectives": {name: METRICS[name].better for name in names}})
    return dataclasses.replace(table, spec=spec, reference=corner)


def replay_all(
    tables: Mapping[str, Table], settings: Sequence[Setting], options: argparse.Namespace
) -> dict[Setting, dict[str, list[Trace]]]:
    """The traces of each setting and method, one per seed, on all cores: simulated time does not notice."""
    options.folder.mkdir(parents=True, exist_ok=True)
    runs = [Run(s, name, seed) for s in settings for name in options.only for seed in _seeds(name, options)]
    found: dict[Setting, dict[str, list[Trace]]] = {s: {name: [] for name in options.only} for s in settings}
    with ProcessPoolExecutor(max_workers=options.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        traces = pool.map(functools.partial(kept, tables=tables, options=options), runs)
        for run, trace in zip(runs, traces, strict=True):
            found[run.setting][run.method].append(trace)
            print(f"{run.setting.title}: {run.method}, seed {run.seed}: {trace.jobs} jobs", file=sys.stderr, flush=True)
    return found


def _seeds(name: str, options: argparse.Namespace) -> range:
    count = options.seeds if METHODS[name].seeded else 1
    return range(options.first_seed, options.first_seed + count)


def kept(run: Run, tables: Mapping[str, Table], options: argparse.Namespace) -> Trace:
    """The trace of a run, from its file or from a replay."""
    file: Path = options.folder / run.file
    if file.exists():
        return Trace.of_json(json.loads(file.read_text()))
    table, method = tables[run.setting.objectives], METHODS[run.method]
    trace = simulate(
        method.make(table, run.seed),
        table,
        workers=run.setting.workers,
        cache=method.cache,
        target=max(SHARES) * table.volume,
        max_jobs=options.max_jobs,
    )
    begun = file.with_suffix(".begun")
    begun.write_text(json.dumps(trace.to_json()) + "\n")
    begun.replace(file)
    return trace


def times(traces: Mapping[str, Sequence[Trace]], table: Table, when: Callable[[Trace, float], float]) -> Seconds:
    """The seconds of each method and seed to each share of the volume."""
    return {
        name: {share: [when(trace, share * table.volume) for trace in found] for share in SHARES}
        for name, found in traces.items()
    }


def about(tables: Mapping[str, Table], options: argparse.Namespace) -> str:
    """What was replayed."""
    table = next(iter(tables.values()))
    corners = {metric: value for each in tables.values() for metric, value in each.reference.items()}
    shown = ", ".join(f"{metric} {value:,g}" for metric, value in corners.items())
    return (
        f"{len(table.points)} points, {options.seeds} seeds, from {options.first_seed} on; a search that has not "
        f"arrived after {options.max_jobs:,} trials never does. Reference point: {shown}. Our cache was lent to every "
        "rival of which it is said; a ratio is that of medians. The cells of a table are training seconds of all "
        "workers together, with quartiles, and the seconds on the clock."
    )


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
    heads = ["cell", "to", "ours, s", "best rival, s", "which", "ratio", "bar", "oracle to best rival", "behind"]
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
