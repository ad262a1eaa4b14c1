"""Bits layer by layer without training: ours under a budget of packed bytes, ModelOpt at the same mean bits, NNCF.

    python -m benchmarks.mixed --checkpoints FOLDER --cifar10 FOLDER
    python -m benchmarks.mixed … --kept

Each outcome is kept under `--folder` and not made again. Activations have 8 bits in ours and in ModelOpt's; the mixed
precision of NNCF is of weights alone.
"""

import argparse
import importlib.metadata
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.public import (
    BATCH,
    NETWORKS,
    accuracy,
    file_sizes,
    kept_outcome,
    kept_outcomes,
    parser_of,
    timed,
)
from benchmarks.qat_tools import TOOLS
from benchmarks.report import markdown_table, write_report
from trainables.config import DataConfig, TrialConfig
from trainables.data.data_sets import DataSet, load_data, load_test_images
from trainables.data.images import Images
from trainables.export.packed import unpack
from trainables.pipeline import run_pipeline, run_stages
from trainables.stages.workplace import open_workplace

CALIBRATION = 512
WIDTHS = (2, 3, 4, 5, 6, 8)
SHARES = (0.14, 0.11, 0.09, 0.075)
"""The budgets, as shares of the bytes of the weights in float32."""
LABELED = Sequence[tuple[torch.Tensor, torch.Tensor]]


def ours(place: Path, data: DataSet, config: DataConfig, budget: int, folder: Path, test: Images) -> dict[str, Any]:
    """Chooses the bits of each layer under a budget, and measures the network that is decoded from the packed file."""
    content = {
        "data": config,
        "baseline": {"kind": "import", "network": str(place)},
        "quantize": {"kind": "ptq", "scheme": {"side_bits": 8}, "auto_bits": {"budget_bytes": budget}},
    }
    trial = TrialConfig.model_validate(content)
    workplace = open_workplace(data, folder / "stages", cpu=1, gpu=0)
    run_stages(trial, trial.stages()[:1], workplace)
    started = time.perf_counter()
    run_pipeline(trial, workplace, folder / f"{budget}.mbq")
    seconds = time.perf_counter() - started
    packed = (folder / f"{budget}.mbq").read_bytes()
    decoded = unpack(packed)
    bits = sum(layer.bits * layer.count for layer in decoded.layers) / sum(layer.count for layer in decoded.layers)
    return {"bits": bits, "seconds": seconds, **file_sizes(packed), "accuracy": accuracy(decoded.network(), test)}


def modelopt(module: nn.Module, batches: LABELED, bits: float) -> nn.Module:
    """`auto_quantize` by KL divergence, with 2 to 8 bits to choose from and 8 in activations.

    Its default, scores by gradients of the loss, vanishes on images that a network was trained on to the end: it then
    took 2.5 bits of the 4.1 that it might, in ResNet-56.
    """
    import modelopt.torch.quantization as tool

    quantized: nn.Module
    quantized, _ = tool.auto_quantize(
        deepcopy(module),
        constraints={"effective_bits": bits},
        quantization_formats=[_format(width) for width in WIDTHS],
        data_loader=batches,
        forward_step=lambda network, batch: network(batch[0]),
        num_calib_steps=len(batches),
        num_score_steps=len(batches),
        method="kl_div",
    )
    return quantized


def _format(w_bits: int) -> dict[str, Any]:
    rules = (("*", None), ("*weight_quantizer", {"num_bits": w_bits, "axis": 0}), ("*input_quantizer", {"num_bits": 8}))
    return {
        "quant_cfg": [
            {"quantizer_name": name, "enable": False} if content is None else {"quantizer_name": name, "cfg": content}
            for name, content in rules
        ],
        "algorithm": "max",
    }


def nncf(module: nn.Module, batches: LABELED) -> nn.Module:
    """`compress_weights` with 4 bits where it can; convolutions keep 8."""
    import nncf as tool

    images = [batch for batch, _ in batches]
    quantized: nn.Module = tool.compress_weights(
        deepcopy(module), mode=tool.CompressWeightsMode.INT4_SYM, group_size=-1, dataset=tool.Dataset(images)
    )
    return quantized


def measured(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields the outcome of each tool at each budget for one network, the float network's first."""
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
    batches = list(images.batches(BATCH))

    def other(tool: str, *arguments: Any) -> dict[str, Any]:
        module, started = network.plain(options.checkpoints), time.perf_counter()
        made = modelopt(module, batches, *arguments) if tool == "ModelOpt" else nncf(module, batches)
        seconds = time.perf_counter() - started
        with tempfile.TemporaryDirectory() as temporary:
            written = Path(temporary) / "model.bin"
            TOOLS[tool].write(made, batches[0][0], written)
            sizes = file_sizes(written.read_bytes())
        return {
            "bits": arguments[0] if arguments else None,
            "seconds": seconds,
            **sizes,
            "accuracy": accuracy(made, test),
        }

    plain = network.plain(options.checkpoints)
    yield kept_outcome(folder / "float.json", lambda: timed(lambda: plain, test))
    weights = sum(p.numel() for p in plain.parameters() if p.ndim > 1)
    for share in options.share or SHARES:
        budget = int(share * 4 * weights)
        made = partial(ours, place, data, config, budget, folder, test)
        found = kept_outcome(folder / f"ours_w{budget}a8.json", made, tool="ours", budget_bytes=budget)
        yield found
        if "bits" in found:
            alike = partial(other, "ModelOpt", found["bits"])
            yield kept_outcome(folder / f"ModelOpt_w{budget}a8.json", alike, tool="ModelOpt", budget_bytes=budget)
    yield kept_outcome(folder / "NNCF_w0a0.json", lambda: other("NNCF"), tool="NNCF", budget_bytes=None)


def report(found: dict[str, list[dict[str, Any]]]) -> str:
    """Returns the text of the report: a table for each network."""
    parts = [
        "Accuracy on CIFAR-10's 10,000 test images (standard error about 0.3 points) after quantization without "
        "training, with bits of weights that are chosen layer by layer; ModelOpt has the mean bits that ours found for "
        "its budget. Bytes are those of the file that a tool writes by its own means, and of that file after zstd. "
        f"{CALIBRATION} training images calibrate."
    ]
    for name, rows in found.items():
        told = sorted(rows[1:], key=lambda row: (-(row["budget_bytes"] or 0), row["tool"] != "ours"))
        lines = [_line(row) for row in told]
        header = ["tool", "budget, bytes", "mean bits", "accuracy, %", "bytes", "after zstd", "seconds"]
        parts += [f"## {name}: {100 * rows[0]['accuracy']:.2f} % in float32", markdown_table(header, lines)]
    said = sorted({f"- {r['tool']}: {r['raised'][:120]}" for rows in found.values() for r in rows if "raised" in r})
    parts += ["\n".join(["Errors:", "", *said])] if said else []
    versions = ", ".join(f"{package} {importlib.metadata.version(package)}" for package in ("nncf", "nvidia-modelopt"))
    ways = "\n".join(
        f"- {name}: {' '.join((tool.__doc__ or '').split())}" for name, tool in (("ModelOpt", modelopt), ("NNCF", nncf))
    )
    return "\n\n".join([*parts, f"## The other tools\n\n{versions}.\n\n{ways}"])


def _line(row: dict[str, Any]) -> list[str]:
    budget = f"{row['budget_bytes']:,}" if row["budget_bytes"] else ""
    if "raised" in row:
        return [row["tool"], budget, "", "error", "", "", ""]
    bits = f"{row['bits']:.2f}" if row["bits"] else ""
    sizes = (f"{row[kind]:,}" for kind in ("size_bytes", "zstd_bytes"))
    return [row["tool"], budget, bits, f"{100 * row['accuracy']:.2f}", *sizes, f"{row['seconds']:.0f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the table, writes it."""
    parser = parser_of(__doc__, "mixed")
    parser.add_argument("--only", action="append", choices=list(NETWORKS), help="a network; default: ResNet-56")
    parser.add_argument("--share", type=float, action="append", help="a budget, as a share of the weights in float32")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, Any]]] = {}
    for name in options.only or ["ResNet-56"]:
        for row in measured(name, options):
            found.setdefault(name, []).append(row)
            print(name, json.dumps(row), file=sys.stderr, flush=True)
    text = report(found)
    print(text)
    write_report(options.output, title="Bits layer by layer without training, CIFAR-10", text=text, data=found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
