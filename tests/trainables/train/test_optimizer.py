"""The optimizer against torch's own."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.trainables.factories import make_model, of_graph
from trainables.config import QuantScheme, Schedule
from trainables.graph.graph import Graph, Node
from trainables.models.attach import attach_quantizers_
from trainables.models.model import Model
from trainables.models.quantizer import Quantizer
from trainables.models.units import count_parameters
from trainables.train.optimizer import STEP_RATE, make_optimizer, parameter_groups

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


def torchs_own(model: Model, schedule: Schedule) -> torch.optim.Optimizer:
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        is_step, is_weight = name.endswith("quantizer.step"), name.endswith("layer.weight")
        decays = is_weight or (schedule.decay_all and not is_step)
        kind = (schedule.weight_decay if decays else 0.0, STEP_RATE if is_step else 1.0)
        groups.setdefault(kind, []).append(parameter)
    assert len(groups) == (2 if schedule.decay_all else 3)
    options = [{"params": ps, "weight_decay": decay, "scale": scale} for (decay, scale), ps in groups.items()]
    if schedule.optimizer == "adam":
        return torch.optim.Adam(options)
    return torch.optim.SGD(
        options, momentum=schedule.momentum, nesterov=schedule.nesterov and schedule.momentum > 0, lr=1
    )


SCHEDULES = {
    "nesterov": Schedule(epochs=1, lr=0.1, weight_decay=0.01),
    "plain momentum": Schedule(epochs=1, lr=0.1, nesterov=False, weight_decay=0.01),
    "decay of all": Schedule(epochs=1, lr=0.1, weight_decay=0.01, decay_all=True),
    "no momentum": Schedule(epochs=1, lr=0.1, momentum=0.0, weight_decay=0.01),
    "adam": Schedule(epochs=1, lr=0.1, optimizer="adam", weight_decay=0.01),
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
def test_it_computes_what_torch_computes(schedule: Schedule) -> None:
    ours, theirs = quantized_model(), quantized_model()
    optimizer, reference = make_optimizer(ours, schedule), torchs_own(theirs, schedule)
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


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
def test_a_loaded_state_goes_on_as_if_never_stopped(schedule: Schedule) -> None:
    whole, first = quantized_model(), quantized_model()
    straight, before = make_optimizer(whole, schedule), make_optimizer(first, schedule)
    for seed, rate in enumerate(RATES):
        backward(whole, seed)
        straight.step(rate)
        if seed == 2:
            second = quantized_model()
            second.load_state_dict(first.state_dict())
            state = {name: buffer.clone() for name, buffer in before.state().items()}
            first, before = second, make_optimizer(second, schedule)
            before.load(state)
        backward(first, seed)
        before.step(rate)
    for name, parameter in whole.named_parameters():
        torch.testing.assert_close(parameter, first.get_parameter(name), rtol=0, atol=0)


def test_steps_are_known_by_their_place_and_not_by_a_name() -> None:
    """A part of a user's network may be called quantizer."""
    nodes = (
        Node("flat", "mean", ("image",), {"dims": (2, 3), "keep": False}),
        Node("body.quantizer", "linear", ("flat",), {"weight": (4, 1), "bias": True}),
        Node("body.quantizer.fc", "linear", ("body.quantizer",), {"weight": (10, 4), "bias": True}),
    )
    model = of_graph(Graph((1, 8, 8), nodes, "body.quantizer.fc"))[0]
    attach_quantizers_(model, QuantScheme())
    layers = {"body.quantizer.layer", "body.quantizer.fc.layer"}
    weights, vectors, steps = parameter_groups(model, SCHEDULES["nesterov"])
    assert weights.parameters.keys() == {f"{layer}.weight" for layer in layers}
    assert vectors.parameters.keys() == {f"{layer}.bias" for layer in layers}
    assert steps.parameters.keys() == {f"{n}.step" for n, m in model.named_modules() if isinstance(m, Quantizer)}
    assert count_parameters(model) == 4 + 4 + 40 + 10


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_worker_does_not_import_the_compiler(optimizer: str) -> None:
    code = (
        "import sys, torch; from torch import nn; from trainables.config import Schedule; "
        "from trainables.train.optimizer import make_optimizer; model = nn.Linear(2, 2); "
        "model(torch.ones(1, 2)).sum().backward(); "
        f"make_optimizer(model, Schedule(epochs=1, lr=0.1, optimizer={optimizer!r})).step(0.1); "
        " print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
