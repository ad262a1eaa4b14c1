"""A trial on each kind of device: the same file, the same numbers within rounding, eager and compiled."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.trainables.factories import CPU, digits, few_digits
from tests.trainables.test_pipeline import SCHEDULE, make_trial
from trainables.config import TrialConfig
from trainables.data.augmentation.policies import POLICIES
from trainables.data.images import Images
from trainables.device import choose_device
from trainables.measure import packed_scores
from trainables.pipeline import run_pipeline, run_stages
from trainables.stages.workplace import open_workplace

ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
SHARES = [pytest.param(0.0, id="cpu"), pytest.param(1.0, id="gpu", marks=ON_GPU)]
DISTILLED = {**SCHEDULE, "epochs": 1, "distill": {"weight": 0.7, "temperature": 4}, "ema_decay": 0.9}


def make_full_trial() -> TrialConfig:
    """Every stage that trains: teacher, baseline, channels, single weights, quantizers."""
    return make_trial(
        teacher={"kind": "train", "schedule": SCHEDULE, "model": {"width": 0.1}},
        sparsify={"sparsity": 0.5, "mode": "gradual", "schedule": DISTILLED},
        quantize={"kind": "qat", "scheme": {"w_bits": 4}, "schedule": {**DISTILLED, "lr": 0.002}, "bn_images": 512},
    )


@pytest.fixture(params=SHARES)
def share(request: pytest.FixtureRequest) -> Iterator[float]:
    yield request.param
    torch.compiler.reset()


def test_a_file_is_the_same_network_on_any_device(share: float, tmp_path: Path) -> None:
    place = open_workplace(digits(), tmp_path / "stages", cpu=1, gpu=share)
    completed = run_pipeline(make_full_trial(), place, tmp_path / "trial" / "model.mbq")
    content = (tmp_path / "trial" / "model.mbq").read_bytes()
    assert completed.measurement.accuracy > 0.3
    assert completed.measurement.accuracy == packed_scores(content, place.val, place.device).accuracy
    here = Images(place.data.val, place.data.mean, place.data.std, CPU.torch)
    assert abs(completed.measurement.accuracy - packed_scores(content, here, CPU).accuracy) <= 1 / len(here)


def test_float32_is_float32_where_files_are_evaluated(share: float) -> None:
    device = choose_device(share).torch
    generator = torch.Generator().manual_seed(0)
    images, weights = torch.randn(8, 64, 8, 8, generator=generator), torch.randn(64, 64, 1, 1, generator=generator)
    exact = F.conv2d(images.double(), weights.double())
    found = F.conv2d(images.to(device), weights.to(device)).cpu().double()
    assert (found - exact).norm() / exact.norm() < 1e-6  # TF32: 3e-4


@pytest.mark.parametrize("name", [pytest.param(name, marks=ON_GPU) for name in POLICIES])
def test_a_policy_makes_the_same_images_on_a_gpu_and_waits_for_nothing(name: str) -> None:
    pixels = torch.from_numpy(digits().train.images[:500])
    expected = POLICIES[name](pixels, torch.Generator().manual_seed(0))
    here = pixels.to("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = POLICIES[name](here, torch.Generator().manual_seed(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert (found.cpu() == expected).float().mean() > 0.999  # ties between two pixels go either way


@pytest.mark.filterwarnings("ignore:TensorFloat32")
def test_compiled_training_is_training(share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []

    def traced(model: nn.Module, **options: Any) -> Any:
        compiled.append(model)
        # Code for a CPU takes minutes to make; that the network is one graph without breaks shows here too.
        return compile(model, fullgraph=True, **(options if share else {"backend": "eager", "dynamic": False}))

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", traced)
    trial = make_trial(prune=None, baseline={"kind": "untrained", "model": {"width": 0.1}})
    found = []
    for name in ("eager", "compiled"):
        place = open_workplace(few_digits(), tmp_path / name, cpu=1, gpu=share, compile=name == "compiled")
        result, _ = run_stages(trial, trial.stages(), place)
        found.append(result.history[-1]["loss"])
    assert len(compiled) == 1
    assert found[1] == pytest.approx(found[0], rel=0.05)  # roundings that flip part the two within a few steps


def test_a_cpu_trains_in_bf16_where_it_is_asked_to(tmp_path: Path) -> None:
    kinds: set[tuple[bool, torch.dtype]] = set()

    def seen(module: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            kinds.add((module.training, output.dtype))

    trial = make_trial(prune=None, baseline={"kind": "untrained", "model": {"width": 0.1}})
    losses = []
    for bf16 in (False, True):
        place = open_workplace(few_digits(), tmp_path / str(bf16), cpu=1, gpu=0, bf16=bf16)
        with nn.modules.module.register_module_forward_hook(seen):
            result, _ = run_stages(trial, trial.stages(), place)
        losses.append(result.history[-1]["loss"])
    assert kinds == {(True, torch.float32), (True, torch.bfloat16), (False, torch.float32)}
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]
