"""What trials that share a GPU gain: the time of one sweep with one, two and four of them at a time.

    python -m benchmarks.sharing benchmarks/sharing.yaml

Each sweep is `tune-app run` of the same spec, in a folder of its own that holds the baseline already, with 1/k of a
GPU and of the cores for a trial; without a GPU with 1/k of the cores alone. Its time is from the start of the first
trial to the end of the last one.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.measure import quartiles
from benchmarks.report import markdown_table, write_report
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec, load_spec
from tune_app.tables.query import frontier_frame

HERE = Path(__file__).parent


def shared_among(spec: ExperimentSpec, at_once: int, *, storage: Path, cpus: int, gpus: int) -> ExperimentSpec:
    """The spec with so many trials at a time, each with an equal share of a machine with these resources."""
    share = {"cpu": max(1, cpus // at_once), "gpu": gpus / at_once}
    content = spec.model_dump(mode="json")
    content["resources"] |= share
    return ExperimentSpec.model_validate(
        {**content, "name": f"{spec.name}_{at_once}", "storage": str(storage), "max_concurrent_trials": at_once}
    )


def sweep_s(trials: pd.DataFrame) -> float:
    """Seconds from the start of the first trial to the end of the last one."""
    started = pd.to_datetime(trials.started_at)
    ended = started + pd.to_timedelta(trials.seconds, unit="s")
    return float((ended.max() - started.min()).total_seconds())


def tune_app(*arguments: str | Path) -> None:
    """Runs a command; its output is on stderr."""
    subprocess.run([sys.executable, "-m", "tune_app", *map(str, arguments)], check=True, stdout=sys.stderr)


def run(spec: ExperimentSpec, place: Path, baseline: Path | None) -> pd.DataFrame:
    """The trials of one sweep from nothing, with the baseline of a folder, or with one of its own."""
    folder, file = Path(str(spec.folder)), place / f"{spec.name}.yaml"
    shutil.rmtree(folder, ignore_errors=True)
    if baseline is not None:
        shutil.copytree(baseline / "stages", folder / "stages")
    file.write_text(dump_spec(spec))
    tune_app("baseline", file)
    tune_app("run", file)
    return frontier_frame(folder, all=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints, writes."""
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/sharing"))
    parser.add_argument("--output", type=Path, default=HERE / "results" / "sharing")
    options = parser.parse_args(arguments)
    place, spec = options.folder.resolve(), load_spec(options.spec)
    place.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count() or 1, "gpus": min(1, torch.cuda.device_count())}
    first = shared_among(spec, 1, storage=place / "baseline", **machine)
    (place / "baseline.yaml").write_text(dump_spec(first))
    tune_app("baseline", place / "baseline.yaml")
    times: dict[int, list[float]] = {k: [] for k in options.at_once}
    count = 0
    for _ in range(options.rounds):
        for k in options.at_once:
            trials = run(shared_among(spec, k, storage=place, **machine), place, Path(str(first.folder)))
            count = int((trials.state == "complete").sum())
            times[k].append(sweep_s(trials))
    text = report(times, count, gpu=machine["gpus"] > 0)
    print(text)
    write_report(
        options.output, title="Trials that share a machine", text=text, data={str(k): t for k, t in times.items()}
    )


def report(times: dict[int, list[float]], trials: int, *, gpu: bool) -> str:
    """A row for each number of trials at a time, with the ratio to the first one by rounds."""
    reference = next(iter(times.values()))
    rows = []
    for k, seconds in times.items():
        found, ratio = quartiles(seconds), quartiles([a / b for a, b in zip(seconds, reference, strict=True)])
        spread = f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"
        rows.append([str(k), f"{found.median:.1f}", f"{found.median / trials:.1f}", spread])
    head = f"{trials} trials on {'one GPU' if gpu else 'the cores, without a GPU'}, {len(reference)} rounds by turns."
    table = markdown_table(("at a time", "sweep: s", "s for each trial", "ratio to the first row"), rows)
    return f"{head} Medians; ratios by rounds with quartiles.\n\n{table}"


if __name__ == "__main__":
    main()
