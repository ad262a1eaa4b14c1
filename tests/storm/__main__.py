"""Hits a search at every place in an order that a seed decides, until the time is over, and writes what came of it.

python -m tests.storm --minutes 60 --seed 0
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.report import markdown_table, write_report
from tests.storm.kills import killed
from tests.storm.operations import counter
from tests.storm.pauses import overtaken
from tests.storm.power import power_lost
from tests.storm.s3_faults import over_bad_line
from tests.storm.search import TRIALS, Facts, undisturbed
from tests.storm.signals import signalled
from tests.storm.simulation import simulate

BAD_LINES, WORLDS = 40, 5_000
"""Searches in a bucket, of ten seconds each, and simulated worlds, of some tens of milliseconds."""
PAUSES = TRIALS + 6
"""Looks at the lease after which a driver is put to sleep: one before each trial, and those around the tables, of which
there are more in a search that takes longer."""
RENAMES = 4
"""Renames of files that drivers share: the spec, both tables, the totals."""
Fault = Callable[[Path], bool]
"""Does a fault to a search in a new folder; False where the search ended before."""


def faults(expected: Facts, count: int, seed: int) -> list[tuple[str, Fault]]:
    """Every fault with its kind, in an order of the seed."""
    chance, found = random.Random(seed), list[tuple[str, Fault]]()
    late = count - TRIALS  # the operations after the last record: tables, totals, lease
    for number in range(count):
        sign = chance.choice([signal.SIGINT, signal.SIGTERM])
        found.append(("kill before", partial(killed, number, expected=expected, after=False)))
        found.append(("kill after", partial(killed, number, expected=expected, after=True)))
        found.append(("power loss", partial(power_lost, number, expected=expected, seed=chance.randrange(2**32))))
        found.append(("SIGINT or SIGTERM", partial(signalled, number, expected=expected, sign=sign, late=late)))
    found += [("pause", partial(overtaken, number, expected=expected)) for number in range(1, PAUSES + 1)]
    found += [("pause", partial(overtaken, n, expected=expected, at_rename=True)) for n in range(1, RENAMES + 1)]
    found += [("bad line to S3", partial(over_bad_line, seed + n, expected=expected)) for n in range(BAD_LINES)]
    found += [("simulated world", partial(_simulated, seed + n)) for n in range(WORLDS)]
    chance.shuffle(found)
    return found


def _simulated(seed: int, place: Path) -> bool:
    simulate(seed)
    return True


def first_of_each_kind(faults: Sequence[tuple[str, Fault]], most: int) -> list[tuple[str, Fault]]:
    """The first so many faults of every kind, in their order."""
    seen, found = Counter[str](), []
    for kind, fault in faults:
        seen[kind] += 1
        if seen[kind] <= most:
            found.append((kind, fault))
    return found


def work(chosen: Sequence[tuple[str, Fault]], until: float, results: Path) -> None:
    """Does faults until the time is over, and appends a line for each: its kind, and what did not hold."""
    with tempfile.TemporaryDirectory(prefix="storm-") as scratch, results.open("a") as lines:
        for number, (kind, fault) in enumerate(chosen):
            if time.monotonic() > until:
                return
            hit, problem = True, ""
            try:
                hit = fault(Path(scratch) / str(number))
            except Exception:
                problem = traceback.format_exc()[-2000:]
            print(json.dumps({"kind": kind, "hit": hit, "problem": problem}), file=lines, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the storm in so many processes at a time, and writes the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--most", type=int, default=1_000_000, metavar="N", help="faults of each kind; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/storm"))
    options = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="storm-") as scratch:
        expected, count = undisturbed(Path(scratch), counter)
        everything = faults(expected, count, options.seed)
        chosen = first_of_each_kind(everything, options.most)
        results, workers = Path(scratch) / "results.jsonl", []
        for place in range(options.processes):
            worker = os.fork()
            if worker == 0:
                work(chosen[place :: options.processes], started + 60 * options.minutes, results)
                os._exit(0)
            workers.append(worker)
        codes = [os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers]
        rows: list[dict[str, Any]] = [json.loads(line) for line in results.read_text().splitlines()]
    tried = Counter(row["kind"] for row in rows)
    done, broken = (Counter(row["kind"] for row in rows if row[what]) for what in ("hit", "problem"))
    counts = {
        kind: {"possible": possible, "tried": tried[kind], "done": done[kind], "broken": broken[kind]}
        for kind, possible in Counter(kind for kind, _ in everything).items()
    }
    table = markdown_table(
        ["fault", "possible", "tried", "done", "promise broken"],
        [[kind, *(f"{number:,}" for number in found.values())] for kind, found in counts.items()],
    )
    minutes = (time.monotonic() - started) / 60
    text = (
        f"A search of {TRIALS} trials makes {count:,} calls that change its folder. It is killed before or after one, "
        "loses power there (what was not synced is then gone, torn or there, as the seed decides), gets a signal, or "
        "is put to sleep after a look at its lease until another driver has ended it; then the same command ends it. "
        "Or it runs in a bucket behind a proxy that refuses requests and loses or cuts answers. In a simulated world "
        "three drivers with the product's own lock, lease and ledger are held up, die and wake as the seed decides. A "
        "promise is broken if a record was lost or changed, a stage finished twice, a generation of the lease is "
        "missing, an exit code is another than documented, the tables, files and records do not agree, or the results "
        f"are not those of an undisturbed search. Seed {options.seed}, {minutes:.0f} minutes, {options.processes} "
        "processes; `done` are those that came before the search had ended."
    )
    problems = sorted({row["problem"] for row in rows if row["problem"]})
    report = "\n\n".join([text, table, *(f"```text\n{problem}```" for problem in problems)])
    print(report)
    write_report(
        options.output,
        title="A storm of faults",
        text=report,
        data={"counts": counts, "problems": problems, "workers": codes},
    )
    return 1 if problems or any(codes) else 0


if __name__ == "__main__":
    sys.exit(main())
