"""How much training each way to search needs: all replayed on tables of real trials, in simulated time.

    python -m benchmarks.search.replay

A table is what `tune-app run benchmarks/search/table.yaml`, or another spec there, writes as trials.parquet: every
point of a grid at every rung. A method's figure is the training seconds until its frontier has 95 % and 99 % of the
hypervolume that the whole grid has; medians and quartiles over seeds. It is measured in each table, for each set of
objectives and number of workers.

Each run is kept in a file of its own under `--folder`, and is not computed again while that is there: a replay that was
cut off goes on. After a change of a method its files, or the folder, must be removed.
"""

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import write_report
from benchmarks.search import policies
from benchmarks.search.fitted import errors
from benchmarks.search.policies import Make
from benchmarks.search.settings import (
    OURS,
    SHARES,
    Setting,
    cell_table,
    oracle,
    oracle_line,
    plot,
    summary,
    times,
    verdict,
)
from benchmarks.search.simulator import Trace, simulate
from benchmarks.search.table import Table, continued, shortened
from benchmarks.search.tables import HERE, MODELED, OBJECTIVES, TABLES, open_table, read_table
from trainables.results import SCORES

FIRST = "grid in order, no cache"


class Run(NamedTuple):
    """One search of one method."""

    setting: Setting
    method: str
    seed: int

    @property
    def file(self) -> str:
        """Where its trace is kept, in the folder."""
        named = "_".join([*map(str, self.setting), self.method])
        return f"{''.join(c if c.isalnum() else '_' for c in named)}_{self.seed}.json"


@dataclass(frozen=True)
class Method:
    """A policy, and whether its trials share stages."""

    make: Make
    cache: bool
    seeded: bool = True
    continued: bool = False
    """A trial that goes on to a higher rung goes on from its checkpoint."""
    advised_by: Callable[[Setting], Table] | None = None
    """Where the search ran before whose trials it takes over."""


def other_network(setting: Setting) -> Table:
    """The table of a network of another kind, on other images."""
    return open_table(TABLES[setting.table].other_network, setting.objectives)


def shorter_schedule(setting: Setting) -> Table:
    """The same network, whose full schedule is what the highest rung below trains."""
    return shortened(open_table(setting.table, setting.objectives))


METHODS = {
    FIRST: Method(policies.ordered, cache=False, seeded=False),
    "grid shuffled, no cache": Method(policies.shuffled, cache=False),
    "grid shuffled, our cache": Method(policies.shuffled, cache=True),
    "random, our cache": Method(policies.uniform, cache=True),
    "Ray OptunaSearch TPE, no cache": Method(policies.ray_tpe, cache=False),
    "Ray OptunaSearch TPE, our cache": Method(policies.ray_tpe, cache=True),
    "Ray OptunaSearch NSGA-II, our cache": Method(policies.ray_nsga2, cache=True),
    "Ray OptunaSearch multivariate TPE, our cache": Method(policies.ray_multivariate_tpe, cache=True),
    "Ray OptunaSearch GP, our cache": Method(policies.ray_gp, cache=True),
    "BoTorch qLogNEHVI, our cache": Method(policies.BoTorch, cache=True),
    "Syne Tune MO-ASHA, our cache": Method(policies.MoAsha, cache=True, continued=True),
    "ours, every trial in full": Method(policies.in_full, cache=True),
    "ours, warm start from another network": Method(policies.warm_started, cache=True, advised_by=other_network),
    "ours, warm start from a shorter schedule": Method(policies.warm_started, cache=True, advised_by=shorter_schedule),
    OURS: Method(policies.ours, cache=True),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Replays, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=100, help="0 to 79 chose the defaults of the product")
    parser.add_argument("--workers", type=int, nargs="+", default=[4, 1, 16, 64])
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--max-jobs", type=int, default=1_000, help="trials after which a search is given up")
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--kept", action="store_true", help="run nothing: report the methods whose runs are all kept")
    parser.add_argument("--folder", type=Path, default=Path("runs") / "search", help="where each run is kept")
    parser.add_argument("--output", type=Path, default=HERE.parent / "results" / "search")
    options = parser.parse_args(arguments)
    settings = [Setting(*each) for each in itertools.product(options.tables, options.objectives, options.workers)]
    traces = replay_all(settings, options)
    parts, ratios, figures = [], [], {}
    for setting in settings:
        table, found = open_table(setting.table, setting.objectives), traces[setting]
        seconds, walls = times(found, table, Trace.seconds_to), times(found, table, Trace.wall_to)
        least = {share: oracle(table, share) for share in SHARES}
        parts += [f"## {setting.title}", cell_table(seconds, walls), oracle_line(least)]
        if absent := [name for name in _methods(setting, options) if name not in found]:
            parts.append(f"Not run: {', '.join(absent)}")
        ratios += [verdict(seconds, setting, share, least[share]) for share in SHARES]
        figures[", ".join(map(str, setting))] = {"training_s": seconds, "wall_s": walls}
    text = "\n\n".join([about(settings, options), *summary(ratios), *parts])
    print(text)
    write_report(options.output, title="Training to the frontier", text=text, data=figures)
    first = settings[0]
    plot(traces[first], open_table(first.table, first.objectives), options.output.with_suffix(".png"))


def replay_all(settings: Sequence[Setting], options: argparse.Namespace) -> dict[Setting, dict[str, list[Trace]]]:
    """The traces of each setting and method, one per seed, on all cores: simulated time does not notice."""
    options.folder.mkdir(parents=True, exist_ok=True)
    runs = [Run(s, name, seed) for s in settings for name in _methods(s, options) for seed in _seeds(name, options)]
    if options.kept:
        absent = {(run.setting, run.method) for run in runs if not (options.folder / run.file).exists()}
        runs = [run for run in runs if (run.setting, run.method) not in absent]
    found: dict[Setting, dict[str, list[Trace]]] = {s: {} for s in settings}
    with ProcessPoolExecutor(max_workers=options.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        traces = pool.map(functools.partial(kept, options=options), runs)
        for run, trace in zip(runs, traces, strict=True):
            found[run.setting].setdefault(run.method, []).append(trace)
            print(f"{run.setting.title}: {run.method}, seed {run.seed}: {trace.jobs} jobs", file=sys.stderr, flush=True)
    return found


def _methods(setting: Setting, options: argparse.Namespace) -> list[str]:
    """Those that were asked for; trials of another network are to be had for some tables only."""
    has_other = bool(TABLES[setting.table].other_network)
    return [name for name in options.only if has_other or METHODS[name].advised_by is not other_network]


def _seeds(name: str, options: argparse.Namespace) -> range:
    count = options.seeds if METHODS[name].seeded else 1
    return range(options.first_seed, options.first_seed + count)


def kept(run: Run, options: argparse.Namespace) -> Trace:
    """The trace of a run, from its file or from a replay."""
    file: Path = options.folder / run.file
    if file.exists():
        return Trace.of_json(json.loads(file.read_text()))
    table, method = open_table(run.setting.table, run.setting.objectives), METHODS[run.method]
    if method.continued:
        table = continued(table)
    earlier = [method.advised_by(run.setting)] if method.advised_by else []
    trace = simulate(
        method.make(table, run.seed, *earlier),
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


def about(settings: Sequence[Setting], options: argparse.Namespace) -> str:
    """What was replayed."""
    lines = [
        f"{options.seeds} seeds, from {options.first_seed} on; a search that has not arrived after "
        f"{options.max_jobs:,} trials never does. Our cache was lent to every rival of which it is said; a ratio is "
        "that of medians, and the best rival is the best of those that have run in its cell. The cells of a table are "
        "training seconds of all workers together, with quartiles, and the seconds on the clock."
    ]
    for name in dict.fromkeys(setting.table for setting in settings):
        tables = [open_table(name, objectives) for objectives in options.objectives]
        corners = {metric: value for table in tables for metric, value in table.reference.items()}
        shown = ", ".join(f"{metric} {value:,g}" for metric, value in corners.items())
        lines.append(f"{name}: {len(tables[0].points):,} points; reference point: {shown}.")
        if TABLES[name].sampled:
            lines.append(sampled(read_table(name)))
    return " ".join(lines)


def sampled(table: Table) -> str:
    """How well models of a sample foretell the points of its space."""
    found = [
        f"{metric} at {rung}: {100 * error.median:.2g} {'points' if metric in SCORES else '%'}, rank correlation "
        f"{error.rank_correlation:.3f}"
        for rung, each in errors(table, MODELED).items()
        for metric, error in each.items()
    ]
    return (
        f"{len(table.cells) // len(table.spec.rungs)} of them were evaluated, and models of those foretell all. Median "
        f"differences where nine tenths foretell the others: {'; '.join(found)}."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
