"""How much training each way to search needs: all replayed on tables of real trials, in simulated time.

    python -m benchmarks.search.replay

A table is what `tune-app run benchmarks/search/table.yaml`, or another spec there, writes as trials.parquet: every
point of a grid at every rung. A method's figure is the training seconds until its frontier has 95 % and 99 % of the
hypervolume that the whole grid has; medians and quartiles over seeds. It is measured in each table, for each set of
objectives and number of workers.

What each search came to is kept in a table beside the report, and is not computed again: a replay that was cut off goes
on. After a change of a method `--again` forgets what it did before.
"""

import argparse
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import write_report
from benchmarks.search import policies
from benchmarks.search.fitted import errors
from benchmarks.search.policies import Make
from benchmarks.search.runs import Outcome, Run, read_runs, write_runs
from benchmarks.search.settings import (
    OURS,
    SHARES,
    Seconds,
    Setting,
    cell_table,
    medians,
    oracle,
    oracle_line,
    plot,
    summary,
    verdict,
)
from benchmarks.search.simulator import simulate
from benchmarks.search.table import Table, continued, shortened
from benchmarks.search.tables import HERE, MODELED, OBJECTIVES, TABLES, open_table, read_table
from trainables.results import SCORES

FIRST = "grid in order, no cache"
SAVED_EVERY_S = 60
"""As much may be computed again after a kill."""


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
    parser.add_argument("--again", nargs="+", choices=METHODS, default=[], help="replay these also where they are kept")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--kept", action="store_true", help="run nothing: report the methods whose runs are all kept")
    parser.add_argument("--output", type=Path, default=HERE.parent / "results" / "search")
    options = parser.parse_args(arguments)
    settings = [Setting(*each) for each in itertools.product(options.tables, options.objectives, options.workers)]
    known = replay_all(settings, options)
    parts, ratios, cells = [], [], {}
    for setting in settings:
        runs = {name: _runs(setting, name, options) for name in _methods(setting, options)}
        found = {name: [known[run] for run in each] for name, each in runs.items() if known.keys() >= set(each)}
        if options.kept and all(name.startswith(OURS) for name in found):
            parts.append(f"{setting.title}: no rival has run.")
            continue
        table = open_table(setting.table, setting.objectives)
        seconds, walls = times(found, "training_s"), times(found, "wall_s")
        least = {share: oracle(table, share) for share in SHARES}
        parts += [f"## {setting.title}", cell_table(seconds, walls), oracle_line(least)]
        if absent := [name for name in runs if name not in found]:
            parts.append(f"Not run: {'; '.join(absent)}")
        ratios += [verdict(seconds, setting, share, least[share]) for share in SHARES]
        cells[setting] = seconds
    text = "\n\n".join([about(settings, options), *summary(ratios), *parts])
    print(text)
    write_report(options.output, title="Training to the frontier", text=text, data=medians(cells))
    plot(cells, options.output.with_suffix(".png"))


def replay_all(settings: Sequence[Setting], options: argparse.Namespace) -> dict[Run, Outcome]:
    """What all runs came to, those that are kept and new ones, on all cores: simulated time does not notice.

    What is new is written once a minute.
    """
    file = options.output.with_name(f"{options.output.name}_runs.parquet")
    known = {run: outcome for run, outcome in read_runs(file).items() if run.method not in options.again}
    wanted = [run for s in settings for name in _methods(s, options) for run in _runs(s, name, options)]
    absent = [] if options.kept else [run for run in wanted if run not in known]
    if absent:
        written = time.monotonic()
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(max_workers=options.processes, mp_context=spawn) as pool:
            for run, outcome in zip(absent, pool.map(replay, absent), strict=True):
                known[run] = outcome
                print(f"{run.setting.title}: {run.method}, seed {run.seed}", file=sys.stderr, flush=True)
                if time.monotonic() - written > SAVED_EVERY_S or run == absent[-1]:
                    write_runs(file, known)
                    written = time.monotonic()
    return known


def times(found: Mapping[str, Sequence[Outcome]], kind: str) -> Seconds:
    """The seconds of each method and seed to each share of the volume, of training or on the clock."""
    return {
        name: {share: [getattr(outcome, kind)[i] for outcome in each] for i, share in enumerate(SHARES)}
        for name, each in found.items()
    }


def _methods(setting: Setting, options: argparse.Namespace) -> list[str]:
    """Those that were asked for; trials of another network are to be had for some tables only."""
    has_other = bool(TABLES[setting.table].other_network)
    return [name for name in options.only if has_other or METHODS[name].advised_by is not other_network]


def _runs(setting: Setting, name: str, options: argparse.Namespace) -> list[Run]:
    """A method's searches in a setting, one for each seed."""
    count = options.seeds if METHODS[name].seeded else 1
    return [Run(setting, name, options.first_seed + n, options.max_jobs) for n in range(count)]


def replay(run: Run) -> Outcome:
    """Searches a table as a run says."""
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
        max_jobs=run.max_jobs,
    )
    goals = [share * table.volume for share in SHARES]
    return Outcome(tuple(map(trace.seconds_to, goals)), tuple(map(trace.wall_to, goals)))


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
