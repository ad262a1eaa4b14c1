"""What one step of quantization-aware training costs beside the float step: ours, torch's, Brevitas', torchao's.

    python -m benchmarks.qat_step
    python -m benchmarks.qat_step --settings gpu --compile

A step is the cross-entropy of a batch, backward, and the product's own optimizer, for all variants. On a GPU all but
fp32 run in bf16 under autocast, as training there does.
"""

import argparse
import contextlib
import dataclasses
import importlib.metadata
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks import measure, qat_nets
from benchmarks.qat_nets import Setting
from benchmarks.report import markdown_table, write_report
from benchmarks.resnet import ResNet20
from trainables.config import Schedule
from trainables.train.optimizer import make_optimizer

SETTINGS = {
    "cifar": Setting(channels=3, size=32, width=0.5, batch=32),
    "digits": Setting(channels=1, size=12, width=0.25, batch=64),
    "resnet20": Setting(channels=3, size=32, width=1.0, batch=32, own=ResNet20),
    "gpu": Setting(channels=3, size=32, width=1.0, batch=512, device="cuda"),
}
ON_CPU = [name for name, setting in SETTINGS.items() if setting.device == "cpu"]
BAR, CAPTURED_BAR = 1.4, 1.03
"""Ours over the float step, median, and below both rivals; the captured network's float step over its module's."""
LEARNING_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to build the network, and what it is in a line."""

    network: Callable[[Setting], nn.Module]
    meaning: str


REFERENCE = "fp32"
RIVALS = {
    "brevitas": Variant(qat_nets.brevitas, "Brevitas, its layers' default quantizers, learned activation scales"),
    "torchao": Variant(qat_nets.torchao, "torchao pt2e, fused observers, batch norm folded"),
    "torchao-fixed-scales": Variant(qat_nets.torchao_fixed_scales, "torchao pt2e, observers off, batch norm folded"),
}
VARIANTS = {
    REFERENCE: Variant(qat_nets.fp32, "no quantizers"),
    "module": Variant(qat_nets.module, "no quantizers, the module itself, not captured"),
    "bf16": Variant(qat_nets.fp32, "no quantizers, autocast"),
    "ours": Variant(qat_nets.ours, "LSQ, weights and all steps learned"),
    "ours-fixed-steps": Variant(qat_nets.ours_fixed_steps, "ours, straight through, steps fixed"),
    "torch-fake-quantize": Variant(qat_nets.torch_fake_quantize, "torch.fake_quantize_*_affine, steps fixed"),
    **RIVALS,
}
COMPILED = {
    "fp32-compiled": Variant(qat_nets.compiled(qat_nets.fp32), "no quantizers, torch.compile"),
    "ours-compiled": Variant(qat_nets.compiled(qat_nets.ours), "ours, torch.compile"),
}

Times = dict[str, list[float]]
"""Milliseconds per round, by variant."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the report; 2 on a busy machine, or on one without the GPU that was asked for."""
    options = _options(arguments)
    if "gpu" in options.settings and not torch.cuda.is_available():
        print("the setting gpu needs an NVIDIA GPU, and torch finds none: choose others.", file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    try:
        measure.check_idle(force=options.force)
    except measure.BusyMachine as err:
        print(err, file=sys.stderr)
        return 2
    load_at_start = measure.load()
    found, skipped = run(options)
    conditions = {
        "rounds": options.rounds,
        "warmup": options.warmup,
        "seed": options.seed,
        "threads": options.threads,
        "load_at_start": load_at_start,
        "load_at_end": measure.load(),
        "packages": _versions(found),
        "torch": torch.__version__,
        "skipped": skipped,
    }
    text = markdown(found, conditions)
    data = {**conditions, "settings": {name: _figures(times) for name, times in found.items()}}
    write_report(options.output, title="One training step, W4A8", text=text, data=data)
    print(text)
    return 0


def run(options: argparse.Namespace) -> tuple[dict[str, Times], dict[str, str]]:
    """The times of each setting, and why variants are missing, by name."""
    variants = {**VARIANTS, **(COMPILED if options.compile else {})}
    names = [name for name in variants if name in (REFERENCE, *(options.only or variants))]
    found: dict[str, Times] = {}
    skipped: dict[str, str] = {}
    for name in options.settings:
        steps: dict[str, Callable[[], object]] = {}
        setting = SETTINGS[name]
        for variant in names:
            if (variant == "bf16" and setting.device == "cpu") or (variant == "module" and setting.own is None):
                continue  # a CPU trains in fp32, and there is no other form of the MobileNetV2
            try:
                steps[variant] = _step(variants[variant].network(setting), setting, autocast=variant != REFERENCE)
            except ModuleNotFoundError as err:
                skipped[variant] = str(err)
        found[name] = measure.interleaved(steps, warmup=options.warmup, rounds=options.rounds, seed=options.seed)
    return found, skipped


def _step(net: nn.Module, setting: Setting, *, autocast: bool) -> Callable[[], object]:
    [(images, labels)] = qat_nets.images(setting).batches(setting.batch)
    optimizer = make_optimizer(net, Schedule(epochs=1, lr=LEARNING_RATE))

    def step() -> None:
        with setting.place.autocast() if autocast else contextlib.nullcontext():
            loss = F.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step(LEARNING_RATE)
        if setting.device != "cpu":
            torch.cuda.synchronize()

    return step


def markdown(found: Mapping[str, Times], conditions: Mapping[str, Any]) -> str:
    """How it was measured, and for each setting a table and whether the bar holds."""
    packages = "".join(f", {name} {version}" for name, version in conditions["packages"].items())
    parts = [
        f"{conditions['rounds']} rounds after {conditions['warmup']} to warm up, {conditions['threads']} of "
        f"{os.cpu_count()} cores{packages}; load average {conditions['load_at_start']:.2f} at the start, "
        f"{conditions['load_at_end']:.2f} at the end. A round runs each variant once, in shuffled order. Times are "
        "medians with quartiles; a ratio is the median of the rounds' ratios to fp32."
    ]
    for name, times in found.items():
        parts += [f"## {SETTINGS[name]}", _table(times, SETTINGS[name].batch), f"Bar: {_verdict(times)}."]
    parts += [f"Left out: {name} ({reason})." for name, reason in conditions["skipped"].items()]
    return "\n\n".join(parts)


def _table(times: Times, batch: int) -> str:
    meanings = {**VARIANTS, **COMPILED}
    rows = []
    for name, values in times.items():
        ms, ratio = measure.quartiles(values), measure.ratio(values, times[REFERENCE])
        rows.append(
            [
                *(name, meanings[name].meaning),
                *(f"{ms.median:.1f}", f"{ms.low:.1f}–{ms.high:.1f}", f"{1e3 * batch / ms.median:,.0f}"),
                *(f"{ratio.median:.2f}", f"{ratio.low:.2f}–{ratio.high:.2f}"),
            ]
        )
    return markdown_table(["variant", "what it is", "ms", "quartiles", "images/s", "× fp32", "quartiles"], rows)


def _verdict(times: Times) -> str:
    """As far as the variants that ran can tell."""
    if "ours" not in times:
        return "ours did not run"
    own = measure.ratio(times["ours"], times[REFERENCE]).median
    met = {f"ours at most {BAR} × fp32": own <= BAR}
    for rival in RIVALS:
        if rival in times:
            met[f"faster than {rival}"] = own < measure.ratio(times[rival], times[REFERENCE]).median
    if "module" in times:
        captured = measure.ratio(times[REFERENCE], times["module"]).median
        met[f"captured at most {CAPTURED_BAR} × the module ({captured:.2f})"] = captured <= CAPTURED_BAR
    return "; ".join(f"{bar}: {'met' if holds else 'missed'}" for bar, holds in met.items())


def _figures(times: Times) -> dict[str, Any]:
    return {
        name: {
            "ms": dataclasses.asdict(measure.quartiles(values)),
            "ratio": dataclasses.asdict(measure.ratio(values, times[REFERENCE])),
            "each_ms": [round(value, 3) for value in values],
        }
        for name, values in times.items()
    }


def _versions(found: Mapping[str, Times]) -> dict[str, str]:
    """Of the packages of the rivals that ran."""
    packages = {variant.partition("-")[0] for times in found.values() for variant in times if variant in RIVALS}
    return {name: importlib.metadata.version(name) for name in sorted(packages)}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--warmup", type=int, default=4, help="rounds that are not counted")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the order inside each round")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=ON_CPU)
    parser.add_argument("--only", nargs="+", choices=[*VARIANTS, *COMPILED], help="variants beside fp32; default: all")
    parser.add_argument("--compile", action="store_true", help="compiled variants too: one or two minutes each")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/qat_step"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
