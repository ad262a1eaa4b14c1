"""What each part of the recipe is worth: MLPerf Tiny's ResNet-8 under one budget of bytes, one part changed at a time.

    python -m benchmarks.ablation --checkpoints FOLDER --cifar10 FOLDER
    python -m benchmarks.ablation … --only "no teacher" --seed 1
    python -m benchmarks.ablation … --kept

Each change is trained with several seeds, written to a packed file, decoded, and measured on the whole test set, by
which nothing is chosen. Each outcome is kept under `--folder` and not made again.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.public import (
    NETWORKS,
    accuracy,
    file_sizes,
    kept_outcome,
    parser_of,
)
from benchmarks.report import markdown_table, write_report
from trainables.config import TrialConfig
from trainables.data.data_sets import load_data, load_test_images
from trainables.export.packed import unpack
from trainables.pipeline import run_pipeline, run_stages
from trainables.stages.workplace import open_workplace

NETWORK = "MLPerf Tiny ResNet-8"
BUDGET, EPOCHS = 27_000, 3
SEEDS = (0, 1, 2)
ALL = "all parts"
Changes = Mapping[str, Any]
CHANGES: dict[str, Changes] = {
    ALL: {},
    "steps stay calibrated": {"quantize.scheme.quantizer": "ste"},
    "no teacher": {"quantize.schedule.distill": None},
    "teacher as it was published": {"teacher.bn_images": 0},
    "averaged weights": {"quantize.schedule.ema_decay": 0.999},
    "batch norm not measured again": {"quantize.bn_images": 0},
    "side information in 16 bits": {"quantize.scheme.side_bits": 16},
    "equal bits in all layers": {"quantize.auto_bits": None, "quantize.scheme.w_bits": 3},
    "bits packed, no entropy coder": {"pack.coder": "bits"},
    "half of the weights zero first": {"sparsify": {"criterion": "lamp", "sparsity": 0.5, "min_density": 0.1}},
    "empty channels not guarded": {"quantize.guard_channels": False},
}
"""What is changed, by dotted keys of the trial's configuration."""


def content_of(network: Path, data: Any, changes: Changes, seed: int) -> dict[str, Any]:
    """Returns the configuration of a trial with these changes."""
    imported: dict[str, Any] = {"kind": "import", "network": str(network)}
    schedule = {"epochs": EPOCHS, "lr": 0.005, "batch_size": 128, "weight_decay": 2.5e-5}
    content: dict[str, Any] = {
        "data": data,
        "baseline": imported,
        "teacher": {**imported, "bn_images": 8_192},
        "quantize": {
            "kind": "qat",
            "scheme": {"side_bits": 8},
            "auto_bits": {"budget_bytes": BUDGET},
            "schedule": {**schedule, "distill": {"weight": 0.7, "temperature": 2}},
            "guard_channels": True,
        },
        "seed": seed,
    }
    for key, value in changes.items():
        *path, last = key.split(".")
        part = content
        for name in path:
            part = part.setdefault(name, {})
        part[last] = value
    if "sparsify" in changes:  # the epochs are shared, so that all variants train for as long
        content["sparsify"] = {**content["sparsify"], "schedule": {**schedule, "epochs": 1}, "mode": "gradual"}
        content["quantize"]["schedule"]["epochs"] = EPOCHS - 1
    return content


def measured(change: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Trains and packs one variant, and measures the network that is decoded from its file."""
    network, folder = NETWORKS[NETWORK], options.folder
    # A part of the test images is looked at after each epoch, and nothing follows from it.
    validation = {"from": "test", "fraction": 0.02}
    config = network.data(options.cifar10, augment={"crop_padding": 4, "flip": True}, validation=validation)
    place = network.captured(options.checkpoints, folder / "network.safetensors")
    trial = TrialConfig.model_validate(content_of(place, config, CHANGES[change], seed))
    workplace = open_workplace(load_data(config), folder / "stages", cpu=1, gpu=0, bf16=options.bf16)
    run_stages(trial, trial.stages()[:1], workplace)
    started = time.perf_counter()
    run_pipeline(trial, workplace, folder / f"{change}_{seed}.mbq")
    seconds = time.perf_counter() - started
    packed = (folder / f"{change}_{seed}.mbq").read_bytes()
    test = load_test_images(network.data(options.cifar10), torch.device("cpu"))
    return {"seconds": seconds, **file_sizes(packed), "accuracy": accuracy(unpack(packed).network(), test)}


def report(found: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """Returns the text of the report: a row for each change, and its difference from all parts by seed."""
    whole = {row["seed"]: row for row in found.get(ALL, ()) if "accuracy" in row}
    lines = []
    for change, rows in found.items():
        known = [row for row in rows if "accuracy" in row]
        if not known:
            lines.append([change, "error", "", "", ""])
            continue
        pairs = [(row, whole[row["seed"]]) for row in known if row["seed"] in whole]
        differences = [100 * (row["accuracy"] - other["accuracy"]) for row, other in pairs]
        more = "" if change == ALL or not differences else _mean(differences, signed=True)
        sizes = statistics.mean(row["size_bytes"] for row in known)
        lines.append([change, _mean([100 * row["accuracy"] for row in known]), more, f"{sizes:,.0f}", str(len(known))])
    header = ["changed", "accuracy, %", "difference, points", "bytes", "seeds"]
    intro = (
        f"{NETWORK} on CIFAR-10's 10,000 test images: {EPOCHS} epochs of quantization-aware training with bits of "
        f"weights chosen layer by layer under {BUDGET:,} bytes and 8 bits in activations. Each row changes one part. "
        "Means and sample standard deviations over seeds; differences are taken seed by seed."
    )
    said = sorted({f"- {change}: {r['raised'][:120]}" for change, rows in found.items() for r in rows if "raised" in r})
    return "\n\n".join([intro, markdown_table(header, lines), *(["\n".join(["Errors:", "", *said])] if said else [])])


def _mean(values: Sequence[float], *, signed: bool = False) -> str:
    mean = f"{statistics.mean(values):{'+' if signed else ''}.2f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, writes it."""
    parser = parser_of(__doc__, "ablation")
    parser.add_argument("--only", action="append", choices=list(CHANGES), help="a change; default: all")
    parser.add_argument("--seed", type=int, action="append", help="default: 0, 1 and 2")
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16, where the processor computes in it")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in options.seed or SEEDS:
        for change in options.only or CHANGES:
            kept = options.folder / f"{change}_{seed}.json"
            if options.kept and not kept.exists():
                continue
            row = kept_outcome(kept, partial(measured, change, seed, options), change=change, seed=seed)
            found.setdefault(change, []).append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    text = report(found)
    print(text)
    write_report(options.output, title="What each part is worth, CIFAR-10", text=text, data=found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
