"""The optimizer against torch's own."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.trainables.factories import make_model
from trainables.config import QuantScheme, Schedule
from trainables.models.model import Model
from trainables.optimizer import STEP_RATE, Sgd
from trainables.quant.attach import attach_quantizers_

RATES = [0.05, 0.1, 0.03, 0.01]


def quantized_model() -> Model:
    torch.manual_seed(0)
    model = make_model(width=0.1)
    attach_quantizers_(model, QuantScheme())
    return model


def backward(model: Model, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 1, 8, 8, generator=generator)
    F.cross_entropy(model(images), torch.arange(4)).backward()


def torch_sgd(model: Model, schedule: Schedule) -> torch.optim.SGD:
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        is_step, is_weight = name.endswith("quantizer.step"), name.endswith("layer.weight")
        kind = (schedule.weight_decay if is_weight else 0.0, STEP_RATE if is_step else 1.0)
        groups.setdefault(kind, []).append(parameter)
    assert len(groups) == 3
    return torch.optim.SGD(
        [{"params": ps, "weight_decay": decay, "scale": scale} for (decay, scale), ps in groups.items()],
        momentum=schedule.momentum,
        nesterov=schedule.momentum > 0,
    )


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_it_computes_what_torch_computes(momentum: float) -> None:
    schedule = Schedule(epochs=1, lr=0.1, momentum=momentum, weight_decay=0.01)
    ours, theirs = quantized_model(), quantized_model()
    optimizer, reference = Sgd(ours, schedule), torch_sgd(theirs, schedule)
    for seed, rate in enumerate(RATES):
        backward(ours, seed)
        optimizer.step(rate)
        assert all(p.grad is None for p in ours.parameters())
        backward(theirs, seed)
        for group in reference.param_groups:
            group["lr"] = rate * group["scale"]
        reference.step()
        reference.zero_grad()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, theirs.get_parameter(name), rtol=0, atol=0)


def test_a_loaded_state_goes_on_as_if_never_stopped() -> None:
    schedule = Schedule(epochs=1, lr=0.1)
    whole, first = quantized_model(), quantized_model()
    straight, before = Sgd(whole, schedule), Sgd(first, schedule)
    for seed, rate in enumerate(RATES):
        backward(whole, seed)
        straight.step(rate)
        if seed == 2:
            second = quantized_model()
            second.load_state_dict(first.state_dict())
            state = {name: buffer.clone() for name, buffer in before.state().items()}
            first, before = second, Sgd(second, schedule)
            before.load(state)
        backward(first, seed)
        before.step(rate)
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(parameter, first.get_parameter(name), rtol=0, atol=0)


def test_a_worker_does_not_import_the_compiler() -> None:
    code = (
        "import sys, torch; from torch import nn; from trainables.config import Schedule; "
        "from trainables.optimizer import Sgd; model = nn.Linear(2, 2); model(torch.ones(1, 2)).sum().backward(); "
        "Sgd(model, Schedule(epochs=1, lr=0.1)).step(0.1); print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
