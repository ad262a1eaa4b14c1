"""Bytes at equal accuracy: the earlier systems' recipes against ours, on MLPerf Tiny's ResNet-8 and CIFAR-10.

    python -m benchmarks.equal_accuracy --checkpoints FOLDER --cifar10 FOLDER
    python -m benchmarks.equal_accuracy … --only seed_000
    python -m benchmarks.equal_accuracy … --kept

The compression of examples/recipes/seed_*.yaml is run at every point of its sweep on the published network, and so is
ours; all train for the same few epochs. What the earlier recipes make is written twice, bit-packed and with zstd on
top, and the smaller file counts, although those systems wrote neither; ours is written with entropy coding. Every file
is decoded and evaluated. One half of the test images chooses, the other half is what counts. Each outcome is kept under
`--folder` and not made again.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.public import NETWORKS, accuracy, kept_outcome, parser_of
from benchmarks.report import markdown_table, write_report
from search_spaces.parameters import Value
from search_spaces.space import to_trial
from trainables.config import DataConfig, PackConfig, Schedule, TrialConfig
from trainables.data.data_sets import load_data, load_test_images
from trainables.export.packed import unpack
from trainables.pipeline import run_pipeline
from trainables.stages.workplace import open_workplace
from tune_app.spec.yaml_file import load_spec

NETWORK = "MLPerf Tiny ResNet-8"
RECIPES = Path("examples/recipes")
EARLIER = ("seed_000", "seed_001", "seed_002", "seed_002_report", "seed_003", "seed_004")
OURS = "ours"
OURS_POINTS: tuple[dict[str, Value], ...] = (
    {"sparsity": 0.0, "w_bits": 4},
    {"sparsity": 0.0, "w_bits": 3},
    {"sparsity": 0.5, "w_bits": 3},
    {"sparsity": 0.65, "w_bits": 3},
    {"sparsity": 0.75, "w_bits": 3},
)
COMMON = {"batch_size": 128, "distill": {"weight": 0.7, "temperature": 2}}
OURS_STAGES: dict[str, Any] = {
    "sparsify": {
        "criterion": "lamp",
        "mode": "gradual",
        "min_density": 0.1,
        "schedule": {**COMMON, "epochs": 1, "lr": 0.01, "weight_decay": 1e-4},
    },
    "quantize": {
        "kind": "qat",
        "scheme": {"side_bits": 8},
        "schedule": {**COMMON, "epochs": 1, "lr": 0.005, "weight_decay": 2.5e-5},
        "guard_channels": True,
    },
}


def configurations(recipe: str, epochs: int) -> Iterator[tuple[str, TrialConfig]]:
    """Label and configuration of every point of a recipe, trained for so many epochs if it trains at all."""
    if recipe == OURS:
        base, points = TrialConfig.model_validate({"baseline": {"kind": "untrained"}, **OURS_STAGES}), OURS_POINTS
    else:
        spec = load_spec(RECIPES / f"{recipe}.yaml")
        base, points = spec.base, (*spec.space.grid(), *spec.points)
    for params in points:
        yield " ".join(f"{name}={value}" for name, value in params.items()), shortened(to_trial(params, base), epochs)


def shortened(config: TrialConfig, epochs: int) -> TrialConfig:
    """Returns the configuration whose stages train for so many epochs in all, shared in proportion.

    Iterative pruning keeps its rise of the sparsity, in as many steps as epochs.
    """
    changes: dict[str, Any] = {}
    planned = {stage.kind: stage.planned_epochs for stage in config.stages()[1:] if stage.planned_epochs}
    if config.sparsify is not None and config.sparsify.mode == "iterative":
        one = {"steps": epochs, "schedule": _of(config.sparsify.schedule, 1)}
        return config.model_copy(update={"sparsify": config.sparsify.model_copy(update=one)})
    for name, field in (("prune", "fine_tune"), ("sparsify", "schedule"), ("quantize", "schedule")):
        stage = getattr(config, name)
        if stage is not None and stage.kind in planned:
            own = max(1, round(epochs * planned[stage.kind] / sum(planned.values())))
            changes[name] = stage.model_copy(update={field: _of(getattr(stage, field), own)})
    return config.model_copy(update=changes)


def _of(schedule: Schedule, epochs: int) -> Schedule:
    return schedule.model_copy(update={"epochs": epochs})


def on_common_ground(config: TrialConfig, data: DataConfig, network: Path, seed: int, *, ours: bool) -> TrialConfig:
    """The configuration on the published network and CIFAR-10, with the recipe's own augmentation."""
    imported: dict[str, Any] = {"kind": "import", "network": str(network)}
    teacher = {"teacher": {**imported, "bn_images": 8_192}} if ours else {}
    common = TrialConfig.model_validate({"baseline": imported, **teacher, "quantize": OURS_STAGES["quantize"]})
    images = data if ours else data.model_copy(update={"augment": config.data.augment})
    changes = {"baseline": common.baseline, "teacher": common.teacher, "data": images, "seed": seed}
    return config.model_copy(update=changes)


def measured(recipe: str, label: str, config: TrialConfig, options: argparse.Namespace) -> dict[str, Any]:
    """Compresses, writes with each coder that counts, and measures the network decoded from the smallest file."""
    network = NETWORKS[NETWORK]
    half: dict[str, Any] = {"from": "test", "fraction": 0.5}
    data = network.data(options.cifar10, validation=half, augment={"crop_padding": 4, "flip": True})
    place = network.captured(options.checkpoints, options.folder / "network.safetensors")
    trial = on_common_ground(config, data, place, options.seed, ours=recipe == OURS)
    workplace = open_workplace(load_data(trial.data), options.folder / "stages", cpu=1, gpu=0, bf16=options.bf16)
    started, found = time.perf_counter(), []
    for coder in ("auto",) if recipe == OURS else ("bits", "zstd"):
        packed = trial.model_copy(update={"pack": PackConfig.model_validate({"coder": coder})})
        file = options.folder / "files" / f"{recipe} {label} {coder}" / "model.mbq"
        measurement = run_pipeline(packed, workplace, file).measurement
        found.append((measurement.size_bytes, measurement.accuracy, file))
    size_bytes, chosen_by, file = min(found)
    seconds = time.perf_counter() - started
    decoded = unpack(file.read_bytes()).network()
    cpu = torch.device("cpu")
    whole = network.data(options.cifar10)
    return {
        "size_bytes": size_bytes,
        "validation_accuracy": chosen_by,
        "accuracy": accuracy(decoded, load_test_images(data, cpu)),
        "whole_accuracy": accuracy(decoded, load_test_images(whole, cpu)),
        "seconds": seconds,
    }


def float_accuracies(options: argparse.Namespace) -> dict[str, Any]:
    """Measures the published network on both halves of the test images, and on all of them."""
    network, cpu = NETWORKS[NETWORK], torch.device("cpu")
    data = network.data(options.cifar10, validation={"from": "test", "fraction": 0.5})
    module = network.plain(options.checkpoints)
    whole = accuracy(module, load_test_images(network.data(options.cifar10), cpu))
    counts = accuracy(module, load_test_images(data, cpu))
    return {"validation_accuracy": 2 * whole - counts, "accuracy": counts, "whole_accuracy": whole}


def report(base: dict[str, Any], rows: Sequence[dict[str, Any]], epochs: int) -> str:
    """Returns the text of the report: the best earlier file, ours at equal accuracy, and every point."""
    known = [row for row in rows if "accuracy" in row]
    reference = base["validation_accuracy"]
    error = math.sqrt(reference * (1 - reference) / 5_000)
    lines = [
        f"{NETWORK} as published: {100 * base['accuracy']:.2f} % on the half of CIFAR-10's test images that counts, "
        f"{100 * base['whole_accuracy']:.2f} % on all; standard error of a half {100 * error:.2f} points. What trains "
        f"does so for {epochs} epochs. Points are chosen by the other half."
    ]
    earlier = [row for row in known if row["recipe"] != OURS]
    if earlier:
        good = [row for row in earlier if row["validation_accuracy"] >= reference - error]
        best = min(good, key=_size) if good else max(earlier, key=_validation)
        lines.append(f"Best earlier recipe, the smallest file within one standard error of float: {_said(best)}.")
        equal = [r for r in known if r["recipe"] == OURS and _validation(r) >= _validation(best) - error]
        if equal:
            ours = min(equal, key=_size)
            times = best["size_bytes"] / ours["size_bytes"]
            lines.append(f"Ours within one standard error of that: {_said(ours)}, {times:.2f} times smaller.")
    header = ["recipe", "configuration", "bytes", "validation half, %", "test half, %", "all test images, %", "seconds"]
    table = [
        [
            row["recipe"],
            row["label"],
            f"{row['size_bytes']:,}",
            *(f"{100 * row[f'{name}accuracy']:.2f}" for name in ("validation_", "", "whole_")),
            f"{row['seconds']:,.0f}",
        ]
        for row in sorted(known, key=_size)
    ]
    lines.append(markdown_table(header, table))
    if said := [f"- {row['recipe']} {row['label']}: {row['raised'][:140]}" for row in rows if "raised" in row]:
        lines.append("\n".join(["No network:", "", *said]))
    return "\n\n".join(lines)


def _size(row: dict[str, Any]) -> int:
    return int(row["size_bytes"])


def _validation(row: dict[str, Any]) -> float:
    return float(row["validation_accuracy"])


def _said(row: dict[str, Any]) -> str:
    return f"{row['recipe']} {row['label']}: {100 * row['accuracy']:.2f} %, {row['size_bytes']:,} bytes"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, writes it."""
    parser = parser_of(__doc__, "equal_accuracy")
    parser.add_argument("--only", action="append", choices=[*EARLIER, OURS], help="a recipe; default: all")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16, where the processor computes in it")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    base = kept_outcome(options.folder / "float.json", partial(float_accuracies, options))
    rows = []
    for recipe in options.only or (*EARLIER, OURS):
        for label, config in configurations(recipe, options.epochs):
            kept = options.folder / f"{recipe} {label}.json"
            if options.kept and not kept.exists():
                continue
            make = partial(measured, recipe, label, config, options)
            rows.append(kept_outcome(kept, make, recipe=recipe, label=label))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    text = report(base, rows, options.epochs)
    print(text)
    write_report(
        options.output, title="Bytes at equal accuracy, CIFAR-10", text=text, data={"float": base, "rows": rows}
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
