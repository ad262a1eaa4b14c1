"""What commands cost on an experiment with very many finished trials.

    python -m benchmarks.many_records

The records are of a closed form and cost no training; they are written as the product writes them, but not synced to
the disk one by one. `tune-app run` is called on the spent search: first where nobody has read its records yet, then
again and again with nothing to do, by turns with `tune-app summary`. Each is a process of its own, Python's start and
all imports included. Seconds are wall time and processor time, memory is the most that was resident.
"""

import argparse
import contextlib
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

from benchmarks.measure import check_idle, quartiles
from benchmarks.orchestration import make_spec, record_of
from benchmarks.report import markdown_table, write_report
from trainables.storage import replace
from tune_app.engine.in_process import InProcess
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment, Ledger
from tune_app.run.search import run_baseline
from tune_app.search.keys import config_key
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec

SIZES = (10_000, 100_000)
SPACE = {
    "prune_frac": {"low": 0.0, "high": 0.99, "step": 0.01},
    "sparsity": {"low": 0.0, "high": 0.95, "step": 0.05},
    "w_bits": [2, 3, 4, 5, 6, 7, 8],
    "a_bits": [2, 3, 4, 5, 6, 7, 8, 32],
}
"""112,000 points."""
BARS = {("run", 10_000): 1.0, ("run", 100_000): 8.0, ("summary", 100_000): 5.0}
"""Most seconds of wall time."""
BAR_GB = 1.0
"""Most memory of an idle run."""


STARTER = """
import json, os, subprocess, sys, time
started = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
assert status == 0, sys.argv
wall_s, cpu_s = time.perf_counter() - started, used.ru_utime + used.ru_stime
print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s, "peak_gb": used.ru_maxrss / 2**20}))
"""
"""A small process that starts a command: the peak of a child's memory counts that of the process which starts it."""


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    wall_s: float
    cpu_s: float
    peak_gb: float


def make_experiment(storage: Path, trials: int) -> tuple[Path, ExperimentFolder]:
    """A search whose budget is spent: its baseline, a record of each trial, an empty packed file; no tables."""
    plain = make_spec(storage, f"records-{trials}", trials).model_dump(mode="json")
    plain["base"]["sparsify"] = {"schedule": plain["base"]["prune"]["fine_tune"]}
    spec = ExperimentSpec.model_validate({**plain, "space": SPACE})
    spec_file, folder = storage / f"{spec.name}.yaml", ExperimentFolder(spec.folder)
    spec_file.parent.mkdir(parents=True, exist_ok=True)
    spec_file.write_text(dump_spec(spec))
    baseline, ledger = run_baseline(spec, engine=InProcess()), Ledger(folder.trials)
    with patch("os.fsync"):
        for number, params in enumerate(itertools.islice(_points(spec), trials)):
            key = config_key(spec, baseline.fingerprint, params)
            work = Assignment(number=number, config_key=key, params=params, seed=number)
            assert ledger.add(record_of(work))
            replace(folder.packed_file(work.trial_id), b"", durable=False)
    return spec_file, folder


def _points(spec: ExperimentSpec) -> Iterator[dict[str, float | int | str]]:
    names = list(spec.space.root)
    for values in itertools.product(*(spec.space.root[name].values for name in names)):
        yield dict(zip(names, values, strict=True))


def cost(*arguments: str | Path) -> Cost:
    """Runs a command of the product, and says what it took."""
    command = [sys.executable, "-m", "tune_app", *map(str, arguments)]
    done = subprocess.run([sys.executable, "-S", "-c", STARTER, *command], capture_output=True, text=True, check=True)
    return Cost(**json.loads(done.stdout))


def measure(storage: Path, trials: int, rounds: int) -> dict[str, list[Cost]]:
    """The costs of each command: the first run, idle runs, summaries."""
    spec_file, folder = make_experiment(storage, trials)
    found: dict[str, list[Cost]] = {"first run": [cost("run", spec_file)], "run": [], "summary": []}
    for _ in range(rounds):
        found["run"].append(cost("run", spec_file))
        found["summary"].append(cost("summary", folder.path))
    return found


def report(found: dict[int, dict[str, list[Cost]]]) -> str:
    """The table, and whether the bars are met."""
    rows, bars = [], []
    for trials, commands in found.items():
        for command, costs in commands.items():
            wall, cpu = quartiles([c.wall_s for c in costs]), quartiles([c.cpu_s for c in costs])
            peak_gb = max(c.peak_gb for c in costs)
            cells = (f"{x.median:.2f} ({x.low:.2f}–{x.high:.2f})" for x in (wall, cpu))
            rows.append([f"{trials:,}", command, *cells, f"{peak_gb:.2f}"])
            if (most := BARS.get((command, trials))) is not None:
                bars.append(f"{command} of {trials:,} within {most:g} s {_met(wall.median <= most)}")
            if command == "run" and trials == max(SIZES):
                bars.append(f"{command} of {trials:,} within {BAR_GB:g} GB {_met(peak_gb <= BAR_GB)}")
    heads = ["records", "command", "wall s", "processor s", "peak GB"]
    return f"{markdown_table(heads, rows)}\n\nMedians with quartiles. Bars: {'; '.join(bars)}."


def _met(holds: bool) -> str:
    return "met" if holds else "missed"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("runs/many_records"))
    parser.add_argument("--force", action="store_true", help="also on a busy machine")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "many_records")
    options = parser.parse_args(arguments)
    check_idle(force=options.force)
    storage, found = options.folder.resolve(), dict[int, dict[str, list[Cost]]]()
    for trials in options.sizes:
        shutil.rmtree(storage, ignore_errors=True)
        with contextlib.redirect_stderr(sys.stdout):
            found[trials] = measure(storage, trials, options.rounds)
    text = report(found)
    print(text)
    data = {size: {name: list(map(asdict, costs)) for name, costs in each.items()} for size, each in found.items()}
    write_report(options.output, title="Commands on very many records", text=text, data=data)


if __name__ == "__main__":
    main(sys.argv[1:])
