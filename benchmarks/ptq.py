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
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.ptq_tools import PACKAGES, TOOLS
from benchmarks.public import (
    ABOUT_INPUTS,
    BATCH,
    NARROW_INPUTS,
    NETWORKS,
    RESIDUAL_BITS,
    kept_outcome,
    kept_outcomes,
    parser_of,
    timed,
)
from benchmarks.report import markdown_table, write_report
from trainables.config import BaselineImport, DataConfig, PostTrainingQuant, QuantScheme, TrialConfig
from trainables.data.data_sets import DataSet, load_data, load_test_images
from trainables.data.images import Images
from trainables.pipeline import run_stages
from trainables.quant.fold import folded
from trainables.stages.workplace import open_workplace

WIDTHS = ((8, 8), (6, 8), (4, 8), (4, 4), (3, 8))
CALIBRATION = 512
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    NARROW_INPUTS: {},
    "ours, batch norm as it is": {"bn_images": 0},
    "ours, rounded to nearest": {"bn_images": 0, "rounding": "nearest", "bias_correction": False},
}


def ours(way: str, place: Path, data: DataSet, config: DataConfig, bits: tuple[int, int], folder: Path) -> nn.Module:
    """Quantizes by the product's own stage, and returns the folded network, which is that of the packed file."""
    inputs = {"narrow_block_inputs": True} if way == NARROW_INPUTS else {}
    scheme = QuantScheme.model_validate({"w_bits": bits[0], "a_bits": bits[1], **inputs})
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
        yield from kept_outcomes(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = network.data(options.cifar10)
    data = load_data(config)
    test = load_test_images(config, torch.device("cpu"))
    place = network.captured(options.checkpoints, folder / "network.safetensors")
    images = Images(data.train, data.mean, data.std, torch.device("cpu")).sample(CALIBRATION, 0)
    batches = [batch for batch, _ in images.batches(BATCH)]

    def made(tool: str, bits: tuple[int, int]) -> nn.Module:
        if tool in OURS:
            return ours(tool, place, data, config, bits, folder)
        return TOOLS[tool](network.plain(options.checkpoints), batches, *bits)

    yield kept_outcome(folder / "float.json", lambda: timed(lambda: network.plain(options.checkpoints), test))
    for bits in options.bits:
        for tool in options.tool:
            if tool == NARROW_INPUTS and bits[1] >= RESIDUAL_BITS:
                continue  # it is the default
            kept = folder / f"{tool.replace(' ', '_')}_w{bits[0]}a{bits[1]}.json"
            make = partial(timed, partial(made, tool, bits), test)
            yield kept_outcome(kept, make, tool=tool, bits=list(bits))


def report(found: dict[str, list[dict[str, Any]]], tools: Sequence[str], widths: Sequence[tuple[int, int]]) -> str:
    """Returns the text of the report: accuracies, then seconds."""
    parts = [
        "Accuracy in % on CIFAR-10's 10,000 test images after quantization without training (weights W, activations "
        f"A, bits); a cell is empty where nothing was measured. The standard error of each is at most "
        f"{100 * math.sqrt(0.25 / 10_000):.1f} points, about 0.3 near 90 %. {CALIBRATION} training images calibrate. "
        "Ours, Brevitas and ModelOpt keep 8 bits in the first and the last layer, NNCF and PT2E have no setting for "
        f"that. {ABOUT_INPUTS}"
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
    parser = parser_of(__doc__, "ptq")
    parser.add_argument("--only", action="append", choices=list(NETWORKS), help="a network; default: all")
    parser.add_argument("--tool", action="append", choices=[*OURS, *TOOLS], help="a tool; default: all")
    parser.add_argument("--bits", nargs=2, type=int, action="append", help="of weights and activations; default: all")
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
