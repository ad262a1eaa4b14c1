"""Accuracy at few bits: four ways to quantize the same trained network, over seeds, on digits.

    python benchmarks/low_bits.py --seeds 5

Every row is a stage of the product, run through its cache (`--folder`), so an interrupted run goes on where it
was. All ways have the same bits at the same places (stem and classifier 8 bits, activations 8 bits) and the same
parent; the two that train see the same number of epochs. The network is narrow (8 to 96 channels a layer before the
head), so that its capacity counts and not only the 790 training images; ours learns from a wider teacher as well.
"""

import argparse
import math
import statistics
import sys
import time
from pathlib import Path

import torch
from report import markdown_table, write_report

from trainables.config import (
    Augment,
    BaselineTrain,
    DataConfig,
    Distillation,
    ModelConfig,
    PostTrainingQuant,
    QuantAwareTrain,
    QuantScheme,
    Schedule,
    TrialConfig,
)
from trainables.data.data_sets import load_data
from trainables.pipeline import run_stages
from trainables.stages.workplace import Workplace, open_workplace

Stage = PostTrainingQuant | QuantAwareTrain

WIDTHS = (8, 4, 3, 2)
PLAIN = Schedule(epochs=20, lr=0.02, batch_size=64, weight_decay=2.5e-5)
RATES = (0.02, 0.05)
"""Plain training gets both, ours the larger one."""
DATA = DataConfig(name="digits", image_size=12, val_fraction=0.45, augment=Augment(crop_padding=1))
BASELINE = BaselineTrain(
    model=ModelConfig(name="mobilenet_v2", width=0.1),
    schedule=Schedule(epochs=30, lr=0.05, batch_size=64, warmup_epochs=2, weight_decay=1e-4),
)
TEACHER = BaselineTrain(
    model=ModelConfig(name="mobilenet_v2", width=0.5),
    schedule=Schedule(epochs=60, lr=0.05, batch_size=64, warmup_epochs=2, weight_decay=5e-4, ema_decay=0.99),
)


def methods(w_bits: int) -> dict[str, Stage]:
    """The stage of each way at one width."""

    def scheme(granularity: str, quantizer: str = "lsq") -> QuantScheme:
        bits = {"w_bits": w_bits, "a_bits": 8}
        return QuantScheme.model_validate({**bits, "granularity": granularity, "quantizer": quantizer})

    found: dict[str, Stage] = {
        "PTQ per tensor": PostTrainingQuant(scheme=scheme("tensor")),
        "PTQ per channel": PostTrainingQuant(scheme=scheme("channel")),
    }
    for lr in RATES:
        found[f"plain STE QAT, lr {lr:g}"] = QuantAwareTrain(
            kind="qat", scheme=scheme("channel", "ste"), schedule=PLAIN.model_copy(update={"lr": lr})
        )
    return {**found, "LSQ QAT, all of ours": ours(scheme("channel"))}


def ours(scheme: QuantScheme) -> QuantAwareTrain:
    """Learned steps, teacher, average, guard: in the epochs that `PLAIN` has.

    Progressive widths and oscillation freezing are left out: on other seeds they gained nothing in 20 epochs.
    """
    changes = {"lr": max(RATES), "distill": Distillation(weight=0.7, temperature=2.0), "ema_decay": 0.99}
    schedule = PLAIN.model_copy(update=changes)
    return QuantAwareTrain(kind="qat", scheme=scheme, schedule=schedule, guard_channels=True)


def accuracy(stage: Stage | None, seed: int, workplace: Workplace) -> float:
    """Validation accuracy after a stage on the baseline of this seed; None: of the baseline itself."""
    learns = isinstance(stage, QuantAwareTrain) and stage.schedule.distill is not None
    trial = TrialConfig(
        seed=seed,
        data=DATA,
        baseline=BASELINE,
        teacher=TEACHER if learns else None,
        quantize=stage or PostTrainingQuant(),
    )
    stages = trial.stages() if stage is not None else trial.stages()[:1]
    return run_stages(trial, stages, workplace)[0].metrics["val_accuracy"]


def measure(seeds: list[int], folder: Path) -> dict[str, dict[str, list[float]]]:
    """Accuracies by width and way, one per seed; the float network stands under "fp32"."""
    found: dict[str, dict[str, list[float]]] = {"fp32": {"baseline": []}}
    for seed in seeds:
        # The split moves with the seed too: the spread is that of another draw of everything.
        data = load_data(DATA.model_copy(update={"split_seed": seed}))
        workplace = open_workplace(data, folder, cpu=1, gpu=0)
        found["fp32"]["baseline"].append(accuracy(None, seed, workplace))
        for w_bits in WIDTHS:
            for name, stage in methods(w_bits).items():
                started = time.perf_counter()
                value = accuracy(stage, seed, workplace)
                found.setdefault(f"W{w_bits}A8", {}).setdefault(name, []).append(value)
                took = time.perf_counter() - started
                print(f"seed {seed} W{w_bits} {name}: {100 * value:.2f} % ({took:.0f} s)", file=sys.stderr, flush=True)
    return found


def cell(values: list[float]) -> str:
    """Mean ± sample standard deviation, in points."""
    spread = statistics.stdev(values) if len(values) > 1 else math.nan
    return f"{100 * statistics.fmean(values):.2f} ± {100 * spread:.2f}"


def main() -> None:
    """Measures, prints the table, writes it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/low_bits"), help="where the stage cache lies")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/low_bits"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(list(range(options.first_seed, options.first_seed + options.seeds)), options.folder)
    names = list(methods(8))
    rows = [[width, *(cell(ways[name]) for name in names)] for width, ways in found.items() if width != "fp32"]
    text = (
        f"Validation accuracy in %, mean ± standard deviation over {options.seeds} seeds (each with its own split), "
        f"{len(load_data(DATA).val)} images each. The float network (MobileNetV2, width {BASELINE.model.width:g}): "
        f"{cell(found['fp32']['baseline'])}. All of ours: learned steps, average of weights, channel guard, and "
        f"distillation from a network of width {TEACHER.model.width:g}, which the others do not have.\n\n"
        + markdown_table(["bits", *names], rows)
    )
    print(text)
    write_report(options.output, title="Accuracy at few bits, digits", text=text, data=found)


if __name__ == "__main__":
    main()
