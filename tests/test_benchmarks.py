"""Benchmarks run, leave out what is not installed and say so, and measure the same network for all."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import measure, qat_nets, qat_step
from benchmarks.qat_nets import Setting
from benchmarks.resnet import ResNet20
from trainables.models.units import quant_points
from trainables.quant.lsq import LsqQuantizer
from tune_app.ledger.ledger import Assignment

ROOT = Path(__file__).parent.parent
TINY = Setting(channels=1, size=8, width=0.1, batch=4)
ONE_ROUND = ["--rounds", "1", "--warmup", "0", "--settings", "digits", "--force"]


@pytest.fixture(autouse=True)
def _tiny_nets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(qat_step.SETTINGS, "digits", TINY)


def qat_report(folder: Path, *arguments: str) -> dict[str, Any]:
    assert qat_step.main([*ONE_ROUND, "--output", str(folder / "qat_step"), *arguments]) == 0
    report: dict[str, Any] = json.loads((folder / "qat_step.json").read_text())["figures"]
    return report


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: it is in the dependency group bench")


def test_the_qat_step_is_reported_for_ours_beside_fp32(tmp_path: Path) -> None:
    report = qat_report(tmp_path, "--only", "ours", "ours-fixed-steps", "torch-fake-quantize")
    found = report["settings"]["digits"]
    assert list(found) == ["fp32", "ours", "ours-fixed-steps", "torch-fake-quantize"]
    assert all(len(times["each_ms"]) == 1 and times["ms"]["median"] > 0 for times in found.values())
    assert found["fp32"]["ratio"]["median"] == 1
    page = (tmp_path / "qat_step.md").read_text()
    assert "ours at most 1.4 × fp32: " in page
    assert "brevitas" not in page
    row = next(line for line in page.splitlines() if line.startswith("| ours |")).split(" | ")
    assert float(row[4].replace(",", "")) == pytest.approx(1e3 * TINY.batch / float(row[2]), rel=0.05)


def test_a_module_is_measured_beside_its_captured_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(qat_step.SETTINGS, "digits", Setting(channels=3, size=8, width=1, batch=4, own=ResNet20))
    report = qat_report(tmp_path, "--only", "module", "ours")
    assert list(report["settings"]["digits"]) == ["fp32", "module", "ours"]
    page = (tmp_path / "qat_step.md").read_text()
    assert "ResNet20, captured, input 3x8x8" in page
    assert "captured at most 1.03 × the module (" in page


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_its_setting_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert qat_step.main(["--settings", "gpu", "--force", "--output", str(tmp_path / "qat_step")]) == 2
    assert "needs an NVIDIA GPU" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_rival_that_is_not_installed_is_left_out_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "brevitas", None)
    monkeypatch.delitem(sys.modules, "benchmarks.qat_brevitas", raising=False)
    report = qat_report(tmp_path, "--only", "brevitas")
    assert list(report["settings"]["digits"]) == ["fp32"]
    assert "brevitas" in report["skipped"]["brevitas"]
    assert "Left out: brevitas (" in (tmp_path / "qat_step.md").read_text()


@pytest.fixture(scope="module")
def rivals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One report of all that are installed, made by a process of its own: rivals warn when they are imported."""
    code = (
        "import sys; from benchmarks import qat_step; from tests.test_benchmarks import TINY; "
        "qat_step.SETTINGS['digits'] = TINY; sys.exit(qat_step.main(sys.argv[1:]))"
    )
    output = tmp_path_factory.mktemp("rivals") / "qat_step"
    arguments = [*ONE_ROUND, "--only", *qat_step.RIVALS, "--output", str(output)]
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, check=True)
    report: dict[str, Any] = json.loads(output.with_suffix(".json").read_text())["figures"]
    return report


@pytest.mark.parametrize("variant", qat_step.RIVALS)
def test_a_rival_takes_its_step(variant: str, rivals: dict[str, Any]) -> None:
    needs(variant.partition("-")[0])
    assert rivals["settings"]["digits"][variant]["ms"]["median"] > 0
    assert variant not in rivals["skipped"]


@pytest.mark.filterwarnings("ignore")
def test_rivals_quantize_at_our_points() -> None:
    needs("brevitas")
    needs("torchao")
    ours = [point for point in quant_points(qat_nets.ours(TINY)).values() if point.quantizer is not None]
    weights = sum(point.weight for point in ours)
    activations = len(ours) - weights

    def count(net: nn.Module, *kinds: str) -> int:
        return sum(type(module).__name__ in kinds for module in net.modules())

    brevitas = qat_nets.brevitas(TINY)
    assert count(brevitas, "QuantConv2d", "QuantLinear") == weights
    assert count(brevitas, "QuantReLU", "QuantIdentity") == activations
    assert count(qat_nets.torchao(TINY), "FusedMovingAvgObsFakeQuantize") == weights + activations


def test_torchs_operators_compute_what_our_quantizers_do() -> None:
    points = qat_nets.ours(TINY), qat_nets.torch_fake_quantize(TINY)
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 3
    for ours, torchs in zip(*(quant_points(net).values() for net in points), strict=True):
        if ours.quantizer is None:
            assert ours.role == "block_input"
            continue
        assert isinstance(ours.quantizer, LsqQuantizer)
        assert isinstance(torchs.quantizer, qat_nets.TorchFakeQuantize)
        step = ours.quantizer.step.detach()
        values = x.expand(len(step), -1).reshape(-1, *[1] * (step.ndim - 2), 1000) if step.ndim else x
        difference = (ours(values) - torchs(values)).abs() / step.reshape(-1, *[1] * (values.ndim - 1))
        # A value between two codes may take either: the operators multiply where ours divides.
        assert difference.max() < 1.001
        assert (difference > 0.001).float().mean() < 0.01


def test_every_round_runs_each_step_once_in_an_order_of_its_own() -> None:
    calls: list[str] = []
    steps = {name: (lambda name=name: calls.append(name)) for name in "abcd"}
    times = measure.interleaved(steps, warmup=2, rounds=6, seed=0)
    rounds = ["".join(calls[i : i + 4]) for i in range(0, len(calls), 4)]
    assert len(rounds) == 8
    assert {"".join(sorted(order)) for order in rounds} == {"abcd"}
    assert len(set(rounds)) > 4
    assert {name: len(values) for name, values in times.items()} == dict.fromkeys("abcd", 6)


def test_a_ratio_is_the_median_of_the_ratios_of_rounds() -> None:
    # The second round met another process: both took three times as long.
    assert measure.ratio([2.0, 6.0, 2.4], [1.0, 3.0, 1.0]).median == 2.0


def test_a_busy_machine_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    arguments = [word for word in ONE_ROUND if word != "--force"]
    assert qat_step.main([*arguments, "--output", str(tmp_path / "qat_step")]) == 2
    assert "99.00" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.ray
def test_the_share_of_busy_workers_is_taken_while_all_have_begun_and_more_comes() -> None:
    """Two workers: one waits for 2 s between its trials, the other works on; the last trial begins after 10 s."""
    from benchmarks import busy_workers, orchestration

    spec = busy_workers.sleeping_search(Path("runs"), workers=2, trials=4)
    works = [
        Assignment(
            number=n, config_key=f"{n}", params={"prune_frac": 0.1, "w_bits": 4, "a_bits": 8}, rung="full", seed=0
        )
        for n in range(4)
    ]
    times = [("2026-01-01T00:00:00+00:00", 10.0), ("2026-01-01T00:00:01+00:00", 5.0)]
    times += [("2026-01-01T00:00:08+00:00", 5.0), ("2026-01-01T00:00:11+00:00", 5.0)]
    records = [
        orchestration.record_of(work).model_copy(update={"started_at": at, "seconds": seconds})
        for work, (at, seconds) in zip(works, times, strict=True)
    ]
    share, seconds = busy_workers.busy_share(records, 2)
    assert seconds == 10.0  # from 1 to 11 s
    assert share == pytest.approx((9 + 5 + 3) / 20)
    assert spec.sampler.name == "ehvi"
    with pytest.raises(ValueError, match="too few"):
        busy_workers.busy_share(records[:2], 2)


def test_the_query_benchmark_compares_equal_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import query

    folder, output = tmp_path / "run", tmp_path / "query"
    query.main(["--rows", "3000", "--rounds", "1", "--folder", str(folder), "--output", str(output)])
    figures = json.loads((tmp_path / "query.json").read_text())["figures"]
    assert {way: len(times) for way, times in figures["all good ones"].items()} == {"ours": 1, "DuckDB": 1}
    assert "3,000 rows, 1 rounds" in capsys.readouterr().out
    assert not folder.exists()


def test_the_zoo_tries_each_part_and_says_what_stops_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import zoo, zoo_tools

    def outcome(part: str, *, holds: bool, seen: str = "") -> dict[str, Any]:
        return {"part": part, "holds": holds, "seen": seen, "seconds": 1.0}

    whole = [outcome(part, holds=True) for part in zoo.NEEDED]
    broken = [*whole[:-1], outcome("ONNX file", holds=False, seen="it | differs")]
    says = [outcome("quantized", holds=True, seen="with 8 bits off by 2.5e-01")]
    networks = [zoo.Network("one", "a", 1_000_000), zoo.Network("two", "b", 2_000_000)]
    results = {
        "ours": {name: {"image": [3, 8, 8], "outcomes": [*o, *says]} for name, o in (("a", whole), ("b", broken))},
        **{tool: {n.name: {"image": [3, 8, 8], "outcomes": says} for n in networks} for tool in ("NNCF", "PT2E")},
        "Torch-Pruning": {},
    }
    monkeypatch.setattr(zoo.importlib.metadata, "version", lambda package: "1.0")
    text = zoo.report(networks, results, 60)
    assert "Ours does all five parts with 1 (50%); the bar of 85% is not met." in text
    assert "| b | ours | ONNX file: it / differs |" in text
    assert "| a | one | 3x8x8 | 1.00 M | yes | yes | yes |" in text
    assert "| NNCF | 0.25 | 0.25 |" in text

    class Plain(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(72, 10))

    module = zoo_tools.settled(Plain(), (3, 8, 8))
    tried = {o.part: o.holds for o in zoo_tools.tried("ours", module, (3, 8, 8))}
    assert set(zoo.NEEDED) <= tried.keys()
    assert all(tried.values())
    assert [(o.part, o.holds) for o in zoo_tools.tried("Torch-Pruning", module, (3, 8, 8))] == [("pruning", True)]


def test_outcomes_on_public_networks_are_measured_once_also_those_that_raise(tmp_path: Path) -> None:
    from benchmarks import public
    from tests.trainables.factories import make_images

    images, made = make_images(20), []

    def network() -> nn.Module:
        made.append(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()

    def broken() -> nn.Module:
        raise ValueError("no | such\nwidth")

    def outcome(name: str, make: Callable[[], nn.Module]) -> dict[str, Any]:
        return public.kept_outcome(tmp_path / name, lambda: public.timed(make, images), tool="ours", bits=[4, 8])

    once = [outcome("ours_w4a8.json", network) for _ in range(2)]
    assert once[0] == once[1]
    assert made == [1]
    assert once[0]["accuracy"] * 20 == pytest.approx(round(once[0]["accuracy"] * 20))
    failed = outcome("other_w4a8.json", broken)
    assert failed == {"tool": "ours", "bits": [4, 8], "raised": "ValueError: no | such"}
    (tmp_path / "float.json").write_text('{"accuracy": 0.5}')
    assert public.kept_outcomes(tmp_path) == [{"accuracy": 0.5}, failed, once[0]]


def test_quantization_without_training_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import ptq

    ours = {"tool": "ours", "bits": [4, 8], "accuracy": 0.91, "seconds": 12.0}
    rows = [{"accuracy": 0.9173}, ours, {"tool": "NNCF", "bits": [4, 8], "raised": "ValueError: no | such"}]
    monkeypatch.setattr(ptq.importlib.metadata, "version", lambda package: "1.0")
    text = ptq.report({"ResNet-20": rows}, ["ours", "NNCF"], [(4, 8)])
    assert "## ResNet-20: 91.73 % in float32" in text
    assert "| ours | 91.00 | 12 |" in text
    assert "| NNCF | error |  |" in text
    assert "- NNCF: ValueError: no | such" in text
    folder = tmp_path / "runs" / "ResNet-20"
    folder.mkdir(parents=True)
    (folder / "float.json").write_text('{"accuracy": 0.9173}')
    (folder / "ours_w4a8.json").write_text(json.dumps(ours))
    options = ["--checkpoints", "none", "--cifar10", "none", "--only", "ResNet-20", "--kept"]
    ptq.main([*options, "--folder", str(tmp_path / "runs"), "--output", str(tmp_path / "report")])
    written = (tmp_path / "report.md").read_text()
    assert "| ours |  |  | 91.00 |  |  |" in written


def test_quantization_aware_training_is_told_beside_other_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks import qat

    def row(tool: str, bits: int, accuracy: float, size_bytes: int) -> dict[str, Any]:
        more = {"seconds": 12.0, "size_bytes": size_bytes, "zstd_bytes": size_bytes - 1, "epochs": 2, "seed": 0}
        return {"tool": tool, "bits": [bits, bits], "accuracy": accuracy, **more}

    rows = [row("ours", 8, 0.9, 9_000), row("ours", 4, 0.89, 5_000), row("ours, labels alone", 4, 0.9, 4_000)]
    rows += [row("PT2E", 8, 0.885, 20_000), row("Brevitas", 8, 0.91, 20_000), row("Torch-Pruning", 8, 0.8, 30_000)]
    rows += [{"tool": "NNCF", "bits": [4, 4], "raised": "ValueError: 4", "epochs": 2, "seed": 0}]
    folder = tmp_path / "runs" / "ResNet-20"
    folder.mkdir(parents=True)
    (folder / "float.json").write_text('{"accuracy": 0.9173}')
    for i, content in enumerate(rows):
        (folder / f"{i}_w0a0.json").write_text(json.dumps(content))
    monkeypatch.setattr(qat.importlib.metadata, "version", lambda package: "1.0")
    options = ["--checkpoints", "none", "--cifar10", "none", "--only", "ResNet-20", "--kept"]
    qat.main([*options, "--folder", str(tmp_path / "runs"), "--output", str(tmp_path / "report")])
    written = (tmp_path / "report.md").read_text()
    first, second = written.index("### W8A8"), written.index("### W4A4")
    assert "## ResNet-20: 91.73 % in float32; epochs: 2" in written[:first]
    assert "| ours | 90.00 | 9,000 | 8,999 | 12 |  |" in written[first:second]
    assert "| PT2E | 88.50 | 20,000 | 19,999 | 12 | 4,000 |" in written[first:second]
    assert "| Brevitas | 91.00 | 20,000 | 19,999 | 12 | none |" in written[first:second]
    assert written.index("of the channels removed") < written.index("| Torch-Pruning | 80.00 |") < second
    assert "| NNCF | error |  |  |  |  |" in written[second:]
    assert "- NNCF: ValueError: 4" in written


def test_bits_layer_by_layer_are_told_beside_other_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import mixed

    more = {"seconds": 12.0, "size_bytes": 9_000, "zstd_bytes": 8_000, "accuracy": 0.9}
    rows = {
        "ours_w5000a8": {"tool": "ours", "budget_bytes": 5_000, "bits": 3.456, **more},
        "ours_w9000a8": {"tool": "ours", "budget_bytes": 9_000, "bits": 5.1, **more},
        "ModelOpt_w9000a8": {"tool": "ModelOpt", "budget_bytes": 9_000, "raised": "ValueError: bits"},
        "NNCF_w0a0": {"tool": "NNCF", "budget_bytes": None, "bits": None, **more},
    }
    folder = tmp_path / "runs" / "ResNet-56"
    folder.mkdir(parents=True)
    (folder / "float.json").write_text('{"accuracy": 0.9339}')
    for name, row in rows.items():
        (folder / f"{name}.json").write_text(json.dumps(row))
    monkeypatch.setattr(mixed.importlib.metadata, "version", lambda package: "1.0")
    options = ["--checkpoints", "none", "--cifar10", "none", "--kept", "--folder", str(tmp_path / "runs")]
    mixed.main([*options, "--output", str(tmp_path / "report")])
    lines = (tmp_path / "report.md").read_text().splitlines()
    start = lines.index("## ResNet-56: 93.39 % in float32")
    assert lines[start + 4 : start + 8] == [
        "| ours | 9,000 | 5.10 | 90.00 | 9,000 | 8,000 | 12 |",
        "| ModelOpt | 9,000 |  | error |  |  |  |",
        "| ours | 5,000 | 3.46 | 90.00 | 9,000 | 8,000 | 12 |",
        "| NNCF |  |  | 90.00 | 9,000 | 8,000 | 12 |",
    ]
    assert "- ModelOpt: ValueError: bits" in lines


def test_an_ablation_changes_one_part_at_a_time_and_is_told_seed_by_seed(tmp_path: Path) -> None:
    from benchmarks import ablation
    from trainables.config import TrialConfig, trial_key

    trials = {
        change: TrialConfig.model_validate(ablation.content_of(Path("net"), {"name": "cifar10"}, changes, 1))
        for change, changes in ablation.CHANGES.items()
    }
    assert len({trial_key(trial, fingerprint="f") for trial in trials.values()}) == len(ablation.CHANGES)
    assert {sum(stage.planned_epochs for stage in trial.stages()) for trial in trials.values()} == {ablation.EPOCHS}

    def row(change: str, seed: int, accuracy: float) -> dict[str, Any]:
        return {"change": change, "seed": seed, "accuracy": accuracy, "size_bytes": 9_000 + seed, "zstd_bytes": 1}

    rows = [row(ablation.ALL, 0, 0.88), row(ablation.ALL, 1, 0.87), row("no teacher", 0, 0.875)]
    rows += [row("no teacher", 1, 0.863), {"change": "averaged weights", "seed": 0, "raised": "Diverged: inf"}]
    for content in rows:
        (tmp_path / f"{content['change']}_{content['seed']}.json").write_text(json.dumps(content))
    options = ["--checkpoints", "none", "--cifar10", "none", "--kept", "--folder", str(tmp_path)]
    ablation.main([*options, "--output", str(tmp_path / "report")])
    written = (tmp_path / "report.md").read_text()
    assert "| all parts | 87.50 ± 0.71 |  | 9,000 | 2 |" in written
    assert "| no teacher | 86.90 ± 0.85 | -0.60 ± 0.14 | 9,000 | 2 |" in written
    assert "| averaged weights | error |" in written
    assert "- averaged weights: Diverged: inf" in written


def test_pruning_is_told_with_and_without_reconstruction_and_beside_another_tool(tmp_path: Path) -> None:
    from benchmarks import pruning
    from trainables.config import TrialConfig

    ways = (pruning.STAY, pruning.FITTED)
    about = [pruning.content_of(Path("net"), {"name": "cifar10"}, way, 0.3, 1) for way in ways]
    stages = [TrialConfig.model_validate(content).prune for content in about]
    assert [stage.reconstruction_images for stage in stages if stage is not None] == [0, 512]

    folder = tmp_path / "ResNet-20"
    folder.mkdir()
    (folder / "float.json").write_text(json.dumps({"accuracy": 0.9, "seconds": 1}))
    for way, seed, outcome in (
        (pruning.STAY, 0, {"accuracy": 0.4, "parameters": 2_000}),
        (pruning.FITTED, 0, {"accuracy": 0.8, "parameters": 2_000}),
        (pruning.FITTED, 1, {"accuracy": 0.7, "parameters": 1_000}),
        (pruning.OTHER, 0, {"raised": "RuntimeError: shapes"}),
    ):
        content = {"way": way, "removed": 0.3, "seed": seed, **outcome}
        (folder / f"{way.replace(' ', '_')}_0.3_{seed}.json").write_text(json.dumps(content))
    options = ["--checkpoints", "none", "--cifar10", "none", "--kept", "--folder", str(tmp_path)]
    pruning.main([*options, "--only", "ResNet-20", "--output", str(tmp_path / "report")])
    written = (tmp_path / "report.md").read_text()
    assert "| ResNet-20, 90.00 % | 30% | 40.00 | 2,000 | 75.00 ± 7.07 | 1,500 | error |  |" in written
    assert "- Torch-Pruning: RuntimeError: shapes" in written


def test_earlier_recipes_are_shortened_alike_and_told_beside_ours(tmp_path: Path) -> None:
    from benchmarks import equal_accuracy as bench

    trained = {}
    for recipe in (*bench.EARLIER, bench.OURS):
        trials = [trial for _, trial in bench.configurations(recipe, epochs=4)]
        trained[recipe] = {sum(stage.planned_epochs for stage in trial.stages()[1:]) for trial in trials}
    four, none = {4}, {0}
    without = ("seed_001", "seed_003", "seed_004")
    assert trained == {r: none if r in without else four for r in (*bench.EARLIER, bench.OURS)}
    assert len(list(bench.configurations("seed_000", epochs=4))) == 17

    def keep(recipe: str, label: str, **more: Any) -> None:
        (tmp_path / f"{recipe} {label}.json").write_text(json.dumps({"recipe": recipe, "label": label, **more}))

    def row(size: int, accuracy: float) -> dict[str, Any]:
        found = {f"{name}accuracy": accuracy for name in ("validation_", "", "whole_")}
        return {"size_bytes": size, "seconds": 9.0, **found}

    (tmp_path / "float.json").write_text(json.dumps(row(1, 0.87)))
    keep("seed_001", "w_bits.all=8", **row(80_000, 0.87))
    keep("seed_001", "w_bits.all=6", **row(60_000, 0.869))
    keep("seed_001", "w_bits.all=4", **row(40_000, 0.80))
    keep("seed_001", "w_bits.all=2", raised="Collapsed: chance")
    keep("ours", "sparsity=0.0 w_bits=4", **row(30_000, 0.88))
    keep("ours", "sparsity=0.0 w_bits=3", **row(20_000, 0.868))
    options = ["--checkpoints", "none", "--cifar10", "none", "--kept", "--folder", str(tmp_path)]
    bench.main([*options, "--output", str(tmp_path / "report")])
    written = (tmp_path / "report.md").read_text()
    assert "one standard error of float: seed_001 w_bits.all=6: 86.90 %, 60,000 bytes." in written
    assert "of that: ours sparsity=0.0 w_bits=3: 86.80 %, 20,000 bytes, 3.00 times smaller." in written
    assert "| seed_001 | w_bits.all=4 | 40,000 | 80.00 | 80.00 | 80.00 | 9 |" in written
    assert "- seed_001 w_bits.all=2: Collapsed: chance" in written


def test_the_picture_shows_what_the_results_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from benchmarks import picture

    first, second = picture.PANELS
    monkeypatch.setattr(picture, "RESULTS", tmp_path)
    (tmp_path / first.searches[0]).mkdir()
    found = {"size_bytes": [30_000, 20_000], "accuracy_mean": [0.88, 0.86], "test_accuracy_mean": [0.89, 0.85]}
    pq.write_table(pa.table(found), tmp_path / first.searches[0] / "frontier.parquet")
    row = {"tool": "PT2E", "size_bytes": 90_000, "zstd_bytes": 80_000, "accuracy": 0.87}
    rows = [{"accuracy": 0.9}, row, {"tool": "PT2E", "raised": "no"}]
    (tmp_path / "qat.json").write_text(json.dumps({"figures": {first.network: rows}}))
    assert picture.searched(first) == [(20_000, pytest.approx(85.5)), (30_000, pytest.approx(88.5))]
    assert picture.compared(first, "PT2E") == [(80_000, pytest.approx(87.0))]
    assert not picture.searched(second)
    assert picture.paper_bytes(8) == 268_336
    assert picture.paper_bytes(2) == (268_336 - 1_072) / 4 + 1_072
    for name in ("one.png", "two.png"):
        assert picture.main(["--output", str(tmp_path / name)]) == 0
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_half_of_the_bytes_is_asked_of_the_most_accurate_of_the_others() -> None:
    from benchmarks.qat import theirs

    row = {"tool": "PT2E", "bits": [4, 4], "accuracy": 0.7, "zstd_bytes": 40_000}
    best = {**row, "tool": "Brevitas", "accuracy": 0.8, "zstd_bytes": 50_000}
    ours, wider = {**row, "tool": "ours", "accuracy": 0.9}, {**best, "bits": [8, 8], "accuracy": 0.9}
    failed = {"tool": "NNCF", "bits": [4, 4], "raised": "no"}
    assert theirs([{"accuracy": 0.9}, row, best, ours, wider, failed], (4, 4)) == best
    with pytest.raises(ValueError, match="no other tool has made a network of W2A2: run these first"):
        theirs([ours, best], (2, 2))
