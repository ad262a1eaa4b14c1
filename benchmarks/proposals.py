"""How long the default sampler takes to propose a trial, by how many have ended.

    python -m benchmarks.proposals

Trials are of a closed form and cost nothing. Eight of them run at a time; each proposal follows one that has ended, so
that it has new results to learn from. The parameters of the surrogate are fitted anew now and then: the longest
proposal is one of those.
"""

import argparse
import math
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.made_results import completed
from benchmarks.measure import check_idle, quartiles
from benchmarks.report import markdown_table, write_report
from search_spaces.rungs import FULL
from trainables.config import digest
from trainables.results import StageRun
from tune_app.ledger.ledger import Assignment, Params, TrialRecord
from tune_app.search.keys import steps_of
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import ExperimentSpec

FINISHED = (100, 1_000, 10_000)
BARS = {1_000: 50.0, 10_000: 250.0}
"""Most milliseconds of the median proposal, by trials that have ended."""
RUNNING = 8
GROUPS = ("expansion", "depthwise", "projection", "head")
SPACES: dict[str, dict[str, Any]] = {
    "4 parameters": {
        "prune_frac": {"low": 0.0, "high": 0.99, "step": 0.01},
        "sparsity": {"low": 0.0, "high": 0.95, "step": 0.05},
        "w_bits": [2, 3, 4, 5, 6, 7, 8],
        "a_bits": [2, 3, 4, 5, 6, 7, 8, 32],
    },
    "12 parameters": {
        "prune_frac": {"low": 0.0, "high": 0.9, "step": 0.1},
        "sparsity": {"low": 0.0, "high": 0.9, "step": 0.1},
        "w_bits": [2, 3, 4, 5, 6, 7, 8],
        "a_bits": [2, 3, 4, 5, 6, 7, 8],
        **{f"w_bits.{group}": [2, 3, 4, 5, 6, 8] for group in GROUPS},
        **{f"a_bits.{group}": [3, 4, 6, 8] for group in GROUPS},
    },
}
CORNER = {"accuracy": 0.5, "size_bytes": 250_000.0, "peak_activation_bytes": 100_000.0}


def make_spec(space: str, objectives: int) -> ExperimentSpec:
    """A search of a network with all stages."""
    schedule = {"epochs": 4, "lr": 0.05, "batch_size": 64}
    return ExperimentSpec.model_validate(
        {
            "name": "proposals",
            "base": {
                "data": {"name": "digits", "image_size": 8},
                "baseline": {"kind": "train", "model": {"name": "mobilenet_v2", "width": 0.1}, "schedule": schedule},
                "prune": {"fine_tune": schedule},
                "sparsify": {"schedule": schedule},
                "quantize": {"kind": "qat", "schedule": schedule},
            },
            "space": SPACES[space],
            "objectives": list(CORNER)[:objectives],
            "budget": {"trials": 100_000},
        }
    )


def record_of(work: Assignment, spec: ExperimentSpec) -> TrialRecord:
    """What the closed form says of an assignment."""
    places = {n: p.values.index(work.params[n]) / (len(p.values) - 1) for n, p in spec.space.root.items()}
    bits = float(np.mean([place for name, place in places.items() if "bits" in name]))
    loss = 0.05 * places["prune_frac"] ** 3 + 0.05 * places["sparsity"] ** 4 + 0.2 * (1 - bits) ** 4
    noise = 0.002 * (int(digest(dict(work.params))[:8], 16) / 2**32 - 0.5)
    accuracy = 0.985 + noise - loss * (1 if work.rung == FULL else 2)
    size = 200_000 * (1 - 0.8 * places["prune_frac"]) * (1 - 0.7 * places["sparsity"]) * (0.25 + 0.75 * bits)
    stages = [
        StageRun(kind=step.kind, key=step.key, seconds=5.0 * step.epochs, cached=False)
        for step in steps_of(spec, "benchmark", work.params, work.rung)
    ]
    peak = round(1e5 * (0.25 + 0.7 * places["a_bits"] * (1 - places["prune_frac"] / 2)))
    result = completed({"accuracy": accuracy, "size_bytes": round(size), "peak_activation_bytes": peak}, stages)
    return TrialRecord(assignment=work, result=result, environment={}, started_at="", seconds=1.0)


def finished(spec: ExperimentSpec, count: int) -> list[TrialRecord]:
    """Records of random points, a third of them at the lower rung."""
    draw, found = np.random.default_rng(0), dict[tuple[str, str], TrialRecord]()
    while len(found) < count:
        params: Params = spec.space.point(int(draw.integers(spec.space.size)))
        rung = FULL if draw.random() < 2 / 3 else next(iter(spec.rungs))
        key = digest(dict(params))
        work = Assignment(number=len(found), config_key=key, params=params, rung=rung, seed=0)
        found.setdefault((key, rung), record_of(work, spec))
    return list(found.values())


def proposal_ms(spec: ExperimentSpec, records: Sequence[TrialRecord], proposals: int) -> list[float]:
    """Milliseconds of each proposal."""
    proposer = Proposer(
        spec,
        key_of=lambda params, _=0: digest(dict(params)),
        steps_of=lambda params, rung: steps_of(spec, "benchmark", params, rung),
        reference={name: CORNER[name] for name in spec.objectives},
        records=records,
    )
    running, times = deque[Assignment](), list[float]()
    for _ in range(RUNNING + proposals):
        if len(running) == RUNNING:
            proposer.tell(record_of(running.popleft(), spec))
        started = time.perf_counter()
        work = proposer.next()
        times.append(1e3 * (time.perf_counter() - started))
        assert work is not None, "the space is larger than what is asked for"
        running.append(work)
    return times[RUNNING:]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--finished", type=int, nargs="+", default=list(FINISHED))
    parser.add_argument("--proposals", type=int, default=60)
    parser.add_argument("--force", action="store_true", help="also on a machine that does other things")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "proposals")
    options = parser.parse_args(arguments)
    check_idle(force=options.force)
    rows, figures = [], {}
    for space in SPACES:
        for objectives in (2, 3):
            spec = make_spec(space, objectives)
            for count in options.finished:
                times = proposal_ms(spec, finished(spec, count), options.proposals)
                middle = quartiles(times)
                bar = BARS.get(count, math.inf)
                judged = f"{bar:.0f}: {'met' if middle.median <= bar else 'missed'}" if math.isfinite(bar) else ""
                spread = f"{middle.median:.0f} ({middle.low:.0f}–{middle.high:.0f})"
                rows.append([space, str(objectives), f"{count:,}", spread, f"{max(times):.0f}", judged])
                figures[f"{space}, {objectives} objectives, {count} finished"] = times
                print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    heads = ["space", "objectives", "trials that have ended", "ms, median (quartiles)", "longest", "bar"]
    sizes = ", ".join(f"{make_spec(space, 2).space.size:,}" for space in SPACES)
    text = f"{options.proposals} proposals each; the spaces have {sizes} points.\n\n{markdown_table(heads, rows)}"
    print(text)
    write_report(options.output, title="Time of a proposal", text=text, data=figures)


if __name__ == "__main__":
    main(sys.argv[1:])
