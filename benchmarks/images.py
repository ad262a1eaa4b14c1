"""A data set that is larger than memory should hold: what decoding it takes, and training from its files.

    python -m benchmarks.images
    python -m benchmarks.images --images 20000 --side 256 --rounds 5

JPEG files are made in a temporary folder and loaded as `image_folder`, in a process of its own each time: decoded, then
found decoded, then held in memory as a whole. The peak is the memory of the process above what it has after its
imports. Training images per second are measured by turns, from the mapped files and from memory, a few steps at a time.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image
from torch import nn

from benchmarks.report import markdown_table, write_report
from trainables.config import Augment, DataConfig, ModelConfig
from trainables.data import data_sets
from trainables.data.data_sets import load_data
from trainables.data.decoding import decode_once
from trainables.data.decoding.mapped import MappedPixels
from trainables.data.device_pixels import StreamedPixels
from trainables.data.images import Images, ImageSet
from trainables.device import choose_device
from trainables.models.model import baseline_architecture, build

CLASSES = 10
BATCH = {"train": 16, "draw": 64}
STEPS = {"train": 2, "draw": 20}
CPU = choose_device(0.0)


def make_files(place: Path, count: int, side: int) -> None:
    """Writes JPEG files, smooth colors with some noise, in a folder for each class."""
    for label in range(CLASSES):
        (place / f"class{label}").mkdir(parents=True)

    def write(number: int) -> None:
        draws = np.random.default_rng(number)
        coarse = Image.fromarray(draws.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((side, side))
        noisy = np.asarray(coarse, np.int16) + draws.integers(-12, 13, (side, side, 3), dtype=np.int16)
        file = place / f"class{number % CLASSES}" / f"{number:06d}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)

    with ThreadPoolExecutor() as threads:
        list(threads.map(write, range(count)))


def config_of(place: Path, side: int) -> DataConfig:
    """Returns the data set of these files, three of a hundred of which are left for the test."""
    return DataConfig(
        name="image_folder",
        root=str(place / "images"),
        cache=str(place / "cache"),
        image_size=side,
        test_fraction=0.03,
        augment=Augment(flip=True),
    )


def loaded(place: Path, side: int, *, in_memory: bool) -> dict[str, Any]:
    """Loads the set in this process, and returns seconds and the peak of memory."""
    data_sets.IN_MEMORY_BYTES = sys.maxsize if in_memory else 0
    with tempfile.TemporaryDirectory() as folder:  # what is imported on the way is no part of the peak
        make_files(Path(folder) / "images", 50 * CLASSES, side)
        load_data(config_of(Path(folder), side))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = psutil.Process().memory_info().rss
    started = time.perf_counter()
    data = load_data(config_of(place, side))
    seconds = time.perf_counter() - started
    assert isinstance(data.train.images, MappedPixels) != in_memory
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    return {
        "seconds": seconds,
        "peak_bytes": peak - before,
        "set_bytes": data.train.images.nbytes + data.val.images.nbytes,
        "shard_bytes": decode_once.SHARD_BYTES,
    }


def in_process_of_its_own(place: Path, side: int, *, in_memory: bool = False) -> dict[str, Any]:
    """Calls `loaded` in a new process."""
    command = [sys.executable, "-m", "benchmarks.images", "--load", str(place), "--side", str(side)]
    command += ["--in-memory"] if in_memory else []
    run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def training_speeds(place: Path, side: int, rounds: int) -> dict[str, list[float]]:
    """Returns images per second of training, and of drawing batches alone, from files and from memory by turns."""
    data_sets.IN_MEMORY_BYTES = 0
    data = load_data(config_of(place, side))
    files = Images(data.train, data.mean, data.std, CPU.torch)
    assert isinstance(files.pixels, StreamedPixels)
    memory = Images(ImageSet(data.train.images[:], data.train.labels), data.mean, data.std, CPU.torch)
    model = CPU.place(build(baseline_architecture(ModelConfig(width=0.25), data)))
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    augment = Augment(flip=True)

    def speed(images: Images, seed: int, kind: str) -> float:
        drawn = images.shuffled(BATCH[kind], augment, torch.Generator().manual_seed(seed))
        next(drawn)
        count, started = 0, time.perf_counter()
        for (batch, labels), _ in zip(drawn, range(STEPS[kind]), strict=False):
            if kind == "train":
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(batch), labels).backward()
                optimizer.step()
            count += len(labels)
        return count / (time.perf_counter() - started)

    model.train()
    ways = {"files": files, "memory": memory}
    found: dict[str, list[float]] = {f"{kind} {way}": [] for kind in ("train", "draw") for way in ways}
    for turn in range(rounds + 1):
        for way in sorted(ways, reverse=bool(turn % 2)):
            for kind in ("train", "draw"):
                value = speed(ways[way], turn, kind)
                if turn:  # the first round warms up
                    found[f"{kind} {way}"].append(value)
    return found


def report(found: dict[str, Any], options: argparse.Namespace) -> str:
    """Returns the text of the report."""
    loads = [
        [name, f"{row['seconds']:.1f}", f"{row['peak_bytes'] / 1e6:,.0f}", f"{row['peak_bytes'] / base:.2f} x {what}"]
        for name, row, base, what in (
            ("decoded", found["decode"], found["decode"]["shard_bytes"], "buffer"),
            ("found decoded", found["again"], found["again"]["shard_bytes"], "buffer"),
            ("held in memory", found["memory"], found["memory"]["set_bytes"], "set"),
        )
    ]
    speeds, lines = found["speeds"], []
    for kind, what in (("train", "training MobileNetV2 0.25"), ("draw", "drawing batches alone")):
        files, memory = speeds[f"{kind} files"], speeds[f"{kind} memory"]
        ratios = sorted(a / b for a, b in zip(files, memory, strict=True))
        middle = (f"{statistics.median(values):,.0f}" for values in (files, memory))
        lines.append([what, *middle, f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"])
    return "\n\n".join(
        [
            f"{options.images:,} JPEG files of {options.side} x {options.side} pixels, "
            f"{found['decode']['set_bytes'] / 1e9:.2f} GB decoded; {torch.get_num_threads()} threads.",
            markdown_table(["the set is", "seconds", "peak, MB above imports", "of"], loads),
            f"Images per second, drawn at random and flipped, {BATCH['train']} in a batch of training and "
            f"{BATCH['draw']} in one that is drawn alone; median of {options.rounds} rounds by turns, "
            "and the ratio of each round with its range. The files are in the system's cache of pages.",
            markdown_table(["", "from files", "from memory", "ratio"], lines),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes the files, measures, prints the tables, writes them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=256, help="height and width of each image, pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/images"))
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--in-memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.load:
        print(json.dumps(loaded(options.load, options.side, in_memory=options.in_memory)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_files(place / "images", options.images, options.side)
        found: dict[str, Any] = {
            "decode": in_process_of_its_own(place, options.side),
            "again": in_process_of_its_own(place, options.side),
            "memory": in_process_of_its_own(place, options.side, in_memory=True),
            "speeds": training_speeds(place, options.side, options.rounds),
        }
    text = report(found, options)
    print(text)
    write_report(options.output, title="A data set larger than memory should hold", text=text, data=found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
