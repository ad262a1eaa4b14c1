"""What a trial costs beside its work: the product against plain Ray Tune, and how long it takes to resume.

    python -m benchmarks.orchestration

A trial is a closed form that takes no time. Plain Ray Tune is a function trainable, as most people write it, or a
class trainable, which costs Ray one message less per trial; both with random search, reused actors and without its
loggers. Ours writes and reads a durable record for each trial, proposes by its own random sampler without repeats, and
rewrites its tables. All run with the same number of workers in one Ray instance, by turns. Seconds per trial are those
of the search alone, without starting Ray.
"""

import argparse
import functools
import io
import logging
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from benchmarks.made_results import completed
from benchmarks.measure import quartiles
from benchmarks.report import markdown_table, write_report
from tune_app.engine.trial import Grant
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord
from tune_app.on_ray.engine import OnRay
from tune_app.on_ray.session import TUNE_SETTINGS
from tune_app.on_ray.worker import TrialWorker
from tune_app.run.outcome import Outcome
from tune_app.run.search import run_baseline, run_search
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import ExperimentSpec

SIZES = (100, 300, 1_000)
WORKERS = 2
BARS = {"ours": 1.2, "growth": 1.3, "resume_s": 3.0}
"""Most of plain Ray Tune's cost; most that a trial of 1,000 may cost beside one of 100; seconds to resume 1,000."""
FINE = {"low": 0.0, "high": 0.999, "step": 0.001}


def make_spec(storage: Path, name: str, trials: int) -> ExperimentSpec:
    """A space of 10,000 points, searched at random; the baseline is the smallest network there is."""
    schedule = {"epochs": 1, "lr": 0.05, "batch_size": 64}
    return ExperimentSpec.model_validate(
        {
            "name": name,
            "storage": str(storage),
            "base": {
                "data": {"name": "digits", "image_size": 8},
                "baseline": {"kind": "train", "model": {"name": "mobilenet_v2", "width": 0.1}, "schedule": schedule},
                "prune": {"fine_tune": schedule},
                "quantize": {"kind": "ptq"},
            },
            "space": {"prune_frac": FINE, "w_bits": [2, 3, 4, 6, 8], "a_bits": [4, 8]},
            "sampler": {"name": "random"},
            "budget": {"trials": trials},
            "max_concurrent_trials": WORKERS,
        }
    )


def closed_form(params: dict[str, Any]) -> tuple[float, int]:
    """Accuracy and bytes."""
    p, w, a = float(params["prune_frac"]), int(params["w_bits"]), int(params["a_bits"])
    return 0.95 - 0.2 * p**2 - 0.5 / 2**w - 0.3 / 2**a, round(1e6 * (1 - p) * w / 32)


class ClosedForm(TrialWorker):
    """A worker of the product whose work takes no time: its records are written as always."""

    def open(self, data: list[Any], *, gpu_share: float) -> None:
        """Needs nothing."""
        self._ledger = Ledger(self._folder.trials)

    def work(self, work: Assignment, grant: Grant) -> TrialRecord:
        """Writes a record."""
        record = record_of(work)
        self._ledger.add(record)
        return record


def plain_function(config: dict[str, Any]) -> None:
    """The same without a ledger, the way that most people write it."""
    accuracy, size_bytes = closed_form(config)
    tune.report({"accuracy": accuracy, "size_bytes": size_bytes})


class PlainClass(tune.Trainable):
    """The same as a class, which costs Ray one message less per trial."""

    def step(self) -> dict[str, Any]:
        """The whole trial."""
        accuracy, size_bytes = closed_form(self.config)
        return {"accuracy": accuracy, "size_bytes": size_bytes, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Nothing to do."""
        return True


def start_ray(workers: int) -> None:
    """Starts Ray with so many logical workers, as the product sets it, and without a word of it."""
    os.environ.update(TUNE_SETTINGS)
    ray.init(num_cpus=workers, include_dashboard=False, configure_logging=False, log_to_driver=False)
    for name in ("ray", "ray.tune"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def quiet_search(spec: ExperimentSpec, worker: type[TrialWorker]) -> Outcome:
    """A search of the product by such workers, which prints nothing."""
    quiet = Console(file=io.StringIO())
    run_baseline(spec, console=quiet)
    return run_search(spec, engine=OnRay(worker=worker), console=quiet)


def run_ours(storage: Path, trials: int) -> float:
    """Seconds per trial."""
    outcome = quiet_search(make_spec(storage, f"ours-{trials}-{time.monotonic_ns()}", trials), ClosedForm)
    assert outcome.totals.trials == {"complete": trials}, "every trial has its record"
    return outcome.seconds / trials


def run_plain(trainable: Any, storage: Path, trials: int) -> float:
    """Seconds per trial."""
    space = {name: tune.choice(list(p.values)) for name, p in make_spec(storage, "space", 1).space.root.items()}
    folder = storage / f"plain-{trials}-{time.monotonic_ns()}"
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=WORKERS, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(folder), verbose=0, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False)
        ),
    )
    started = time.perf_counter()
    results = tuner.fit()
    seconds = time.perf_counter() - started
    assert (len(results), results.num_errors) == (trials, 0), "every trial has its result"
    return seconds / trials


WAYS: dict[str, Callable[[Path, int], float]] = {
    "function": functools.partial(run_plain, plain_function),
    "class": functools.partial(run_plain, PlainClass),
    "ours": run_ours,
}


def resume_seconds(storage: Path, trials: int) -> float:
    """From the ledger's files to the first new assignment, without Ray."""
    spec = make_spec(storage, "resumed", trials + 1)
    ledger = Ledger(ExperimentFolder(spec.folder).trials)
    proposer = _proposer(spec)
    while (work := proposer.next()) is not None and len(proposer.records) < trials:
        record = record_of(work)
        ledger.add(record)
        proposer.tell(record)
    started = time.perf_counter()
    records, _ = ledger.read()
    again = _proposer(spec, records)
    assert again.next() is not None, "one trial is left"
    return time.perf_counter() - started


def _proposer(spec: ExperimentSpec, records: Sequence[TrialRecord] = ()) -> Proposer:
    from tune_app.search.keys import config_key, steps_of

    return Proposer(
        spec,
        key_of=lambda params, repeat=0: config_key(spec, "benchmark", params, repeat=repeat),
        steps_of=lambda params, rung: steps_of(spec, "benchmark", params, rung),
        reference={"accuracy": 0.1, "size_bytes": 1e6},
        records=records,
    )


def record_of(work: Assignment) -> TrialRecord:
    """The record of a trial by the closed form."""
    accuracy, size_bytes = closed_form(work.params)
    result = completed({"accuracy": accuracy, "size_bytes": size_bytes})
    return TrialRecord(assignment=work, result=result, environment={}, started_at="", seconds=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--folder", type=Path, default=Path("runs/orchestration"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "orchestration")
    options = parser.parse_args(arguments)
    storage = options.folder.resolve()
    shutil.rmtree(storage, ignore_errors=True)
    resumed = [resume_seconds(storage / f"resume{i}", max(options.sizes)) for i in range(options.rounds)]
    start_ray(WORKERS)
    found: dict[str, dict[int, list[float]]] = {name: {size: [] for size in options.sizes} for name in WAYS}
    for way in WAYS.values():
        way(storage, 10)  # workers start
    for _ in range(options.rounds):
        for size in options.sizes:
            for name, way in WAYS.items():
                found[name][size].append(way(storage, size))
                last = found[name][size][-1]
                print(f"{name}, {size} trials: {1e3 * last:.1f} ms a trial", file=sys.stderr, flush=True)
    text = report(found, resumed, options)
    print(text)
    write_report(
        options.output, title="Cost of a trial beside its work", text=text, data={**found, "resume_s": resumed}
    )


def report(found: dict[str, dict[int, list[float]]], resumed: list[float], options: argparse.Namespace) -> str:
    """The table, and whether the bars are met."""
    rows, lines = [], []
    ours = found["ours"]
    for size in options.sizes:
        cells = [f"{1e3 * statistics.median(times[size]):.1f}" for times in found.values()]
        for plain in ("function", "class"):
            ratio = quartiles([a / b for a, b in zip(ours[size], found[plain][size], strict=True)])
            cells.append(f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})")
            lines.append(f"{size} trials beside a {plain}: {_met(ratio.median <= BARS['ours'])}")
        rows.append([str(size), *cells])
    first, last = min(options.sizes), max(options.sizes)
    growth = statistics.median(ours[last]) / statistics.median(ours[first])
    resume = statistics.median(resumed)
    heads = ["trials", "plain Ray Tune, function: ms a trial", "class", "ours", "ours / function", "ours / class"]
    return "\n\n".join(
        [
            f"{options.rounds} rounds, {WORKERS} workers; medians, and ratios by rounds with quartiles.",
            markdown_table(heads, rows),
            f"Bar: at most {BARS['ours']} of plain Ray Tune: {'; '.join(lines)}. A trial of {last} costs {growth:.2f} "
            f"of one of {first} (bar {BARS['growth']}: {_met(growth <= BARS['growth'])}). Resuming {last} trials takes "
            f"{resume:.2f} s without Ray (bar {BARS['resume_s']} s: {_met(resume <= BARS['resume_s'])}).",
        ]
    )


def _met(holds: bool) -> str:
    return "met" if holds else "missed"


if __name__ == "__main__":
    main(sys.argv[1:])
