"""Pruned networks: what is counted, what they compute, and that another library's surgery agrees."""

import math
import warnings
from collections.abc import Mapping

import pytest
import torch
import torch_pruning
from torch import nn

from tests.trainables.factories import make_architecture, make_model, make_prune, plain_module, randomise_
from trainables.config import MODELS, Architecture, ModelConfig
from trainables.models.model import Model, build
from trainables.models.units import count_parameters, units
from trainables.prune.channels import prune_channels, prune_frac_achieved
from trainables.prune.plan import plan_channels

WHOLE_NETWORKS = True

FULL = Architecture(model=ModelConfig(), classes=10, channels=3, image_size=32)
P_BASE = 2_236_682
FAMILIES = sorted(MODELS.names())


@pytest.fixture(scope="module")
def full() -> Model:
    torch.manual_seed(0)
    return build(FULL)


def counted(model: Model, prune_frac: float) -> Model:
    """The pruned network at full size, without weights."""
    widths = {name: len(kept) for name, kept in plan_channels(model, make_prune(prune_frac)).items()}
    with torch.device("meta"):
        return build(FULL.model_copy(update={"widths": widths}))


@pytest.mark.parametrize(
    ("prune_frac", "weights", "channels", "parameters", "macs"),
    [
        (0.0, 2_202_560, 17_056, P_BASE, 87_976_448),
        (0.25, 1_757_936, 13_504, 1_784_954, 68_049_920),
        (0.30, 1_669_875, 12_806, 1_695_497, 64_188_672),
        (0.35, 1_580_847, 12_094, 1_605_045, 60_192_432),
        (0.40, 1_492_070, 11_388, 1_514_856, 56_246_432),
        (0.45, 1_403_042, 10_676, 1_424_404, 52_250_192),
        (0.50, 1_313_312, 9_952, 1_333_226, 48_123_392),
        (0.60, 1_136_223, 8_542, 1_153_317, 40_265_904),
    ],
)
def test_counts_of_the_pruned_mobilenet(
    full: Model, prune_frac: float, weights: int, channels: int, parameters: int, macs: int
) -> None:
    model = counted(full, prune_frac)
    assert count_parameters(model) == parameters
    assert sum(unit.layer.weight.numel() for unit in units(model).values()) == weights
    assert sum(len(unit.layer.weight) for unit in units(model).values()) == channels + 10
    found: list[int] = []
    for unit in units(model).values():
        unit.register_forward_hook(
            lambda u, _args, out: found.append(u.layer.weight.numel() * (out[0, 0].numel() if out.ndim == 4 else 1))
        )
    model(torch.empty(1, 3, 32, 32, device="meta"))
    assert sum(found) == macs


@pytest.mark.parametrize(
    ("prune_frac", "w_bits", "size_bytes", "ratio"),
    [
        (0.25, 8, 1_784_954, "5.01"),
        (0.30, 4, 847_748, "10.55"),
        (0.40, 4, 757_428, "11.81"),
        (0.45, 4, 712_202, "12.56"),
    ],
)
def test_published_ratios_by_formula(full: Model, prune_frac: float, w_bits: int, size_bytes: int, ratio: str) -> None:
    found = int(count_parameters(counted(full, prune_frac)) * w_bits / 8)
    assert found == size_bytes
    assert f"{4 * P_BASE / found:.2f}" == ratio


def test_a_published_size_by_formula(full: Model) -> None:
    assert f"{int(count_parameters(counted(full, 0.4)) * 4 / 8) / 2**20:.3f}" == "0.722"


def test_pruning_the_full_network_gives_the_counted_one(full: Model) -> None:
    pruned, architecture = prune_channels(full, FULL, plan_channels(full, make_prune(0.4)))
    assert count_parameters(pruned) == 1_514_856
    assert architecture.widths["blocks.1"] == 96 - math.floor(96 * 0.4)


def test_a_head_of_512_channels_frees_a_quarter_of_a_million_weights(full: Model) -> None:
    pruned, architecture = prune_channels(full, FULL, {"head": list(range(512))})
    assert architecture.widths == {"head": 512}
    # 320 inputs, 10 classes, and the scale and shift of each channel.
    assert count_parameters(full) - count_parameters(pruned) == (1280 - 512) * (320 + 10 + 2) == 254_976


def mask_channels_(model: Model, plan: Mapping[str, list[int]]) -> None:
    """Sets the outputs of the removed channels to zero."""
    layers = units(model)
    for group in model.prune_groups():
        for name in (part.node for part in group.sources) if group.name in plan else ():
            mask = torch.zeros(len(layers[name].layer.weight))
            mask[plan[group.name]] = 1
            layers[name].register_forward_hook(lambda _unit, _args, out, mask=mask: out * mask.view(1, -1, 1, 1))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scope", ["uniform", "global"])
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("prune_frac", [0.3, 0.5, 0.79])
def test_the_pruned_network_computes_what_the_masked_one_computes(
    name: str, scope: str, head: bool, prune_frac: float
) -> None:
    model = make_model(name, seed=3)
    plan = plan_channels(model, make_prune(prune_frac, scope=scope, head=head, min_channels=1))
    assert ("head" in plan) == (head and name == "mobilenet_v2")
    pruned, _ = prune_channels(model, make_architecture(name), plan)
    x = torch.randn(16, 1, 8, 8)
    with torch.no_grad():
        unpruned = model(x)
        mask_channels_(model, plan)
        masked, narrow = model(x), pruned.eval()(x)
    assert torch.allclose(narrow, masked, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(narrow, unpruned, rtol=1e-2, atol=1e-2)
    assert narrow.std() > 0.01


@pytest.mark.parametrize(("family", "group"), [(n, g.name) for n in FAMILIES for g in make_model(n).prune_groups()])
def test_each_group_alone_computes_what_the_masked_network_computes(family: str, group: str) -> None:
    model = make_model(family, seed=1)
    [count] = [len(units(model)[g.source].layer.weight) for g in model.prune_groups() if g.name == group]
    plan = {group: list(range(1, count, 2))}
    pruned, architecture = prune_channels(model, make_architecture(family), plan)
    assert architecture.widths == {group: count // 2}
    mask_channels_(model, plan)
    x = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(pruned.eval()(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_is_pruned_at_zero(name: str) -> None:
    model = make_model(name)
    plan = plan_channels(model, make_prune(0.0))
    assert all(kept == list(range(len(kept))) for kept in plan.values())
    pruned, architecture = prune_channels(model, make_architecture(name), plan)
    assert prune_frac_achieved(architecture) == 0
    assert all(
        torch.equal(a, b) for a, b in zip(pruned.state_dict().values(), model.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_single_channels_computes(name: str) -> None:
    model = make_model(name)
    pruned, _ = prune_channels(model, make_architecture(name), plan_channels(model, make_prune(0.9999, head=True)))
    assert torch.isfinite(pruned.eval()(torch.zeros(1, 1, 8, 8))).all()


def test_a_pruned_network_can_be_pruned_again() -> None:
    model = make_model()
    once, architecture = prune_channels(model, make_architecture(), plan_channels(model, make_prune(0.5, head=True)))
    twice, narrower = prune_channels(once, architecture, plan_channels(once, make_prune(0.5)))
    assert narrower.widths["blocks.1"] == math.ceil(architecture.widths["blocks.1"] / 2)
    assert narrower.widths["head"] == 640
    assert count_parameters(twice) < count_parameters(once)


def test_achieved_fraction_counts_the_channels_that_may_be_touched() -> None:
    assert prune_frac_achieved(make_architecture()) == 0
    # Width 0.25 has 8 channels in the first expanding block, so 48 hidden ones.
    full = sum(len(kept) for kept in plan_channels(make_model(), make_prune(0.0)).values())
    assert prune_frac_achieved(make_architecture(widths={"blocks.1": 24})) == pytest.approx(24 / full)


def test_the_head_counts_where_it_may_be_touched() -> None:
    full = sum(len(kept) for kept in plan_channels(make_model(), make_prune(0.0)).values())
    assert prune_frac_achieved(make_architecture(widths={"blocks.1": 24, "head": 1280})) == pytest.approx(
        24 / (full + 1280)
    )
    assert prune_frac_achieved(make_architecture(widths={"head": 320})) == pytest.approx(960 / (full + 1280))


def test_a_network_without_prunable_channels_has_lost_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(make_model()), "prune_groups", lambda _self: [])
    assert prune_frac_achieved(make_architecture()) == 0


def pruned_by_torch_pruning(
    model: Model, architecture: Architecture, plan: Mapping[str, list[int]], x: torch.Tensor
) -> nn.Module:
    """The same channels removed by Torch-Pruning's dependency graph (Fang et al., arXiv 2301.12900)."""
    plain = plain_module(model, architecture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of layers that it does not know
        graph = torch_pruning.DependencyGraph().build_dependency(plain, example_inputs=x)
        for group in model.prune_groups():
            if group.name in plan:
                [layer, *_] = plain.get_submodule(group.source)
                removed = sorted(set(range(layer.out_channels)) - set(plan[group.name]))
                graph.get_pruning_group(layer, torch_pruning.prune_conv_out_channels, idxs=removed).prune()
    return plain


@pytest.mark.parametrize("groups", ["inner", "all"])
@pytest.mark.parametrize(
    ("name", "width", "prune_frac"),
    [("mobilenet_v2", 0.25, 0.5), ("mobilenet_v2", 1.0, 0.4), ("vgg16", 0.25, 0.3), ("vgg16", 1.0, 0.5)],
)
def test_torch_pruning_makes_the_same_network(name: str, width: float, prune_frac: float, groups: str) -> None:
    architecture = FULL.model_copy(update={"model": ModelConfig(name=name, width=width)})
    torch.manual_seed(0)
    model = build(architecture)
    randomise_(model)
    model.eval()
    request = make_prune(prune_frac, scope="global", head=True)
    if groups == "all":  # residual streams are narrower than the fewest channels that pruning leaves by default
        request = request.model_copy(update={"groups": groups, "min_channels": 1})
    plan = plan_channels(model, request)
    x = torch.randn(2, 3, 32, 32)
    theirs = pruned_by_torch_pruning(model, architecture, plan, x)
    ours, _ = prune_channels(model, architecture, plan)
    assert count_parameters(ours) == count_parameters(theirs) < count_parameters(model)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(x), theirs(x), rtol=1e-4, atol=1e-4)
