import math

import pytest
import torch

from tests.trainables.factories import few_digits, make_architecture, make_context, make_model
from trainables.config import IMPORTANCE, MODELS, Architecture, ChannelPrune, ModelConfig, Schedule
from trainables.models.model import Model, build
from trainables.models.units import count_parameters, units
from trainables.prune.channels import mask_channels_, plan_channels, prune_channels, prune_frac_achieved
from trainables.stage import StageResult, run_stage

FULL = Architecture(model=ModelConfig(), classes=10, channels=3, image_size=32)
P_BASE = 2_236_682
FAMILIES = sorted(MODELS.names())


@pytest.fixture(scope="module")
def full() -> Model:
    torch.manual_seed(0)
    return build(FULL)


def parameters_at(model: Model, prune_frac: float) -> int:
    widths = {name: len(kept) for name, kept in plan_channels(model, prune_frac).items()}
    with torch.device("meta"):
        return count_parameters(build(FULL.model_copy(update={"widths": widths})))


@pytest.mark.parametrize(
    ("prune_frac", "parameters"),
    [
        (0.0, P_BASE),
        (0.25, 1_784_954),
        (0.30, 1_695_497),
        (0.35, 1_605_045),
        (0.40, 1_514_856),
        (0.45, 1_424_404),
        (0.50, 1_333_226),
        (0.60, 1_153_317),
    ],
)
def test_parameters_of_the_pruned_mobilenet(full: Model, prune_frac: float, parameters: int) -> None:
    assert parameters_at(full, prune_frac) == parameters


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
    found = int(parameters_at(full, prune_frac) * w_bits / 8)
    assert found == size_bytes
    assert f"{4 * P_BASE / found:.2f}" == ratio


def test_a_published_size_by_formula(full: Model) -> None:
    assert f"{int(parameters_at(full, 0.4) * 4 / 8) / 2**20:.3f}" == "0.722"


def test_pruning_the_full_network_gives_the_counted_one(full: Model) -> None:
    pruned, architecture = prune_channels(full, FULL, plan_channels(full, 0.4))
    assert count_parameters(pruned) == 1_514_856
    assert sum(u.layer.weight.shape[0] for u in units(pruned).values()) == 11_388 + 10
    assert sum(u.layer.weight.numel() for u in units(pruned).values()) == 1_492_070
    assert architecture.widths["blocks.1"] == 96 - math.floor(96 * 0.4)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("prune_frac", [0.3, 0.5, 0.999])
def test_the_pruned_network_computes_what_the_masked_one_computes(name: str, prune_frac: float) -> None:
    model = make_model(name, seed=3)
    plan = plan_channels(model, prune_frac)
    pruned, _ = prune_channels(model, make_architecture(name), plan)
    x = torch.randn(16, 1, 8, 8)
    with torch.no_grad():
        unpruned = model(x)
        mask_channels_(model, plan)
        masked, narrow = model(x), pruned.eval()(x)
    assert torch.allclose(narrow, masked, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(narrow, unpruned, rtol=1e-2, atol=1e-2)
    assert narrow.std() > 0.01


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_is_pruned_at_zero(name: str) -> None:
    model = make_model(name)
    plan = plan_channels(model, 0.0)
    assert all(kept == list(range(len(kept))) for kept in plan.values())
    pruned, architecture = prune_channels(model, make_architecture(name), plan)
    assert prune_frac_achieved(architecture) == 0
    assert all(
        torch.equal(a, b) for a, b in zip(pruned.state_dict().values(), model.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_one_channel_of_each_group_stays_near_one(name: str) -> None:
    model = make_model(name)
    plan = plan_channels(model, 0.9999)
    assert {len(kept) for kept in plan.values()} == {1}
    pruned, _ = prune_channels(model, make_architecture(name), plan)
    assert torch.isfinite(pruned.eval()(torch.zeros(1, 1, 8, 8))).all()


def test_a_single_channel_stays() -> None:
    model = make_model("vgg16", width=0.001)
    assert set(map(tuple, plan_channels(model, 0.5).values())) == {(0,)}


def test_a_small_fraction_removes_one_channel_of_each_group() -> None:
    model = make_model()
    full = {g.name: units(model)[g.source].layer.weight.shape[0] for g in model.prune_groups()}
    assert {name: full[name] - len(kept) for name, kept in plan_channels(model, 1e-6).items()} == dict.fromkeys(full, 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_channels_of_least_l1_go(name: str) -> None:
    model = make_model(name)
    for group in model.prune_groups():
        weight = units(model)[group.source].layer.weight.detach()
        sums = [float(filter_.abs().sum()) for filter_ in weight]
        kept = plan_channels(model, 0.5)[group.name]
        gone = set(range(len(sums))) - set(kept)
        assert kept == sorted(kept)
        assert max((sums[i] for i in gone), default=-1) <= min(sums[i] for i in kept)


def test_of_equal_channels_the_first_go() -> None:
    model = make_model()
    group = model.prune_groups()[0]
    torch.nn.init.ones_(units(model)[group.source].layer.weight)
    count = len(units(model)[group.source].layer.weight)
    assert plan_channels(model, 0.25)[group.name] == list(range(count // 4, count))


def test_a_fraction_is_taken_as_written() -> None:
    # 0.29 · 100 is 28.999999999999996 in floating point.
    model = make_model("vgg16", width=100 / 64)
    assert len(plan_channels(model, 0.29)["features.0"]) == 71


def test_a_pruned_network_can_be_pruned_again() -> None:
    model = make_model()
    once, architecture = prune_channels(model, make_architecture(), plan_channels(model, 0.5))
    twice, narrower = prune_channels(once, architecture, plan_channels(once, 0.5))
    assert narrower.widths["blocks.1"] == math.ceil(architecture.widths["blocks.1"] / 2)
    assert count_parameters(twice) < count_parameters(once)
    assert prune_frac_achieved(narrower) == pytest.approx(0.75, abs=0.02)


def test_achieved_fraction_counts_prunable_channels() -> None:
    assert prune_frac_achieved(make_architecture()) == 0
    # Width 0.25 has 8 channels in the first expanding block, so 48 hidden ones.
    full = sum(units(make_model())[g.source].layer.weight.shape[0] for g in make_model().prune_groups())
    assert prune_frac_achieved(make_architecture(widths={"blocks.1": 24})) == pytest.approx(24 / full)


@pytest.mark.parametrize("name", IMPORTANCE.names())
def test_importance_gives_one_finite_score_for_each_channel(name: str) -> None:
    unit = units(make_model())["blocks.1.expand"]
    scores = IMPORTANCE[name](unit)
    assert scores.shape == (unit.layer.weight.shape[0],)
    assert torch.isfinite(scores).all()


def test_the_stage_prunes_its_parent_and_says_what_it_kept() -> None:
    model = make_model()
    parent = StageResult(make_architecture(), None, model.state_dict(), {})
    config = ChannelPrune(prune_frac=0.5, fine_tune=Schedule(epochs=0, lr=0.1))
    result = run_stage(config, make_context(few_digits(), parent_result=parent))
    assert result.plan == plan_channels(model, 0.5)
    assert result.architecture.widths == {name: len(kept) for name, kept in result.plan.items()}
    assert result.model().state_dict().keys() == model.state_dict().keys()
    assert result.history == []
