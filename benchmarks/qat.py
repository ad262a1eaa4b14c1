"""Quantization-aware training of public networks: ours beside the tools of today, on the same images in the same order.

    python -m benchmarks.qat --checkpoints FOLDER --cifar10 FOLDER
    python -m benchmarks.qat … --only ResNet-20 --tool ours --bits 4 4
    python -m benchmarks.qat … --kept

All start from the same weights and train with the same loop, schedule and seed; nothing is chosen by accuracy. What is
told of a tool is the accuracy of its trained network on CIFAR-10's whole test set, the file that it writes by its own
means, that file compressed by zstd, and the seconds of all of it. Ours is measured as decoded from its packed file.
Each outcome is kept under `--folder` and not made again.
"""

import argparse
import importlib.metadata
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.public import (
    ABOUT_INPUTS,
    BATCH,
    NARROW_INPUTS,
    NETWORKS,
    RESIDUAL_BITS,
    Network,
    accuracy,
    file_sizes,
    kept_outcome,
    kept_outcomes,
    parser_of,
    timed,
)
from benchmarks.qat_tools import TOOLS, Write, state_file, torch_pruning
from benchmarks.report import markdown_table, write_report
from trainables.config import DataConfig, Schedule, TrialConfig
from trainables.data.data_sets import DataSet, load_data, load_test_images
from trainables.data.images import Images
from trainables.export.packed import unpack
from trainables.pipeline import run_pipeline, run_stages
from trainables.stages.saved_epochs import SavedEpochs
from trainables.stages.stage import StageContext
from trainables.stages.workplace import Workplace, open_workplace
from trainables.train.loop import fit

WIDTHS = ((8, 8), (4, 4), (3, 3), (2, 2))
CALIBRATION = 512
REMOVED = 0.3
"""The share of channels that pruning removes."""
PRUNED = f"{REMOVED:.0%} of the channels removed, weights in 8 bits where the tool can"
TRAINING: dict[str, Any] = {"lr": 0.005, "batch_size": 128, "weight_decay": 2.5e-5}
TEACHER_IMAGES = 8_192
DISTILLED = {"weight": 0.7, "temperature": 2}
LABELS, HALF, HALF_BYTES = "ours, labels alone", "ours, half the epochs", "ours, half of their bytes"
OURS = ("ours", HALF, NARROW_INPUTS, LABELS, HALF_BYTES)
PRUNED_HALF = "ours, pruned, half the epochs"
PRUNERS = ("ours, pruned", PRUNED_HALF, "Torch-Pruning")
PRUNING = {"prune_frac": REMOVED, "groups": "all", "scope": "global", "importance": "bn_taylor", "min_channels": 8}
"""How ours prunes: as in `examples/mlperf_tiny_resnet8.yaml`."""
ROOM = 0.98
"""The share of a budget that layers' bits are chosen for, since training changes what the coder makes of the codes."""
SIDE_BITS = 16
"""Of scales and biases under a budget, as is the default; `ablation.py` shows what they are worth there."""
ZEROS = {3: 0.7, 2: 0.9}
"""The share of weights that are zero where half of the others' bytes is less than two bits for each weight."""


@dataclass(frozen=True)
class Trainer:
    """What all tools share: a network, its images, and how it is trained."""

    network: Network
    checkpoints: Path
    captured: Path
    data: DataSet
    config: DataConfig
    test: Images
    schedule: Schedule
    folder: Path
    seed: int
    bf16: bool

    def ours(self, tool: str, bits: tuple[int, int]) -> dict[str, Any]:
        """Runs the product's pipeline, and measures the network that is decoded from the packed file."""
        imported: dict[str, Any] = {"kind": "import", "network": str(self.captured)}
        trained = self.schedule.model_dump()
        zeros = ZEROS.get(bits[0], 0.0) if tool == HALF_BYTES else 0.0
        if tool in (HALF, PRUNED_HALF) or zeros:
            trained["epochs"] = max(1, trained["epochs"] // 2)
        content: dict[str, Any] = {"data": self.config, "baseline": imported, "seed": self.seed}
        if tool != LABELS:
            content["teacher"] = {**imported, "bn_images": TEACHER_IMAGES}
            trained["distill"] = DISTILLED
        inputs = {"narrow_block_inputs": True} if tool == NARROW_INPUTS else {}
        side_bits = SIDE_BITS if tool == HALF_BYTES else 8
        scheme = {"w_bits": bits[0], "a_bits": bits[1], "side_bits": side_bits, **inputs}
        content["quantize"] = {"kind": "qat", "scheme": scheme, "schedule": trained, "guard_channels": True}
        if tool == HALF_BYTES:
            half = theirs(kept_outcomes(self.folder), bits)["zstd_bytes"] / 2
            content["quantize"]["auto_bits"] = {"budget_bytes": int(ROOM * half)}
            content["sparsify"] = {"sparsity": zeros, "min_density": 0.1, "schedule": trained}
        if tool in PRUNERS:
            content["prune"] = {**PRUNING, "fine_tune": trained}
            content["quantize"] = {"kind": "ptq", "scheme": scheme}
        trial = TrialConfig.model_validate(content)
        workplace = self._workplace(f"{tool}_{bits}")
        run_stages(trial, trial.stages()[:1], workplace)
        started = time.perf_counter()
        place = self.folder / f"{tool}_{bits}.mbq"
        run_pipeline(trial, workplace, place)
        seconds = time.perf_counter() - started
        packed = place.read_bytes()
        return {"accuracy": accuracy(unpack(packed).network(), self.test), "seconds": seconds, **file_sizes(packed)}

    def other(self, prepare: Callable[[nn.Module, Sequence[Tensor]], nn.Module], write: Write) -> dict[str, Any]:
        """Prepares, trains and writes a network by another tool."""
        workplace = self._workplace("none")
        context = StageContext(
            data=self.data,
            train=workplace.train,
            val=workplace.val,
            augment=self.config.augment,
            device=workplace.device,
            seed=self.seed,
            saved_epochs=SavedEpochs(None),
        )
        batches = [batch for batch, _ in workplace.train.sample(CALIBRATION, 0).batches(BATCH)]
        started = time.perf_counter()
        network = workplace.device.place(prepare(self.network.plain(self.checkpoints), batches))
        fit(network, self.schedule, context)
        network.eval()
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "model.bin"
            write(network, batches[0], place)
            seconds = time.perf_counter() - started
            return {"seconds": seconds, **file_sizes(place.read_bytes()), "accuracy": accuracy(network, self.test)}

    def _workplace(self, stages: str) -> Workplace:
        return open_workplace(self.data, self.folder / "stages" / stages, cpu=1, gpu=0, bf16=self.bf16)


def measured(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields the outcome of each tool at each width for one network, the float network's first."""
    network = NETWORKS[name]
    folder: Path = options.folder / name
    if options.kept:
        yield from kept_outcomes(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    # The first 2 % of a split drawn from the test images are looked at after each epoch, and nothing follows from it.
    config = network.data(
        options.cifar10, augment={"crop_padding": 4, "flip": True}, validation={"from": "test", "fraction": 0.02}
    )
    whole = load_test_images(network.data(options.cifar10), torch.device("cpu"))
    trainer = Trainer(
        network=network,
        checkpoints=options.checkpoints,
        captured=network.captured(options.checkpoints, folder / "network.safetensors"),
        data=load_data(config),
        config=config,
        test=whole,
        schedule=Schedule(epochs=options.epochs, **TRAINING),
        folder=folder,
        seed=options.seed,
        bf16=options.bf16,
    )
    yield kept_outcome(folder / "float.json", lambda: timed(lambda: network.plain(options.checkpoints), whole))
    for bits in options.bits:
        for tool in options.tool:
            if (tool in PRUNERS and bits != WIDTHS[0]) or (tool == NARROW_INPUTS and bits[1] >= RESIDUAL_BITS):
                continue
            kept = folder / f"{tool.replace(' ', '_')}_w{bits[0]}a{bits[1]}_{options.epochs}_{options.seed}.json"
            about = {"tool": tool, "bits": list(bits), "epochs": options.epochs, "seed": options.seed}
            about |= {"bf16": True} if options.bf16 else {}
            yield kept_outcome(kept, partial(made, trainer, tool, bits), **about)


def made(trainer: Trainer, tool: str, bits: tuple[int, int]) -> dict[str, Any]:
    """Makes a network by a tool and measures it."""
    if tool == PRUNERS[-1]:
        return trainer.other(partial(torch_pruning, removed=REMOVED), state_file)
    if tool not in TOOLS:
        return trainer.ours(tool, bits)
    prepare = partial(TOOLS[tool].prepare, w_bits=bits[0], a_bits=bits[1])
    return trainer.other(prepare, TOOLS[tool].write)


def theirs(rows: Sequence[dict[str, Any]], bits: tuple[int, int]) -> dict[str, Any]:
    """Returns the row of the most accurate network that another tool made with these bits.

    Raises:
        ValueError: there is none.
    """
    found = [row for row in rows if row.get("tool") in TOOLS and row["bits"] == [*bits] and "accuracy" in row]
    if not found:
        raise ValueError(f"no other tool has made a network of W{bits[0]}A{bits[1]}: run these first")
    return max(found, key=lambda row: float(row["accuracy"]))


def report(found: dict[str, list[dict[str, Any]]], tools: Sequence[str], widths: Sequence[tuple[int, int]]) -> str:
    """Returns the text of the report: a table for each network and width."""
    quantizers = [tool for tool in tools if tool not in PRUNERS]
    parts = [
        "Accuracy on CIFAR-10's 10,000 test images (standard error about 0.3 points), bytes of the file that each tool "
        "writes by its own means, bytes of that file after zstd, and seconds from the float network to the file. All "
        "start from the same weights and see the same images in the same order, with the same learning rates "
        f"({TRAINING['lr']} along a cosine, batches of {TRAINING['batch_size']}, SGD). Ours learns from the float "
        f"network beside the labels; `{LABELS}` learns from these only, as the others do, and `{HALF}` shows how "
        f"accurate ours is after half of the training. `{HALF_BYTES}` has A bits in activations, and chooses the bits "
        "of each layer's weights so that its file has half the bytes of the most accurate of the others after zstd "
        f"(its scales and biases have {SIDE_BITS} bits, elsewhere 8); at "
        f"W3 and W2 the first half of its epochs makes {ZEROS[3]:.0%} and {ZEROS[2]:.0%} of the weights zero. "
        f"First and last layer have 8 bits where a tool can. {ABOUT_INPUTS}"
    ]
    for name, rows in found.items():
        epochs = sorted({row["epochs"] for row in rows if "epochs" in row})
        trained = "; trained in bfloat16" if any(row.get("bf16") for row in rows) else ""
        title = f"{name}: {100 * rows[0]['accuracy']:.2f} % in float32; epochs: {', '.join(map(str, epochs))}{trained}"
        parts.append(f"## {title}")
        for bits in widths:
            own = [row for row in rows if row.get("bits") == [*bits]]
            for title, chosen in ((f"W{bits[0]}A{bits[1]}", quantizers), (PRUNED, PRUNERS)):
                lines = [_line(row, rows) for tool in chosen for row in own if row["tool"] == tool]
                header = ["tool", "accuracy, %", "bytes", "after zstd", "seconds", "ours with this accuracy, bytes"]
                parts += [f"### {title}", markdown_table(header, lines)] if lines else []
    said = sorted({f"- {r['tool']}: {r['raised'][:120]}" for rows in found.values() for r in rows if "raised" in r})
    parts += ["\n".join(["Errors:", "", *said])] if said else []
    versions = sorted({f"{tool.package} {importlib.metadata.version(tool.package)}" for tool in TOOLS.values()})
    ways = [f"- {name}: {_doc(tool.prepare)} Its file: {_doc(tool.write)}" for name, tool in TOOLS.items()]
    return "\n\n".join([*parts, f"## The other tools\n\n{', '.join(versions)}.\n\n" + "\n".join(ways)])


def _doc(function: Callable[..., Any]) -> str:
    return " ".join((function.__doc__ or "").split())


def _line(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> list[str]:
    if "raised" in row:
        return [row["tool"], "error", "", "", "", ""]
    sizes = (f"{row[kind]:,}" for kind in ("size_bytes", "zstd_bytes"))
    seconds = "not timed" if row["seconds"] is None else f"{row['seconds']:.0f}"  # the process was paused meanwhile
    return [row["tool"], f"{100 * row['accuracy']:.2f}", *sizes, seconds, _smallest(row, rows)]


def _smallest(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """Returns the bytes of our smallest file that is as accurate as another tool's; of a row of ours nothing."""
    if row["tool"].startswith(OURS[0]):
        return ""
    ours = [r["size_bytes"] for r in rows if r.get("tool") in OURS and r.get("accuracy", 0) >= row["accuracy"]]
    return f"{min(ours):,}" if ours else "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the tables, writes them."""
    every = [*OURS[:-1], *TOOLS, *PRUNERS, HALF_BYTES]  # this asks what the others need
    parser = parser_of(__doc__, "qat")
    parser.add_argument("--only", action="append", choices=list(NETWORKS), help="a network; default: the two smaller")
    parser.add_argument("--tool", action="append", choices=every, help="a tool; default: all")
    parser.add_argument("--bits", nargs=2, type=int, action="append", help="of weights and activations; default: all")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="all train in bfloat16, where the processor computes in it")
    options = parser.parse_args(arguments)
    options.tool = options.tool or every
    options.bits = [tuple(bits) for bits in options.bits or WIDTHS]
    found: dict[str, list[dict[str, Any]]] = {}
    for name in options.only or [*NETWORKS][:2]:
        for row in measured(name, options):
            found.setdefault(name, []).append(row)
            print(name, json.dumps(row), file=sys.stderr, flush=True)
    text = report(found, options.tool, options.bits)
    print(text)
    write_report(options.output, title="Quantization-aware training, CIFAR-10", text=text, data=found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
