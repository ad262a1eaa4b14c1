"""Pruning of networks whose layers change their kind, or whose channels lie at unequal numbers of places."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.factories import captured, few_digits, make_context
from trainables.config import IMPORTANCE, ChannelPrune, QuantScheme, Schedule, Sparsify
from trainables.errors import InfeasiblePoint
from trainables.models.attach import attach_quantizers_
from trainables.models.units import quant_points, units
from trainables.prune.importance import sum_by_channel
from trainables.prune.masks import weights_of, zero_share
from trainables.prune.sparsify import achieved_sparsity
from trainables.stages.stage import StageContext, StageResult, run_stage

NOTHING = Schedule(epochs=0, lr=0.01, batch_size=50)
ONE = Schedule(epochs=1, lr=0.02, batch_size=50)


def convolution(inputs: int, outputs: int, size: int, groups: int = 1, *, active: bool = True) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), *([nn.ReLU()] if active else []))


class Inverted(nn.Module):
    """An inverted residual block, in the middle of which pruning may leave one channel."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise = convolution(4, 8, 1), convolution(8, 8, 3, 8)
        self.project = convolution(8, 4, 1, active=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.project(self.depthwise(self.expand(x)))
        return out


class Net(nn.Module):
    """A first convolution, a body, and a classifier."""

    def __init__(self, body: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stem, self.body, self.classifier = convolution(1, inputs, 3), body, nn.Linear(outputs, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.body(self.stem(x)).mean((2, 3)))
        return out


class Ragged(nn.Module):
    """A sum of two parts of a map beside a third part: its channels lie at two places, or at one."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.reader = convolution(8, 12, 3), convolution(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.wide(x)
        out: Tensor = self.reader(torch.cat([y[:, :4] + y[:, 4:8], y[:, 8:]], 1))
        return out


class Ghost(nn.Module):
    """A depthwise convolution over a map beside a part of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise, self.reader = convolution(6, 6, 3, 6), convolution(6, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.reader(self.depthwise(torch.cat([x, x[:, :2]], 1)))
        return out


NETS = {
    "inverted": lambda: Net(Inverted(), 4, 4),
    "grouped": lambda: Net(
        nn.Sequential(convolution(8, 8, 1), convolution(8, 8, 3, 4), convolution(8, 8, 1, active=False)), 8, 8
    ),
    "ragged": lambda: Net(Ragged(), 8, 8),
    "ghost": lambda: Net(Ghost(), 4, 8),
}


def context_of(name: str) -> StageContext:
    torch.manual_seed(0)
    model, architecture = captured(NETS[name]().eval())
    return make_context(few_digits(), parent_result=StageResult(architecture, None, model.state_dict(), {}))


@pytest.mark.parametrize("name", ["inverted", "grouped"])
def test_a_layer_keeps_its_role_when_its_channels_go(name: str) -> None:
    context = context_of(name)
    result = run_stage(ChannelPrune(prune_frac=0.9, steps=6, step_epochs=0, fine_tune=NOTHING), context)
    assert min(result.architecture.widths.values()) <= 2
    before, after = context.parent_model(), result.model()
    assert {n: u.role for n, u in units(after).items()} == {n: u.role for n, u in units(before).items()}
    assert [(g.name, g.inner, g.optional) for g in after.prune_groups()] == [
        (g.name, g.inner, g.optional) for g in before.prune_groups()
    ]
    scheme = QuantScheme(w_bits=2, a_bits=3, residual_bits=8, w_bits_by_group={"depthwise": 8})
    for model in (before, after):
        attach_quantizers_(model, scheme)
    widths = [{n: q.quantizer and q.quantizer.bits for n, q in quant_points(m).items()} for m in (before, after)]
    assert widths[0] == widths[1]


@pytest.mark.parametrize("groups", ["inner", "all"])
@pytest.mark.parametrize("importance", sorted(IMPORTANCE.names()))
@pytest.mark.parametrize("name", ["ragged", "ghost"])
def test_channels_at_unequal_numbers_of_places_are_ranked(name: str, importance: str, groups: str) -> None:
    config = ChannelPrune(prune_frac=0.25, importance=importance, groups=groups, fine_tune=NOTHING)
    result = run_stage(config, context_of(name))
    assert result.metrics["prune_frac_achieved"] == pytest.approx(0.25, abs=0.15)


def test_a_part_of_a_map_that_would_be_empty_is_infeasible() -> None:
    config = ChannelPrune(prune_frac=0.5, importance="l1", groups="all", fine_tune=NOTHING)
    with pytest.raises(InfeasiblePoint, match=r"too many channels are removed \(.*\): lower prune_frac"):
        run_stage(config, context_of("ragged"))


def test_the_score_of_a_channel_is_the_sum_over_its_own_places() -> None:
    model = context_of("ragged").parent_model()
    uneven = [(g, part) for g in model.prune_groups() for part in g.sources if len({*map(len, part.positions)}) > 1]
    assert uneven
    for group, part in uneven:
        values = torch.rand(12)
        expected = [sum(float(values[place]) for place in places) for places in part.positions]
        assert sum_by_channel(group, {part.node: values}).tolist() == pytest.approx(expected)


def sparse(context: StageContext) -> StageContext:
    """The same parent with all but the largest tenth of each layer's weights at zero."""
    result = context.parent
    state = {n: t.clone() for n, t in result.state.items()}
    for name, tensor in state.items():
        if name.endswith("layer.weight"):
            limit = tensor.abs().flatten().kthvalue(max(1, round(0.9 * tensor.numel()))).values
            tensor[tensor.abs() <= limit] = 0.0
    parent = StageResult(result.architecture, None, state, {})
    return make_context(few_digits(), parent_result=parent)


def test_zeros_of_the_parent_stay_zero_while_channels_are_pruned() -> None:
    context = sparse(context_of("grouped"))
    model = run_stage(ChannelPrune(prune_frac=0.25, fine_tune=ONE), context).model()
    assert zero_share(weights_of(model)) > 0.85


def test_a_gradual_run_keeps_the_zeros_of_a_parent_that_is_sparser_already() -> None:
    context = sparse(context_of("inverted"))
    config = Sparsify(sparsity=0.5, exempt=(), min_density=0, schedule=ONE)
    before = achieved_sparsity(context.parent_model(), config)
    result = run_stage(config, context)
    assert before > 0.85
    assert result.metrics["sparsity_achieved"] >= before


@pytest.mark.parametrize("ramp", [0.5, 1.0])
def test_the_best_epoch_of_a_gradual_run_is_one_with_all_of_its_zeros(ramp: float) -> None:
    schedule = Schedule(epochs=4, lr=0.02, batch_size=50, keep="best")
    config = Sparsify(sparsity=0.9, exempt=(), min_density=0, ramp=ramp, schedule=schedule)
    result = run_stage(config, context_of("inverted"))
    assert result.metrics["sparsity_achieved"] == pytest.approx(0.9, abs=0.01)
    settled = [row["val_accuracy"] for row in result.history if row["sparsity_requested"] == 0.9]
    assert result.metrics["val_accuracy"] == max(settled)
