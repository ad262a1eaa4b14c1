"""What is left of each layer makes up for what was removed, by least squares."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.factories import (
    captured,
    few_digits,
    make_architecture,
    make_context,
    make_images,
    make_model,
    make_prune,
)
from tests.trainables.prune.test_unusual_networks import Inverted, Net, Ragged, convolution
from trainables.config import Architecture
from trainables.models.model import Model
from trainables.models.units import units
from trainables.prune import reconstruct
from trainables.prune.channels import prune_channels
from trainables.prune.plan import ChannelPlan
from trainables.prune.reconstruct import reconstruct_
from trainables.stages.stage import StageResult, run_stage
from trainables.train import moments

IMAGES = make_images(256)


class Layers(nn.Module):
    """Two linear layers on all pixels, with or without biases."""

    def __init__(self, *, bias: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 12, bias=bias), nn.Linear(12, 10, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(torch.relu(self.first(x.flatten(1))))
        return out


class Grouped(nn.Module):
    """A grouped convolution behind one whose channels may go, with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.grouped = convolution(4, 12, 3), nn.Conv2d(12, 6, 3, 2, 1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.relu(self.grouped(self.wide(x)))
        return out


def settled(module: nn.Module, seed: int = 0) -> tuple[Model, Architecture]:
    """A captured network with random weights, whose batch norm has seen images."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            part.reset_parameters()  # biases too follow the seed
            nn.init.kaiming_normal_(part.weight)
    module.train()
    with torch.no_grad():
        for _ in range(60):
            module(logits_of(None))
    return captured(module.eval())


def logits_of(model: Callable[[Tensor], Tensor] | None) -> Tensor:
    """What a network says of the images; without one, the images."""
    batch, _ = next(IMAGES.batches(len(IMAGES)))
    with torch.no_grad():
        return batch if model is None else model(batch)


def half(model: Model) -> ChannelPlan:
    """About half of the channels, spread over each group."""
    return {group.name: [*range(0, group.channels, 2)] for group in model.prune_groups()}


def of(model: Model, node: str, kept: list[int]) -> ChannelPlan:
    """The plan that keeps these outputs of a layer."""
    [group] = [group for group in model.prune_groups() if any(part.node == node for part in group.sources)]
    return {group.name: kept}


def error(found: Model, model: Model) -> float:
    """The mean square of what the logits changed by, in that of the logits about their means."""
    before = logits_of(model.eval())
    return float((logits_of(found.eval()) - before).square().mean() / before.var(0).mean())


NETWORKS: dict[str, Callable[[], tuple[Model, Architecture]]] = {
    "convolutions": lambda: settled(Net(nn.Sequential(convolution(8, 12, 3), convolution(12, 8, 3)), 8, 8)),
    "depthwise": lambda: settled(Net(Inverted(), 4, 4)),
    "unequal places": lambda: settled(Net(Ragged(), 8, 8)),
    "groups": lambda: settled(Net(Grouped(), 4, 6)),
    "linear": lambda: settled(Layers()),
    "linear without biases": lambda: settled(Layers(bias=False)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_nearer_to_those_of_the_unpruned_network(name: str) -> None:
    model, architecture = NETWORKS[name]()
    plan = half(model)
    narrow, _ = prune_channels(model, architecture, plan)
    before = error(narrow, model)
    reconstruct_(narrow, model, plan, IMAGES)
    assert error(narrow, model) < 0.8 * before


def test_inputs_that_others_say_as_well_are_missed_by_nobody() -> None:
    """Every second channel is a multiple of the one before it: without these the network computes the same."""
    module = Net(nn.Sequential(convolution(8, 12, 3), convolution(12, 8, 3)), 8, 8)
    model, architecture = settled(module)
    with torch.no_grad():
        unit = units(model)["body.0"]
        for tensor in (unit.layer.weight, unit.bn.running_mean, unit.bn.running_var, unit.bn.weight, unit.bn.bias):
            tensor[1::2] = tensor[::2]
        unit.bn.weight[1::2] *= 2
        unit.bn.bias[1::2] *= 2
    plan = of(model, "body.0", [*range(0, 12, 2)])
    narrow, _ = prune_channels(model, architecture, plan)
    assert error(narrow, model) > 0.1
    reconstruct_(narrow, model, plan, IMAGES)
    assert error(narrow, model) < 0.001


@pytest.mark.parametrize("bias", [True, False])
def test_weights_are_those_of_least_squares(bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "DAMPING", 1e-9)
    monkeypatch.setattr(reconstruct, "penalty_of", lambda own, rows: moments.penalty_of(own, 10**12))
    model, architecture = settled(Layers(bias=bias))
    plan = half(model)
    narrow, _ = prune_channels(model, architecture, plan)
    reconstruct_(narrow, model, plan, IMAGES)
    inside, layer = [], units(narrow)["second"].layer
    units(narrow)["second"].register_forward_pre_hook(lambda _m, args: inside.append(args[0].double()))
    logits_of(narrow)
    [x] = inside
    columns = torch.cat([x, torch.ones(len(x), 1)], 1) if bias else x
    best = torch.linalg.lstsq(columns, logits_of(model).double()).solution
    torch.testing.assert_close(layer.weight.double(), best[: x.shape[1]].T, rtol=1e-3, atol=1e-3)
    if bias:
        torch.testing.assert_close(layer.bias.double(), best[-1], rtol=1e-3, atol=1e-3)


def test_layers_before_the_first_missing_channel_stay_as_they_are() -> None:
    model, architecture = NETWORKS["convolutions"]()
    plan = of(model, "body.1", [0, 3, 5])
    narrow, _ = prune_channels(model, architecture, plan)
    before = {name: tensor.clone() for name, tensor in narrow.state_dict().items()}
    reconstruct_(narrow, model, plan, IMAGES)
    moved = {name for name, tensor in narrow.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"classifier.layer.weight", "classifier.layer.bias"}


def test_zeros_stay_zero_and_keep_their_outputs() -> None:
    model, architecture = NETWORKS["convolutions"]()
    with torch.no_grad():
        units(model)["body.1"].layer.weight[3, :, 1, 1] = 0
    plan = of(model, "body.0", [0, 1, 2, 7])
    narrow, _ = prune_channels(model, architecture, plan)
    weight = units(narrow)["body.1"].layer.weight
    before = weight.detach().clone()
    reconstruct_(narrow, model, plan, IMAGES)
    assert [bool(torch.equal(row, old)) for row, old in zip(weight, before, strict=True)] == [i == 3 for i in range(8)]


def test_many_inputs_are_fitted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, architecture = NETWORKS["convolutions"]()
    plan = half(model)
    narrow, _ = prune_channels(model, architecture, plan)
    before = error(narrow, model)
    monkeypatch.setattr(reconstruct, "COLUMNS", 10)
    reconstruct_(narrow, model, plan, IMAGES)
    assert error(narrow, model) < 0.8 * before


def test_large_activations_mean_fewer_images(monkeypatch: pytest.MonkeyPatch) -> None:
    model, architecture = NETWORKS["convolutions"]()
    plan = half(model)
    narrow, _ = prune_channels(model, architecture, plan)
    seen: list[int] = []
    units(narrow)["stem"].register_forward_pre_hook(lambda _m, args: seen.append(len(args[0])))
    monkeypatch.setattr(moments, "VALUES", 100_000)
    reconstruct_(narrow, model, plan, IMAGES)
    assert 10 < seen[-1] < 100


def test_a_layer_whose_inputs_are_not_finite_stays_as_it_is() -> None:
    model, architecture = NETWORKS["convolutions"]()
    with torch.no_grad():
        units(model)["stem"].layer.weight[0] = float("inf")
    plan = of(model, "body.0", [0, 1, 2, 7])
    narrow, _ = prune_channels(model, architecture, plan)
    before = {name: tensor.clone() for name, tensor in narrow.state_dict().items()}
    reconstruct_(narrow, model, plan, IMAGES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in narrow.state_dict().items())


def test_the_stage_reconstructs_as_asked() -> None:
    def pruned(images: int, **more: object) -> StageResult:
        state = make_model(width=0.5).state_dict()
        parent = StageResult(make_architecture(width=0.5), None, state, {})
        config = make_prune(0.3, reconstruction_images=images, **more)
        return run_stage(config, make_context(few_digits(), parent_result=parent))

    found, plain = pruned(200), pruned(0)
    assert found.plan == plain.plan
    model, images = make_model(width=0.5), make_context(few_digits()).val
    batch, _ = next(images.batches(100))
    with torch.no_grad():
        wanted = model(batch)
        near, far = (float((result.model().eval()(batch) - wanted).square().mean()) for result in (found, plain))
    assert near < 0.5 * far
    again = pruned(200)
    assert all(torch.equal(tensor, again.state[name]) for name, tensor in found.state.items())
    assert pruned(200, steps=2, step_epochs=0).metrics["prune_frac_achieved"] == pytest.approx(0.3, abs=0.03)
