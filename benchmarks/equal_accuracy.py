"""Bytes at equal accuracy: the earlier systems' recipes against ours, on digits, every file really written.

    python benchmarks/equal_accuracy.py --seeds 3

All recipes start from one baseline per seed, so that only compression differs; ours has a wider teacher as well.
The compression of examples/recipes/digits_seed_*.yaml is run at every point of its sweep and written twice,
bit-packed and with zstd on top; the smaller file counts, although the earlier systems wrote neither. Ours is written
with entropy coding. Every file is decoded and evaluated. Stages come from the product's cache (`--folder`): an
interrupted run goes on.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from low_bits import DATA, TEACHER
from report import markdown_table, write_report

from search_spaces.parameters import Value
from search_spaces.space import SearchSpace, to_trial
from trainables.config import BaselineTrain, ModelConfig, PackConfig, Schedule, TrialConfig
from trainables.data.data_sets import load_data
from trainables.errors import TrialFailure
from trainables.pipeline import run_pipeline, run_stages
from trainables.stages.workplace import Workplace, open_workplace
from tune_app.spec.yaml_file import load_spec

BASELINE = BaselineTrain(
    model=ModelConfig(name="mobilenet_v2", width=0.25),
    schedule=Schedule(epochs=30, lr=0.05, batch_size=64, warmup_epochs=2, weight_decay=1e-4),
)
RECIPES = Path("examples/recipes")
EARLIER = ("seed_000", "seed_001", "seed_002", "seed_003", "seed_004")
OURS = SearchSpace.model_validate({"prune_frac": [0.0, 0.4], "sparsity": [0.7, 0.8], "w_bits": [2, 3], "a_bits": [8]})


@dataclass(frozen=True)
class Point:
    """One configuration of a recipe, over seeds."""

    recipe: str
    label: str
    accuracies: list[float]
    sizes: list[int]

    @property
    def accuracy(self) -> float:
        """Mean over seeds, fraction right."""
        return statistics.fmean(self.accuracies)

    @property
    def size_bytes(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.sizes)


def configurations() -> Iterator[tuple[str, dict[str, Value], TrialConfig]]:
    """Recipe, parameters and configuration of every point, all on the common baseline."""
    for name in EARLIER:
        spec = load_spec(RECIPES / f"digits_{name}.yaml")
        for params in spec.space.grid():
            yield name, params, to_trial(params, spec.base)
    base = load_spec(RECIPES / "digits_frontier.yaml").base
    for params in OURS.grid():
        yield "ours", params, to_trial(params, base)


def on_common_ground(config: TrialConfig, seed: int) -> TrialConfig:
    """The configuration with the common data and baseline, and the common teacher if it has one."""
    teacher = None if config.teacher is None else TEACHER
    return config.model_copy(update={"seed": seed, "data": DATA, "baseline": BASELINE, "teacher": teacher})


def smallest_file(
    config: TrialConfig, coders: tuple[str, ...], workplace: Workplace, folder: Path
) -> tuple[float, int]:
    """Accuracy of the decoded file and its bytes, for the coder that makes it smallest.

    Raises:
        TrialFailure: there is no usable network.
    """
    found = []
    for coder in coders:
        packed = config.model_copy(update={"pack": PackConfig.model_validate({"coder": coder})})
        measurement = run_pipeline(packed, workplace, folder / coder / "model.mbq").measurement
        found.append((measurement.size_bytes, measurement.accuracy))
    size, accuracy = min(found)
    return accuracy, size


def measure(seeds: list[int], folder: Path) -> tuple[float, float, list[Point]]:
    """Mean accuracy of the baseline, the standard error of one such mean, and all points that worked."""
    points: dict[tuple[str, str], Point] = {}
    baselines: list[float] = []
    images = 0
    for seed in seeds:
        data = load_data(DATA.model_copy(update={"split_seed": seed}))
        workplace = open_workplace(data, folder / "stages", cpu=1, gpu=0)
        images = len(data.val)
        for recipe, params, config in configurations():
            label = " ".join(
                f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in params.items()
            )
            point = points.setdefault((recipe, label), Point(recipe, label, [], []))
            place = folder / "files" / f"{seed}-{recipe}-{label.replace(' ', '_')}"
            coders = ("auto",) if recipe == "ours" else ("bits", "zstd")
            try:
                accuracy, size = smallest_file(on_common_ground(config, seed), coders, workplace, place)
            except TrialFailure as err:
                print(f"seed {seed} {recipe} {label}: {err}", file=sys.stderr, flush=True)
                continue
            point.accuracies.append(accuracy)
            point.sizes.append(size)
            print(f"seed {seed} {recipe} {label}: {100 * accuracy:.2f} %, {size:,} bytes", file=sys.stderr, flush=True)
        baselines.append(baseline_accuracy(seed, workplace))
    mean = statistics.fmean(baselines)
    error = math.sqrt(mean * (1 - mean) / (images * len(seeds)))
    return mean, error, [p for p in points.values() if len(p.sizes) == len(seeds)]


def baseline_accuracy(seed: int, workplace: Workplace) -> float:
    """Validation accuracy of the common baseline."""
    config = next(configurations())[2]
    trial = on_common_ground(config, seed)
    return run_stages(trial, trial.stages()[:1], workplace)[0].metrics["val_accuracy"]


def main() -> None:
    """Measures, prints the tables, writes them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("runs/equal_accuracy"), help="cache and files")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/equal_accuracy"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    baseline, error, points = measure(list(range(options.seeds)), options.folder)
    earlier = [p for p in points if p.recipe != "ours"]
    good = [p for p in earlier if p.accuracy >= baseline - error] or [max(earlier, key=lambda p: p.accuracy)]
    best = min(good, key=lambda p: p.size_bytes)
    equal = [p for p in points if p.recipe == "ours" and p.accuracy >= best.accuracy - error]
    lines = [
        f"Common fp32 baseline: {100 * baseline:.2f} % (mean of {options.seeds} seeds); standard error of a mean "
        f"{100 * error:.2f} points.",
        f"Best earlier recipe, the smallest file within one standard error of the baseline: {best.recipe} "
        f"{best.label}: {100 * best.accuracy:.2f} %, {best.size_bytes:,.0f} bytes.",
    ]
    if equal:
        ours = min(equal, key=lambda p: p.size_bytes)
        lines.append(
            f"Ours within one standard error of that: {ours.label}: {100 * ours.accuracy:.2f} %, "
            f"{ours.size_bytes:,.0f} bytes, {best.size_bytes / ours.size_bytes:.2f} times smaller."
        )
    rows = [
        [p.recipe, p.label, f"{100 * p.accuracy:.2f}", f"{p.size_bytes:,.0f}"]
        for p in sorted(points, key=lambda p: p.size_bytes)
    ]
    text = "\n\n".join([*lines, markdown_table(["recipe", "configuration", "accuracy %", "bytes"], rows)])
    print(text)
    data = [{"recipe": p.recipe, "label": p.label, "accuracy": p.accuracies, "size_bytes": p.sizes} for p in points]
    write_report(options.output, title="Bytes at equal accuracy, digits", text=text, data=data)


if __name__ == "__main__":
    main()
