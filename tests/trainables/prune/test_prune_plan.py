import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.trainables.factories import inner_groups, make_images, make_model, make_prune
from trainables.config import IMPORTANCE, MODELS
from trainables.errors import Diverged, InfeasiblePoint
from trainables.models.units import units
from trainables.prune.plan import compose, kept_count, multiple_of, plan_channels, plan_global, plan_uniform

WHOLE_NETWORKS = True

FAMILIES = sorted(MODELS.names())


def test_one_channel_of_each_group_stays_near_one() -> None:
    for name in FAMILIES:
        assert {len(kept) for kept in plan_channels(make_model(name), make_prune(0.9999)).values()} == {1}


def test_a_single_channel_stays() -> None:
    model = make_model("vgg16", width=0.001)
    assert set(map(tuple, plan_channels(model, make_prune(0.5)).values())) == {(0,)}


def test_a_small_fraction_removes_one_channel_of_each_group() -> None:
    model = make_model()
    layers = units(model)
    plan = plan_channels(model, make_prune(1e-6))
    assert {len(layers[f"{name}.expand"].layer.weight) - len(kept) for name, kept in plan.items()} == {1}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_channels_of_least_l1_go(name: str) -> None:
    model = make_model(name)
    for group_name, kept in plan_channels(model, make_prune(0.5, head=True)).items():
        [group] = [g for g in model.prune_groups() if g.name == group_name]
        sums = [float(filter_.abs().sum()) for filter_ in units(model)[group.source].layer.weight.detach()]
        removed = sorted(range(len(sums)), key=lambda i: sums[i])[: max(1, math.floor(len(sums) * 0.5))]
        assert kept == [i for i in range(len(sums)) if i not in removed]


def test_of_equal_channels_the_first_go() -> None:
    model = make_model()
    group = inner_groups(model)[0]
    nn.init.ones_(units(model)[group.source].layer.weight)
    count = len(units(model)[group.source].layer.weight)
    assert plan_channels(model, make_prune(0.25))[group.name] == list(range(count // 4, count))


def test_a_fraction_is_taken_as_written() -> None:
    # 0.29 · 100 is 28.999999999999996 in floating point.
    model = make_model("vgg16", width=100 / 64)
    assert len(plan_channels(model, make_prune(0.29))["features.0"]) == 71


def test_the_head_is_left_out_unless_it_is_asked_for() -> None:
    model = make_model()
    assert "head" not in plan_channels(model, make_prune(0.5))
    assert len(plan_channels(model, make_prune(0.5, head=True))["head"]) == 640
    assert len(plan_channels(make_model("vgg16"), make_prune(0.5, head=True))) == 13


@pytest.mark.parametrize(
    ("channels", "prune_frac", "multiple", "kept"),
    [
        (960, 0.4, 1, 576),
        (100, 0.5, 16, 48),  # 50 lies between 48 and 64
        (96, 0.25, 16, 80),  # 72 is half-way
        (144, 0.4, 16, 80),  # 144 − 57 = 87
        (144, 0.4, 8, 88),
        (96, 0.05, 16, 96),  # 92 is nearer to 96
        (960, 0.999, 16, 16),
        (20, 0.5, 16, 16),
        (17, 0.1, 16, 16),
        (24, 0.01, 16, 16),
        (12, 0.9, 16, 12),  # no multiple fits: all stay
        (1, 0.9, 1, 1),
    ],
)
def test_kept_channels_are_the_nearest_multiple(channels: int, prune_frac: float, multiple: int, kept: int) -> None:
    assert kept_count(channels, prune_frac, multiple) == kept


@given(st.integers(1, 2000), st.floats(1e-9, 0.999), st.integers(1, 64))
def test_the_kept_channels_are_legal_and_near_the_request(channels: int, prune_frac: float, multiple: int) -> None:
    kept = kept_count(channels, prune_frac, multiple)
    exact = kept_count(channels, prune_frac, 1)
    assert exact == max(1, channels - max(1, math.floor(channels * prune_frac + 1e-9)))
    assert 1 <= kept <= channels
    assert kept % multiple == 0 or kept == channels
    multiples = range(multiple, channels + multiple + 1, multiple)
    assert kept == min(channels, min(multiples, key=lambda m: (abs(m - exact), -m)))


def test_groups_of_96_channels_are_rounded_to_16_when_nothing_is_said() -> None:
    assert [multiple_of(c, None) for c in (1, 95, 96, 960)] == [1, 1, 16, 16]
    assert [multiple_of(c, 8) for c in (1, 960)] == [8, 8]
    plan = plan_channels(make_model(width=1.0), make_prune(0.4, round_to=None))
    assert [len(plan[f"blocks.{i}"]) for i in (1, 2, 4, 16)] == [64, 80, 112, 576]
    plan = plan_channels(make_model("vgg16", width=1.0), make_prune(0.4, round_to=None))
    assert [len(kept) for kept in list(plan.values())[:3]] == [64 - 25, 64 - 25, 80]


def total(plan: Mapping[str, list[int]]) -> int:
    return sum(len(kept) for kept in plan.values())


def fake_scores(sizes: list[int], seed: int) -> tuple[dict[str, Tensor], dict[str, int]]:
    generator = torch.Generator().manual_seed(seed)
    scores = {f"g{i}": torch.rand(size, generator=generator) ** (i + 1) for i, size in enumerate(sizes)}
    return scores, {name: len(score) for name, score in scores.items()}


def test_global_ranking_removes_the_least_important_of_all() -> None:
    scores, full = fake_scores([30, 40, 50], seed=0)
    plan = plan_global(scores, full, make_prune(0.4, scope="global", max_group_frac=0.99, min_channels=1))
    ranked = sorted((float(s), name, c) for name, score in scores.items() for c, s in enumerate(score))
    expected = {(name, c) for _, name, c in ranked[:48]}
    assert {(n, c) for n in full for c in range(full[n]) if c not in plan[n]} == expected
    assert len({full[name] - len(kept) for name, kept in plan.items()}) == 3


@settings(max_examples=200)
@given(
    sizes=st.lists(st.integers(16, 300), min_size=1, max_size=6),
    prune_frac=st.floats(0.01, 0.95),
    max_group_frac=st.floats(0.1, 0.95),
    min_channels=st.integers(1, 16),
    round_to=st.sampled_from([None, 1, 8, 16]),
    seed=st.integers(0, 5),
)
def test_global_plans_respect_caps_and_rounding_and_come_near_the_request(
    sizes: list[int], prune_frac: float, max_group_frac: float, min_channels: int, round_to: int | None, seed: int
) -> None:
    scores, full = fake_scores(sizes, seed)
    changes = {"max_group_frac": max_group_frac, "min_channels": min_channels, "round_to": round_to}
    plan = plan_global(scores, full, make_prune(prune_frac, scope="global", **changes))
    reachable, coarsest = 0, 1
    for name, kept in plan.items():
        multiple = multiple_of(full[name], round_to)
        coarsest = max(coarsest, multiple)
        least = max(min_channels, math.ceil(full[name] * (1 - max_group_frac) - 1e-9), 1)
        legal = [k for k in range(least, full[name] + 1) if k % multiple == 0 or k == full[name]]
        assert len(kept) in legal
        assert kept == sorted(torch.topk(scores[name], len(kept)).indices.tolist())
        reachable += full[name] - min(legal)
    wanted = min(math.floor(sum(sizes) * prune_frac + 0.5), reachable)
    assert abs(sum(sizes) - total(plan) - wanted) <= coarsest / 2


def test_global_ranking_hits_the_fraction_to_the_channel_without_rounding() -> None:
    model = make_model()
    for prune_frac in (0.1, 0.33, 0.5, 0.7):
        plan = plan_channels(model, make_prune(prune_frac, scope="global", head=True))
        full = plan_channels(model, make_prune(0, head=True))
        assert total(full) - total(plan) == round(total(full) * prune_frac)


def test_fine_groups_make_up_for_what_coarse_ones_cannot() -> None:
    scores = {"coarse": torch.arange(96.0), "fine": 1000 + torch.arange(40.0)}
    full = {"coarse": 96, "fine": 40}
    plan = plan_global(scores, full, make_prune(21 / 136, scope="global", round_to=None))
    assert plan == {"coarse": list(range(16, 96)), "fine": list(range(5, 40))}


def test_a_block_that_overshoots_goes_when_that_is_nearer() -> None:
    scores, full = {"a": torch.arange(96.0), "b": 0.5 + torch.arange(96.0)}, {"a": 96, "b": 96}
    for channels, expected in [(23, 16), (25, 32)]:
        plan = plan_global(scores, full, make_prune(channels / 192, scope="global", round_to=16))
        assert 192 - total(plan) == expected


def test_a_target_out_of_reach_of_the_caps_is_met_as_far_as_they_allow() -> None:
    scores, full = fake_scores([50, 100], seed=1)
    plan = plan_global(scores, full, make_prune(0.95, scope="global", max_group_frac=0.5, min_channels=30))
    assert [len(kept) for kept in plan.values()] == [30, 50]


def test_a_floor_above_the_channels_is_infeasible() -> None:
    request = make_prune(0.5, scope="global", min_channels=49)
    message = r"min_channels must be at most the channels of each group, but is 49 and blocks.1 has 48: lower it"
    with pytest.raises(InfeasiblePoint, match=message):
        plan_channels(make_model(), request)
    assert plan_channels(make_model(), make_prune(0.5, min_channels=49))


def test_a_network_without_prunable_channels_is_infeasible(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model()
    monkeypatch.setattr(type(model), "prune_groups", lambda _self: [])
    with pytest.raises(InfeasiblePoint, match="needs prunable channels, but the network has none"):
        plan_channels(model, make_prune(0.5))


@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_a_score_that_is_not_finite_is_a_divergence(scope: str) -> None:
    model = make_model()
    with torch.no_grad():
        units(model)["blocks.3.expand"].layer.weight[2, 0] = torch.inf
    with pytest.raises(Diverged, match=r"the importance of blocks.3 is not finite"):
        plan_channels(model, make_prune(0.5, scope=scope))


@pytest.mark.parametrize("name", IMPORTANCE.names())
@pytest.mark.parametrize("scope", ["uniform", "global"])
@pytest.mark.parametrize("family", FAMILIES)
def test_plans_of_every_criterion_repeat_themselves(family: str, scope: str, name: str) -> None:
    model = make_model(family, width=0.25)
    request = make_prune(0.5, importance=name, scope=scope, head=True, min_channels=8)
    plans = [plan_channels(model, request, batches=make_images().batches(16), seed=4) for _ in range(2)]
    assert plans[0] == plans[1]
    assert list(plans[0]) == [group.name for group in inner_groups(model)]
    assert total(plans[0]) == pytest.approx(0.5 * total(plan_channels(model, make_prune(0, head=True))), abs=16)


def test_a_global_ranking_prunes_layers_differently() -> None:
    plan = plan_channels(
        make_model(), make_prune(0.5, scope="global", importance="bn_taylor"), batches=make_images().batches(8)
    )
    full = plan_channels(make_model(), make_prune(0))
    assert len({round(len(kept) / len(full[name]), 2) for name, kept in plan.items()}) > 4


@pytest.mark.parametrize("round_to", [None, 1])
@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_steps_end_at_the_same_counts_as_one_step(scope: str, round_to: int | None) -> None:
    scores, full = fake_scores([40, 96, 200, 513], seed=2)
    make = plan_uniform if scope == "uniform" else plan_global
    at_once = make(scores, full, make_prune(0.6, scope=scope, round_to=round_to))
    plan = {name: list(range(count)) for name, count in full.items()}
    for step in (0.2, 0.4, 0.6):
        left = {name: scores[name][kept] for name, kept in plan.items()}
        plan = compose(plan, make(left, full, make_prune(step, scope=scope, round_to=round_to)))
    assert abs(total(plan) - total(at_once)) <= (8 if scope == "global" and round_to is None else 0)
    if scope == "uniform" or round_to == 1:
        assert plan == at_once


@given(st.permutations(range(12)), st.lists(st.integers(0, 11), unique=True, min_size=1))
def test_composed_plans_name_the_original_channels(order: list[int], keep: list[int]) -> None:
    first = {"g": sorted(order[:6])}
    second = {"g": sorted({k % 6 for k in keep})}
    values = torch.arange(100, 112)
    assert torch.equal(values[first["g"]][second["g"]], values[compose(first, second)["g"]])
