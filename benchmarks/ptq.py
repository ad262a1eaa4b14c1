"""Quantization without training, of networks that other people trained: ours beside the tools of today.

    python -m benchmarks.ptq --checkpoints FOLDER --cifar10 FOLDER
    python -m benchmarks.ptq … --only ResNet-20 --tool ours --bits 4 8
    python -m benchmarks.ptq … --kept

The networks are public ones for CIFAR-10, on its whole test set. Each outcome is kept under `--folder` and not made
again. Calibration takes 512 training images, the same for all tools; labels choose nothing but, in ours, whether batch
norm is measured again.
"""

import argparse
import importlib.metadata
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.ptq_tools import PACKAGES, TOOLS
from benchmarks.report import markdown_table, write_report
from trainables.config import BaselineImport, DataConfig, PostTrainingQuant, QuantScheme, TrialConfig
from trainables.data.data_sets import DataSet, load_data, load_test_images
from trainables.data.images import Images
from trainables.graph.network_file import network_bytes
from trainables.models.checkpoint_file import read_fitted
from trainables.models.importing import capture_network, make_module
from trainables.pipeline import run_stages
from trainables.quant.fold import folded
from trainables.stages.workplace import open_workplace
from trainables.train.loop import evaluate

WIDTHS = ((8, 8), (6, 8), (4, 8), (4, 4), (3, 8))
CALIBRATION, BATCH = 512, 64
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PIXELS = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
"""Constants of a network that takes pixels from 0 to 255 as they are."""
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, batch norm as it is": {"bn_images": 0},
    "ours, rounded to nearest": {"bn_images": 0, "rounding": "nearest", "bias_correction": False},
}


@dataclass(frozen=True)
class Network:
    """A public network: its file, the callable that makes it, and what its images are."""

    file: str
    module: str
    arguments: dict[str, Any]
    constants: dict[str, tuple[float, ...]]

    def data(self, folder: Path) -> DataConfig:
        """Returns the data set as the network takes it."""
        return DataConfig.model_validate({"name": "cifar10", "root": str(folder), **self.constants})


NETWORKS = {
    "MLPerf Tiny ResNet-8": Network("mlperf_tiny_resnet8.safetensors", "benchmarks.resnet:ResNet8", {}, PIXELS),
    "ResNet-20": Network("resnet20-12fca82f.th", "benchmarks.resnet:ResNet", {"blocks": 3}, IMAGENET),
    "ResNet-56": Network("resnet56-4bfd9763.th", "benchmarks.resnet:ResNet", {"blocks": 9}, IMAGENET),
}


def plain_module(network: Network, checkpoints: Path) -> nn.Module:
    """Makes the module that other tools get, with the weights of its file."""
    module = make_module(network.module, network.arguments)
    module.load_state_dict(read_fitted(checkpoints / network.file, module.state_dict()).state)
    return module.eval()


def ours(way: str, place: Path, data: DataSet, config: DataConfig, bits: tuple[int, int], folder: Path) -> nn.Module:
    """Quantizes by the product's own stage, and returns the folded network, which is that of the packed file."""
    scheme = QuantScheme.model_validate({"w_bits": bits[0], "a_bits": bits[1]})
    trial = TrialConfig(
        data=config,
        baseline=BaselineImport(kind="import", network=str(place)),
        quantize=PostTrainingQuant(scheme=scheme, calibration_images=CALIBRATION, **OURS[way]),
    )
    result, _ = run_stages(trial, trial.stages(), open_workplace(data, folder / "stages", cpu=1, gpu=0))
    return folded(result.model())


def measured(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields the outcome of each tool at each width for one network, the float network's first."""
    network = NETWORKS[name]
    folder: Path = options.folder / name
    if options.kept:
        yield from (
            json.loads(file.read_text()) for file in (folder / "float.json", *sorted(folder.glob("*_w*a*.json")))
        )
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = network.data(options.cifar10)
    data = load_data(config)
    test = load_test_images(config, torch.device("cpu"))
    place = folder / "network.safetensors"
    if not place.exists():
        image = (3, 32, 32)
        checkpoint = options.checkpoints / network.file
        place.write_bytes(
            network_bytes(capture_network(network.module, network.arguments, image, checkpoint=checkpoint))
        )
    images = Images(data.train, data.mean, data.std, torch.device("cpu")).sample(CALIBRATION, 0)
    batches = [batch for batch, _ in images.batches(BATCH)]

    def made(tool: str, bits: tuple[int, int]) -> nn.Module:
        if tool in OURS:
            return ours(tool, place, data, config, bits, folder)
        return TOOLS[tool](plain_module(network, options.checkpoints), batches, *bits)

    yield _outcome(folder / "float.json", test, lambda: plain_module(network, options.checkpoints))
    for bits in options.bits:
        for tool in options.tool:
            kept = folder / f"{tool.replace(' ', '_')}_w{bits[0]}a{bits[1]}.json"
            yield _outcome(kept, test, lambda tool=tool, bits=bits: made(tool, bits), tool=tool, bits=list(bits))


def _outcome(kept: Path, test: Images, make: Callable[[], nn.Module], **about: Any) -> dict[str, Any]:
    """Returns what is kept, or makes a network, measures it on the test images and keeps that."""
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    started = time.perf_counter()
    try:
        network = make()
        seconds = time.perf_counter() - started
        found = {**about, "accuracy": _accuracy(network, test), "seconds": seconds}
    except Exception as err:  # what a tool cannot do, it says in any way
        found = {**about, "raised": f"{type(err).__name__}: {str(err).splitlines()[0] if str(err) else ''}"}
    kept.write_text(json.dumps(found) + "\n")
    return found


@torch.no_grad()
def _accuracy(network: nn.Module, images: Images) -> float:
    """Measures any callable: the networks of some tools have no evaluation mode, and are in it."""
    if hasattr(network, "graph") and not hasattr(network, "units"):
        right = sum(int((network(batch).argmax(1) == labels).sum()) for batch, labels in images.batches(BATCH))
        return right / len(images)
    return evaluate(network, images)


def report(found: dict[str, list[dict[str, Any]]], tools: Sequence[str], widths: Sequence[tuple[int, int]]) -> str:
    """Returns the text of the report: accuracies, then seconds."""
    parts = [
        "Accuracy in % on CIFAR-10's 10,000 test images after quantization without training (weights W, activations "
        f"A, bits); a cell is empty where nothing was measured. The standard error of each is at most "
        f"{100 * math.sqrt(0.25 / 10_000):.1f} points, about 0.3 near 90 %. {CALIBRATION} training images calibrate. "
        "Ours, Brevitas and ModelOpt keep 8 bits in the first and the last layer, NNCF and PT2E have no setting for "
        "that."
    ]
    for name, rows in found.items():
        at = {(row["tool"], *row["bits"]): row for row in rows if "tool" in row}
        lines = [
            [tool, *(_cell(at.get((tool, *bits))) for bits in widths), _seconds([at.get((tool, *b)) for b in widths])]
            for tool in tools
        ]
        header = ["tool", *(f"W{w}A{a}" for w, a in widths), "seconds, median"]
        parts += [f"## {name}: {100 * rows[0]['accuracy']:.2f} % in float32", markdown_table(header, lines)]
    said = sorted(
        {f"- {row['tool']}: {row['raised'][:120]}" for rows in found.values() for row in rows if "raised" in row}
    )
    parts += ["\n".join(["Errors:", "", *said])] if said else []
    versions = ", ".join(
        f"{package} {importlib.metadata.version(package)}" for package in sorted(set(PACKAGES.values()))
    )
    ways = "\n".join(f"- {tool}: {' '.join((TOOLS[tool].__doc__ or '').split())}" for tool in tools if tool in TOOLS)
    return "\n\n".join([*parts, f"## The other tools\n\n{versions}.\n\n{ways}"])


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    return "error" if "raised" in row else f"{100 * row['accuracy']:.2f}"


def _seconds(rows: Sequence[dict[str, Any] | None]) -> str:
    known = [row["seconds"] for row in rows if row is not None and "seconds" in row]
    return f"{statistics.median(known):.0f}" if known else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the tables, writes them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder of the public checkpoints")
    parser.add_argument("--cifar10", type=Path, required=True, help="folder that holds cifar-10-batches-py")
    parser.add_argument("--only", action="append", choices=list(NETWORKS), help="a network; default: all")
    parser.add_argument("--tool", action="append", choices=[*OURS, *TOOLS], help="a tool; default: all")
    parser.add_argument("--bits", nargs=2, type=int, action="append", help="of weights and activations; default: all")
    parser.add_argument("--kept", action="store_true", help="report the outcomes that are kept, and measure nothing")
    parser.add_argument("--folder", type=Path, default=Path("runs/ptq"))
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/ptq"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    options.tool = options.tool or [*OURS, *TOOLS]
    options.bits = [tuple(bits) for bits in options.bits or WIDTHS]
    found: dict[str, list[dict[str, Any]]] = {}
    for name in options.only or NETWORKS:
        for row in measured(name, options):
            found.setdefault(name, []).append(row)
            print(name, json.dumps(row), file=sys.stderr, flush=True)
    text = report(found, options.tool, options.bits)
    print(text)
    write_report(options.output, title="Quantization without training, CIFAR-10", text=text, data=found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
