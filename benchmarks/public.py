"""Public networks for CIFAR-10: their files, the modules that make them, how outcomes on them are kept and measured."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import torch
from torch import nn

from trainables.config import DataConfig, QuantScheme
from trainables.data.images import Images
from trainables.graph.network_file import network_bytes
from trainables.models.checkpoint_file import read_fitted
from trainables.models.importing import capture_network, make_module
from trainables.train.loop import evaluate

BATCH, ZSTD_LEVEL = 64, 22
IMAGE = (3, 32, 32)
RESIDUAL_BITS = QuantScheme().residual_bits
NARROW_INPUTS = "ours, block inputs narrow"
ABOUT_INPUTS = (
    f"Ours keeps {RESIDUAL_BITS} bits in the sums of the residual stream, which are the inputs of every other "
    "convolution; Brevitas and ModelOpt quantize these inputs to A bits, and leave the stream itself in float. In "
    f"`{NARROW_INPUTS}` these inputs have A bits as well (`narrow_block_inputs`)."
)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PIXELS = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}
"""Constants of a network that takes pixels from 0 to 255 as they are."""


@dataclass(frozen=True)
class Network:
    """A public network: its file, the callable that makes it, and what its images are."""

    file: str
    module: str
    arguments: dict[str, Any]
    constants: dict[str, tuple[float, ...]]

    def data(self, folder: Path, **more: Any) -> DataConfig:
        """Returns the data set as the network takes it."""
        return DataConfig.model_validate({"name": "cifar10", "root": str(folder), **self.constants, **more})

    def plain(self, checkpoints: Path) -> nn.Module:
        """Makes the module that other tools get, with the weights of its file, in eval mode."""
        module = make_module(self.module, self.arguments)
        module.load_state_dict(read_fitted(checkpoints / self.file, module.state_dict()).state)
        return module.eval()

    def captured(self, checkpoints: Path, place: Path) -> Path:
        """Writes the captured network where it is not there yet, and returns its place."""
        if not place.exists():
            network = capture_network(self.module, self.arguments, IMAGE, checkpoint=checkpoints / self.file)
            place.write_bytes(network_bytes(network))
        return place


NETWORKS = {
    "MLPerf Tiny ResNet-8": Network("mlperf_tiny_resnet8.safetensors", "benchmarks.resnet:ResNet8", {}, PIXELS),
    "ResNet-20": Network("resnet20-12fca82f.th", "benchmarks.resnet:ResNet", {"blocks": 3}, IMAGENET),
    "ResNet-56": Network("resnet56-4bfd9763.th", "benchmarks.resnet:ResNet", {"blocks": 9}, IMAGENET),
}


def kept_outcome(kept: Path, make: Callable[[], dict[str, Any]], **about: Any) -> dict[str, Any]:
    """Returns the outcome that is kept, or makes it, with its seconds or what was raised, and keeps that."""
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    try:
        found = {**about, **make()}
    except Exception as err:  # what a tool cannot do, it says in any way
        found = {**about, "raised": f"{type(err).__name__}: {str(err).splitlines()[0] if str(err) else ''}"}
    kept.write_text(json.dumps(found) + "\n")
    return found


def kept_outcomes(folder: Path) -> list[dict[str, Any]]:
    """Returns the outcomes that are kept for a network, the float network's first."""
    return [json.loads(file.read_text()) for file in (folder / "float.json", *sorted(folder.glob("*_w*a*.json")))]


def timed(make: Callable[[], nn.Module], test: Images) -> dict[str, Any]:
    """Makes a network, and returns its accuracy and the seconds that making it took."""
    started = time.perf_counter()
    network = make()
    seconds = time.perf_counter() - started
    return {"accuracy": accuracy(network, test), "seconds": seconds}


@torch.no_grad()
def accuracy(network: nn.Module, images: Images) -> float:
    """Measures any callable: the networks of some tools have no evaluation mode, and are in it."""
    if hasattr(network, "graph") and not hasattr(network, "units"):
        right = sum(int((network(batch).argmax(1) == labels).sum()) for batch, labels in images.batches(BATCH))
        return right / len(images)
    return evaluate(network, images)


def file_sizes(content: bytes) -> dict[str, int]:
    """Returns the bytes of a file, and of the same after zstd's highest level."""
    codec = pyarrow.Codec("zstd", compression_level=ZSTD_LEVEL)
    return {"size_bytes": len(content), "zstd_bytes": len(codec.compress(content, asbytes=True))}


def parser_of(about: str | None, name: str) -> argparse.ArgumentParser:
    """Returns a parser of the options that all benchmarks on public networks have, by a script's docstring and name."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder of the public checkpoints")
    parser.add_argument("--cifar10", type=Path, required=True, help="folder that holds cifar-10-batches-py")
    parser.add_argument("--kept", action="store_true", help="report the outcomes that are kept, and measure nothing")
    parser.add_argument("--folder", type=Path, default=Path("runs") / name)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results") / name)
    return parser
