"""Channels removed from public networks, before any training: weights as they stay, fitted again, and Torch-Pruning.

    python -m benchmarks.pruning --checkpoints FOLDER --cifar10 FOLDER
    python -m benchmarks.pruning … --only ResNet-20
    python -m benchmarks.pruning … --kept

Each network is measured on CIFAR-10's whole test set, by which nothing is chosen. Each outcome is kept under `--folder`
and not made again.
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
from torch import nn

from benchmarks.public import BATCH, NETWORKS, accuracy, kept_outcome, parser_of, timed
from benchmarks.qat import PRUNING
from benchmarks.qat_tools import torch_pruning
from benchmarks.report import markdown_table, write_report
from trainables.config import TrialConfig
from trainables.data.data_sets import load_data, load_test_images
from trainables.pipeline import run_stages
from trainables.prune.channel_prune import NORM_IMAGES
from trainables.stages.workplace import Workplace, open_workplace
from trainables.train.batch_norm import improve_batch_norm_

REMOVED = (0.1, 0.3, 0.5)
SEEDS = (0, 1, 2)
STAY, FITTED, OTHER = "weights stay", "reconstructed", "Torch-Pruning"
WAYS = (STAY, FITTED, OTHER)


def content_of(network: Path, data: Any, way: str, removed: float, seed: int) -> dict[str, Any]:
    """Returns the configuration whose first two stages import a network and prune it, without training."""
    images = {"reconstruction_images": 0} if way == STAY else {}
    return {
        "data": data,
        "baseline": {"kind": "import", "network": str(network)},
        "prune": {**PRUNING, **images, "prune_frac": removed, "fine_tune": {"epochs": 0, "lr": 0.01}},
        "quantize": {"kind": "ptq"},
        "seed": seed,
    }


def measured(name: str, way: str, removed: float, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Prunes a network in one way, and measures what is left."""
    network, folder = NETWORKS[name], options.folder / name
    # A part of the test images is looked at by the stage, and nothing follows from it.
    config = network.data(options.cifar10, validation={"from": "test", "fraction": 0.02})
    place = network.captured(options.checkpoints, folder / "network.safetensors")
    workplace = open_workplace(load_data(config), folder / "stages", cpu=1, gpu=0)
    started = time.perf_counter()
    if way == OTHER:
        pruned = _by_torch_pruning(network.plain(options.checkpoints), workplace, removed, seed)
    else:
        trial = TrialConfig.model_validate(content_of(place, config, way, removed, seed))
        run_stages(trial, trial.stages()[:1], workplace)
        started = time.perf_counter()
        pruned = run_stages(trial, trial.stages()[:2], workplace)[0].model().eval()
    seconds = time.perf_counter() - started
    test = load_test_images(network.data(options.cifar10), torch.device("cpu"))
    parameters = sum(p.numel() for p in pruned.parameters())
    return {"seconds": seconds, "parameters": parameters, "accuracy": accuracy(pruned, test)}


def _by_torch_pruning(plain: nn.Module, workplace: Workplace, removed: float, seed: int) -> nn.Module:
    """Prunes by Torch-Pruning, and measures batch norm again as ours does, where that is better."""
    batches = [batch for batch, _ in workplace.train.sample(BATCH, seed).batches(BATCH)]
    pruned = torch_pruning(plain, batches, removed=removed)
    improve_batch_norm_(pruned, workplace.train, NORM_IMAGES, seed)
    return pruned.eval()


def report(found: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """Returns the text of the report: a row for each network and share."""
    lines = []
    for name, rows in found.items():
        for removed in sorted({row["removed"] for row in rows if "removed" in row}):
            cells = []
            for way in WAYS:
                of_way = [row for row in rows if row.get("way") == way and row["removed"] == removed]
                known = [row for row in of_way if "accuracy" in row]
                if not known:
                    cells += ["error" if of_way else "", ""]
                    continue
                shares = [100 * row["accuracy"] for row in known]
                spread = f" ± {statistics.stdev(shares):.2f}" if len(shares) > 1 else ""
                parameters = statistics.mean(row["parameters"] for row in known)
                cells += [f"{statistics.mean(shares):.2f}{spread}", f"{parameters:,.0f}"]
            lines.append([f"{name}, {100 * rows[0]['accuracy']:.2f} %", f"{removed:.0%}", *cells])
    header = ["network", "channels removed", *(part for way in WAYS for part in (f"{way}: accuracy, %", "parameters"))]
    said = sorted(
        {f"- {row['way']}: {row['raised'][:120]}" for rows in found.values() for row in rows if "raised" in row}
    )
    text = (
        "Accuracy on CIFAR-10's 10,000 test images after channels are removed and before any training. "
        f"`{STAY}` and `{FITTED}` are `base.prune` with `importance: {PRUNING['importance']}` and `scope: global`, "
        "without and with its 512 reconstruction images, which are training images. Torch-Pruning removes the same "
        "share by the sizes of weights, which leaves other layers; its batch norm is measured again on training images "
        f"where that is better, as ours is. Means and sample standard deviations over {len(SEEDS)} seeds."
    )
    return "\n\n".join([text, markdown_table(header, lines), *(["\n".join(["Errors:", "", *said])] if said else [])])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, writes it."""
    parser = parser_of(__doc__, "pruning")
    parser.add_argument("--only", action="append", choices=list(NETWORKS), help="a network; default: all")
    options = parser.parse_args(arguments)
    found: dict[str, list[dict[str, Any]]] = {}
    for name in options.only or NETWORKS:
        found[name] = _rows(name, options)
    text = report(found)
    print(text)
    write_report(options.output, title="Channels removed, before any training, CIFAR-10", text=text, data=found)
    return 0


def _rows(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the outcomes of a network, the float network's first."""
    network, folder = NETWORKS[name], options.folder / name
    folder.mkdir(parents=True, exist_ok=True)

    def in_float() -> dict[str, Any]:
        whole = load_test_images(network.data(options.cifar10), torch.device("cpu"))
        return timed(lambda: network.plain(options.checkpoints), whole)

    rows = [kept_outcome(folder / "float.json", in_float)]
    for removed in REMOVED:
        for way in WAYS:
            for seed in SEEDS:
                kept = folder / f"{way.replace(' ', '_')}_{removed}_{seed}.json"
                if options.kept and not kept.exists():
                    continue
                about = {"way": way, "removed": removed, "seed": seed}
                rows.append(kept_outcome(kept, partial(measured, name, way, removed, seed, options), **about))
                print(name, json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
