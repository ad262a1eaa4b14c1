"""Which bars of accuracy and size finished searches reach, with the files that show it.

    tune-app run examples/recipes/cifar10_frontier.yaml && tune-app finalize runs/cifar10_frontier
    tune-app run examples/recipes/seed_000.yaml && tune-app finalize runs/seed_000
    python -m benchmarks.frontier runs/cifar10_frontier runs/seed_000

For a bar, the point is chosen by the validation split: of those small enough the one with the best mean accuracy. What
is held against the bar is its mean accuracy on the test split, over all its runs. The first experiment's chosen files
are copied beside the report, with what they decode to.

A network that was trained on all training images needs a part of the test set to choose by, and is judged on the rest:

    python -m benchmarks.frontier runs/mlperf_tiny_resnet8 --fp32 0.8719 --bar 0.87:49000B --bar 0.85:20000B

`--fp32` is the float network's accuracy on the whole test set. A bar of 0.85 is then met where the test accuracy is at
most 0.0219 below the float network's own on the same images.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import markdown_table, write_report
from trainables.errors import CorruptFile, TuneAppError
from trainables.export.packed import unpack
from trainables.storage import read_bytes, replace, sha256
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.reading import read_records, verified_artifact
from tune_app.ledger.test_results import HeldOut, read_held_out
from tune_app.tables.epochs import TEACHER, epoch_frame
from tune_app.tables.query import frontier_frame

HERE = Path(__file__).parent
BARS = ("0.954:9", "0.948:20", "0.94:30")


@dataclass(frozen=True)
class Bar:
    """So accurate on the test split, in a file that is so many times smaller than fp32 or has at most so many bytes."""

    accuracy: float
    ratio: float = 0.0
    size_bytes: float = math.inf

    @classmethod
    def parse(cls, text: str) -> "Bar":
        """From `0.954:9`, a ratio, or `0.87:49000B`, bytes."""
        accuracy, _, size = text.partition(":")
        if size.endswith("B"):
            return cls(float(accuracy), size_bytes=int(size[:-1]))
        return cls(float(accuracy), ratio=float(size))

    def __str__(self) -> str:
        size = f"{self.ratio:g}x" if math.isinf(self.size_bytes) else f"{self.size_bytes:,} bytes"
        return f"{100 * self.accuracy:.1f} % at {size}"

    def choose(self, front: pd.DataFrame) -> pd.Series | None:
        """The row to hold against it; None where no file is small enough."""
        small = front[(front.compression_ratio >= self.ratio) & (front.size_bytes <= self.size_bytes)]
        return None if small.empty else small.loc[small.accuracy_mean.idxmax()]

    def met(self, row: pd.Series | None, above_fp32: float = 0.0) -> bool:
        """Whether a row reaches it; `above_fp32` is added to what the bar asks for."""
        return row is not None and bool(row.test_accuracy_mean >= self.accuracy + above_fp32)


def tested_frontier(experiment: str) -> pd.DataFrame:
    """The frontier of an experiment whose runs were all evaluated on the test split.

    Raises:
        TuneAppError: it was not finalized, or there is no such experiment.
    """
    front = frontier_frame(experiment)
    if front.empty or front.test_accuracy_mean.isna().any():
        raise TuneAppError(f"{experiment} needs a frontier with test results: `tune-app finalize {experiment}` first.")
    epochs = [own_epochs(experiment, trial_id) for trial_id in front.trial_id]
    return front.assign(
        experiment=Path(experiment).name,
        whole=whole_test_set(experiment, front),
        training_s=[float(rows.seconds.sum()) for rows in epochs],
        val_accuracy=[rows.val_accuracy.tolist() for rows in epochs],
    )


def own_epochs(experiment: str, trial_id: str) -> pd.DataFrame:
    """The epochs of a trial's own stages, those of pruning first: what all trials share is not among them."""
    rows = epoch_frame(experiment, trial_id)
    return rows[~rows.stage.isin(("train", TEACHER))]


def whole_test_set(experiment: str, front: pd.DataFrame) -> pd.Series | None:
    """Accuracies on all images of the test set, where a part of it validates; None elsewhere."""
    folder = ExperimentFolder.existing(experiment)
    baseline, tested = read_baseline(folder), tested_baseline(experiment)
    if baseline is None or folder.read_spec().base.data.validation.source != "test":
        return None
    right = front.accuracy_mean * baseline.n + front.test_accuracy_mean * tested.n
    return right / (baseline.n + tested.n)


def tested_baseline(experiment: str) -> HeldOut:
    """The float network's result on the test split.

    Raises:
        TuneAppError: there is none.
    """
    found = read_held_out(ExperimentFolder.existing(experiment).baseline_file.parent)
    if found is None:
        raise TuneAppError(f"{experiment} needs its baseline's test result: `tune-app finalize {experiment}` first.")
    return found


def structure(content: bytes) -> dict[str, Any]:
    """What a packed file decodes to, in numbers that a test can hold it to.

    Raises:
        CorruptFile: it does not decode.
    """
    packed = unpack(content)
    return {
        "sha256": sha256(content),
        "size_bytes": len(content),
        "weights": [list(codes.shape) for codes in packed.codes],
        "zeros": int(sum(np.count_nonzero(codes == 0) for codes in packed.codes)),
    }


def keep_files(experiment: str, trial_ids: Sequence[str], target: Path) -> dict[str, dict[str, Any]]:
    """Copies the packed files of these trials; what each decodes to, by name of its file."""
    folder = ExperimentFolder.existing(experiment)
    records = {record.assignment.trial_id: record for record in read_records(folder)}
    found = {}
    for trial_id in dict.fromkeys(trial_ids):
        record = records[trial_id]
        content, name = verified_artifact(record, folder), f"{record.assignment.label}.mbq"
        replace(target / name, content)
        found[name] = structure(content)
    return found


def damaged_files(report: dict[str, Any], folder: Path) -> list[str]:
    """Of the files that a report names, those that are not, or do not decode to, what it says."""

    def intact(name: str, known: dict[str, Any]) -> bool:
        try:
            return structure(read_bytes(folder / name)) == known
        except (OSError, CorruptFile):
            return False

    return [name for name, known in report["figures"]["files"].items() if not intact(name, known)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads, prints, writes; exit code 1 where a bar is not met, 2 where an experiment cannot answer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiments", nargs="+", help="folders; the first one is held against the bars")
    parser.add_argument("--bar", action="append", metavar="ACCURACY:SIZE", help=f"default: {' '.join(BARS)}")
    parser.add_argument("--fp32", type=float, help="accuracy of the float network on the whole test set")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "cifar10")
    options = parser.parse_args(arguments)
    bars = [Bar.parse(text) for text in options.bar or BARS]
    try:
        fronts = [tested_frontier(experiment) for experiment in options.experiments]
        baseline = tested_baseline(options.experiments[0])
        chosen = [bar.choose(fronts[0]) for bar in bars]
        ids = [row.trial_id for row in chosen if row is not None]
        files = keep_files(options.experiments[0], ids, options.output)
    except TuneAppError as err:
        print(err, file=sys.stderr)
        return 2
    everything = pd.concat(fronts, ignore_index=True)
    everything.to_parquet(options.output / "frontier.parquet")
    above = 0.0 if options.fp32 is None else baseline.accuracy - options.fp32
    met = [bar.met(row, above) for bar, row in zip(bars, chosen, strict=True)]
    text = "\n\n".join([asked(baseline, options.fp32), report(bars, chosen, met, everything)])
    print(text)
    figures = {
        "bars": [{"bar": str(bar), "met": held} for bar, held in zip(bars, met, strict=True)],
        "baseline": {"test_accuracy": baseline.accuracy, "test_images": baseline.n},
        "files": files,
    }
    write_report(options.output / "report", title="Frontier of accuracy and bytes", text=text, data=figures)
    return 0 if all(met) else 1


def asked(baseline: HeldOut, fp32: float | None) -> str:
    """What the bars are held against."""
    text = f"The float network has {100 * baseline.accuracy:.2f} % on the {baseline.n:,} images of the test split"
    if fp32 is None:
        return f"{text}."
    return (
        f"{text}, and {100 * fp32:.2f} % on the whole test set. A bar is met where the test accuracy lies no further "
        "below the former than the bar lies below the latter."
    )


def report(bars: Sequence[Bar], chosen: Sequence[pd.Series | None], met: Sequence[bool], points: pd.DataFrame) -> str:
    """The bars, and under them every frontier point."""
    verdicts = [
        [str(bar), *_told(row), "met" if held else "not met"] for bar, row, held in zip(bars, chosen, met, strict=True)
    ]
    head = ("point", "test accuracy", "validation accuracy", "whole test set", "runs", "bytes", "ratio", "training s")
    listed = [[row.experiment, *_told(row)] for _, row in points.iterrows()]
    return "\n\n".join(
        [
            markdown_table(("bar", *head, ""), verdicts),
            "Accuracies are means over a point's runs, each with another seed, with sample standard deviations; bytes, "
            "ratio and seconds are of its first run.",
            markdown_table(("experiment", *head), listed),
            *_curves(points),
        ]
    )


def _curves(points: pd.DataFrame) -> list[str]:
    """How accurate each point was after each of its epochs, those of pruning first; nothing where none was trained."""
    curves = [
        f"- {row.label}: {', '.join(f'{100 * accuracy:.1f}' for accuracy in row.val_accuracy)}"
        for _, row in points.iterrows()
        if row.val_accuracy
    ]
    return ["\n".join(["Validation accuracy of first runs in percent, epoch by epoch:", "", *curves])] if curves else []


def _told(row: pd.Series | None) -> list[str]:
    if row is None:
        return ["none so small", *["–"] * 7]
    return [
        row.label,
        _spread(row.test_accuracy_mean, row.test_accuracy_sd),
        _spread(row.accuracy_mean, row.accuracy_sd),
        "–" if pd.isna(row.whole) else _spread(row.whole, None),
        str(row.repeats),
        f"{row.size_bytes:,}",
        f"{row.compression_ratio:.2f}x",
        f"{row.training_s:.0f}",
    ]


def _spread(mean: float, sd: float | None) -> str:
    known = "" if sd is None or pd.isna(sd) else f" ± {100 * sd:.2f}"
    return f"{100 * mean:.2f} %{known}"


if __name__ == "__main__":
    sys.exit(main())
