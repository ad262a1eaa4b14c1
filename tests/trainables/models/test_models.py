from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.trainables.factories import SMALL, conv_unit, digits, inner_groups, make_architecture
from trainables.config import MODELS, Architecture, ModelConfig
from trainables.models.mobilenet_v2 import STAGES
from trainables.models.model import Model, baseline_architecture, build, fp32_bytes
from trainables.models.prune_groups import PruneGroup
from trainables.models.units import LinearUnit, count_parameters, quant_points, units

WHOLE_NETWORKS = True

FAMILIES = sorted(MODELS.names())


def empty(name: str, **changes: object) -> Model:
    """A network at full width whose tensors have shapes and no memory."""
    fields = {"model": ModelConfig(name=name), "classes": 10, "channels": 3, "image_size": 32, **changes}
    with torch.device("meta"):
        return build(Architecture.model_validate(fields))


@pytest.mark.parametrize(
    ("name", "classes", "parameters"),
    [("mobilenet_v2", 10, 2_236_682), ("mobilenet_v2", 100, 2_351_972), ("vgg16", 10, 14_728_266)],
)
def test_parameter_counts(name: str, classes: int, parameters: int) -> None:
    assert count_parameters(empty(name, classes=classes)) == parameters


def test_every_family_has_a_small_width_here() -> None:
    assert set(SMALL) == set(FAMILIES)


def test_mobilenet_weights_by_role() -> None:
    layers = units(empty("mobilenet_v2"))
    weights: dict[str, int] = {}
    for unit in layers.values():
        weights[unit.role] = weights.get(unit.role, 0) + unit.layer.weight.numel()
    assert weights == {
        "first_conv": 864,
        "expansion": 751_872,
        "depthwise": 64_224,
        "projection": 963_200,
        "head": 409_600,
        "classifier": 12_800,
    }
    assert len(layers) == 53
    assert sum(unit.layer.weight.shape[0] for unit in layers.values()) == 17_066


def test_mobilenet_multiply_accumulates() -> None:
    model = empty("mobilenet_v2")
    counted: list[int] = []
    for unit in units(model).values():
        unit.register_forward_hook(
            lambda u, _args, out: counted.append(u.layer.weight.numel() * (out[0, 0].numel() if out.ndim == 4 else 1))
        )
    model(torch.empty(1, 3, 32, 32, device="meta"))
    assert sum(counted) == 87_976_448


@pytest.mark.parametrize("name", FAMILIES)
def test_units_are_in_forward_order(name: str) -> None:
    model = build(make_architecture(name)).eval()
    called: list[str] = []
    for unit_name, unit in units(model).items():
        unit.register_forward_hook(lambda *_args, n=unit_name: called.append(n))
    points: list[str] = []
    for point_name, point in quant_points(model).items():
        point.register_forward_hook(lambda *_args, n=point_name: points.append(n))
    model(torch.zeros(1, 1, 8, 8))
    assert called == list(units(model))
    assert sorted(points) == sorted(quant_points(model))
    assert isinstance(units(model)[called[-1]], LinearUnit)
    assert units(model)[called[0]].role == "first_conv"


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_output_shape(name: str, size: int, channels: int) -> None:
    model = build(make_architecture(name, image_size=size, channels=channels, classes=7))
    assert model(torch.randn(2, channels, size, size)).shape == (2, 7)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [(8, 24), (40, 16)])
def test_images_may_have_another_height_than_width(name: str, size: tuple[int, int]) -> None:
    architecture = make_architecture(name, image_size=size)
    assert architecture.image == (1, *size)
    assert build(architecture)(torch.randn(2, 1, *size)).shape == (2, 10)
    assert type(architecture).model_validate_json(architecture.model_dump_json()) == architecture
    assert make_architecture(name, image_size=(8, 8)) == make_architecture(name)


@pytest.mark.parametrize("name", FAMILIES)
def test_no_group_shares_a_channel_and_widths_build_what_they_say(name: str) -> None:
    full = build(make_architecture(name))
    groups = full.prune_groups()
    assert len({g.source for g in groups}) == len(groups)
    widths = {g.name: 1 + i % 3 for i, g in enumerate(groups)}
    narrow = build(make_architecture(name, widths=widths)).eval()
    layers = units(narrow)
    for group in groups:
        for unit_name in (part.node for part in group.sources):
            assert layers[unit_name].layer.weight.shape[0] == widths[group.name]
        for sink in (part.node for part in group.sinks):
            assert layers[sink].layer.weight.shape[1] == widths[group.name]
    assert narrow(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert [members(group) for group in narrow.prune_groups()] == [members(group) for group in groups]
    assert {group.name: group.channels for group in narrow.prune_groups()} == widths


def members(group: PruneGroup) -> tuple[object, ...]:
    """All of a group but how many channels it has."""
    sides = [[(part.node, part.dim) for part in side] for side in (group.sources, group.sinks)]
    return group.name, *sides, group.optional, group.inner


def test_mobilenet_prunes_sixteen_groups_and_a_head_and_vgg_thirteen() -> None:
    groups = inner_groups(empty("mobilenet_v2"))
    assert len(groups) - 1 == sum(n for t, _, n, _ in STAGES if t != 1) == 16
    assert [group.name for group in groups if group.optional] == ["head"]
    assert len(empty("vgg16").prune_groups()) == len(inner_groups(empty("vgg16"))) == 13
    assert not any(group.optional for group in empty("vgg16").prune_groups())


def test_mobilenet_has_a_residual_stream_in_each_stage_and_the_channels_before_the_first() -> None:
    streams = [group for group in empty("mobilenet_v2").prune_groups() if not group.inner]
    assert [group.channels for group in streams] == [32, *(c for _, c, _, _ in STAGES)]
    projections = [sum(".project" in part.node for part in group.sources) for group in streams]
    assert projections == [0, *(n for _, _, n, _ in STAGES)]


def test_residual_blocks_add_their_input() -> None:
    model = build(make_architecture(width=1.0)).eval()
    named = units(model)
    for parameter in named["blocks.2.project"].parameters():
        torch.nn.init.zeros_(parameter)
    seen: list[torch.Tensor] = []
    for name in ("blocks.2.expand", "blocks.3.expand"):
        named[name].register_forward_pre_hook(lambda _unit, args: seen.append(args[0]))
    model(torch.randn(1, 1, 8, 8))
    assert torch.equal(seen[0], seen[1])
    assert sum(node.operator == "add" for node in empty("mobilenet_v2").graph().nodes) == 10


def test_activations_stay_in_their_range() -> None:
    model = build(make_architecture()).train()
    seen: dict[str, tuple[float, float]] = {}
    for name, point in quant_points(model).items():
        if not point.weight and not point.signed:
            point.register_forward_hook(lambda _p, _a, out, n=name: seen.update({n: (out.min(), out.max())}))
    model(100 * torch.randn(8, 1, 8, 8))
    assert len(seen) == 1 + 16 + 17 + 1 + 1  # stem, expand, depthwise, head, classifier input
    assert all(low >= 0 and high <= 6 for low, high in seen.values())


def test_baseline_architecture_comes_from_the_data() -> None:
    architecture = baseline_architecture(ModelConfig(width=0.25), digits())
    assert (architecture.classes, architecture.channels, architecture.image_size) == (10, 1, 8)
    assert architecture.widths == {}


def test_fp32_bytes_are_of_the_unpruned_network() -> None:
    full = make_architecture()
    expected = 4 * count_parameters(build(full))
    assert fp32_bytes(full) == expected
    assert fp32_bytes(full.model_copy(update={"widths": {"blocks.1": 1}})) == expected


def test_dropout_reaches_the_classifier() -> None:
    for name in FAMILIES:
        model = build(make_architecture(name, model=ModelConfig(name=name, width=SMALL[name], dropout=0.5)))
        assert model.dropout.p == 0.5


def test_initial_weights_follow_the_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in build(make_architecture()).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_conv_unit_is_convolution_norm_activation() -> None:
    unit = conv_unit(2, 4, 3, role="conv", stride=2, bias=True, activation=torch.nn.ReLU).eval()
    unit.bn.running_mean.fill_(0.3)
    x = torch.randn(2, 2, 8, 8)
    assert torch.allclose(unit(x), torch.relu(unit.bn(unit.layer(x))))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_goes_on_from_each_step_with_the_weights_of_then(name: str) -> None:
    model = build(make_architecture(name)).eval()
    x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    layers = units(model)
    with torch.no_grad():
        expected, visited = model(x), []
        for step, logits in model.resumed(x):
            assert torch.equal(logits(), expected)
            if step in layers:
                visited.append(step)
                weight = layers[step].layer.weight
                weight.mul_(2)
                changed = model(x)
                assert not torch.equal(changed, expected)
                assert torch.equal(logits(), changed)
                weight.mul_(0.5)
    assert visited == list(layers)


def test_depthwise_convolutions_with_a_stride_are_computed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bf16 a CPU has no fast kernel for their gradients, so that they leave the autocast of training."""
    model = build(Architecture(model=ModelConfig(width=0.1), classes=10, channels=3, image_size=32))
    in_float32: list[tuple[bool, int]] = []
    convolved = F.conv2d

    def spy(x: Tensor, weight: Tensor, *others: Any) -> Tensor:
        left = not torch.is_autocast_enabled("cpu") and x.dtype == weight.dtype == torch.float32
        in_float32.append((left, others[1][0] if len(weight) == others[4] > 1 else 0))
        return convolved(x, weight, *others)

    monkeypatch.setattr(F, "conv2d", spy)
    images = torch.randn(4, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.train()(images).square().sum().backward()
    assert {left for left, stride in in_float32 if stride == 2} == {True}
    assert {left for left, stride in in_float32 if stride != 2} == {False}
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
