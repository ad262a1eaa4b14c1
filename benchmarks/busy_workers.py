"""How many of 64 workers are busy while the default sampler proposes trials inside of Ray's loop.

    python -m benchmarks.busy_workers

A trial sleeps for 5 to 15 seconds and reports a closed form; it is proposed, written and told as always. The workers
are logical ones, on as many cores as there are. Counted is from the moment when all have begun until the last trial is
given out: what is missing then, Ray and the product needed between two trials.
"""

import argparse
import datetime
import random
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import check_idle
from benchmarks.orchestration import ClosedForm, make_spec, quiet_search, record_of, start_ray
from benchmarks.report import write_report
from tune_app.engine.trial import Grant
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord
from tune_app.spec.experiment import ExperimentSpec

SECONDS = (5.0, 15.0)
"""The shortest and the longest trial."""
BAR = 0.9
"""The least mean share of the workers that is busy."""


class Asleep(ClosedForm):
    """A worker whose trials take time and nothing else."""

    def work(self, work: Assignment, grant: Grant) -> TrialRecord:
        """Sleeps, then writes a record with its times."""
        began = time.time()
        time.sleep(random.Random(work.trial_id).uniform(*SECONDS))
        times = {"started_at": datetime.datetime.fromtimestamp(began, datetime.UTC).isoformat()}
        record = record_of(work).model_copy(update={**times, "seconds": time.time() - began})
        self._ledger.add(record)
        return record


def sleeping_search(storage: Path, workers: int, trials: int) -> ExperimentSpec:
    """The search of the cost of a trial, by the default sampler."""
    content = make_spec(storage, f"busy-{time.monotonic_ns()}", trials).model_dump(exclude={"sampler"})
    return ExperimentSpec.model_validate({**content, "max_concurrent_trials": workers})


def busy_share(records: Sequence[TrialRecord], workers: int) -> tuple[float, float]:
    """The mean share of workers that had a trial, and the seconds over which it was taken.

    Raises:
        ValueError: the last trial was given out before all workers had one.
    """
    begins = np.array([datetime.datetime.fromisoformat(record.started_at).timestamp() for record in records])
    ends = begins + [record.seconds for record in records]
    first, last = np.sort(begins)[workers - 1], begins.max()
    if last <= first:
        raise ValueError(f"{len(records)} trials are too few for {workers} workers: all begin at once")
    held = float((np.clip(ends, first, last) - np.clip(begins, first, last)).sum())
    return held / (workers * (last - first)), float(last - first)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--trials", type=int, default=1_000)
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")
    parser.add_argument("--folder", type=Path, default=Path("runs/busy_workers"))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "busy_workers")
    options = parser.parse_args(arguments)
    check_idle(force=options.force)
    storage = options.folder.resolve()
    shutil.rmtree(storage, ignore_errors=True)
    start_ray(options.workers)
    spec = sleeping_search(storage, options.workers, options.trials)
    outcome = quiet_search(spec, Asleep)
    records, _ = Ledger(ExperimentFolder(spec.folder).trials).read()
    share, seconds = busy_share(records, options.workers)
    text = (
        f"Of {options.workers} workers, {100 * share:.1f} % were busy on average, over {seconds:.0f} s in which "
        f"{options.trials:,} trials of {SECONDS[0]:g} to {SECONDS[1]:g} s ran: "
        f"{len(records) / outcome.seconds:.1f} trials a second. "
        f"Bar: {100 * BAR:.0f} %, {'met' if share >= BAR else 'missed'}."
    )
    print(text)
    data = {"busy": share, "seconds": seconds, "trials": len(records), "search_s": outcome.seconds}
    write_report(options.output, title="Busy workers", text=text, data=data)


if __name__ == "__main__":
    main(sys.argv[1:])
