import itertools
import math
import re

import pytest
from pydantic import ValidationError

from search_spaces.space import FIELDS, MAX_CORNERS, TOGETHER, SearchSpace, to_trial
from trainables.config import (
    GROUPS,
    AutoBits,
    BaselineImport,
    BaselineTrain,
    ChannelPrune,
    PostTrainingQuant,
    QuantAwareTrain,
    Schedule,
    Sparsify,
    TrialConfig,
)
from trainables.errors import ConfigError, InfeasiblePoint

ONE = Schedule(epochs=1, lr=0.1)
BASE = TrialConfig(
    seed=7,
    baseline=BaselineTrain(schedule=ONE),
    prune=ChannelPrune(fine_tune=ONE),
    quantize=PostTrainingQuant(),
)


def space(**parameters: object) -> SearchSpace:
    return SearchSpace.model_validate(parameters)


SMALL = space(prune_frac={"low": 0, "high": 0.3, "step": 0.1}, w_bits=[8, 2, 4], a_bits=[4, 8])


def test_the_grid_is_the_product_with_the_last_parameter_fastest() -> None:
    expected = itertools.product([0.0, 0.1, 0.2, 0.3], [2, 4, 8], [4, 8])
    assert [tuple(point.values()) for point in SMALL.grid()] == list(expected)
    assert {tuple(point) for point in SMALL.grid()} == {("prune_frac", "w_bits", "a_bits")}


def test_a_point_is_its_place_in_the_grid() -> None:
    assert [SMALL.point(i) for i in range(SMALL.size)] == list(SMALL.grid())
    assert list(SMALL.point(5)) == list(next(SMALL.grid()))
    assert SMALL.size == 24


def test_corners_have_every_parameter_at_an_end() -> None:
    corners = [tuple(c.values()) for c in SMALL.corners(0)]
    assert sorted(corners) == sorted(itertools.product([0.0, 0.3], [2, 8], [4, 8]))
    assert SMALL.corners(0) == SMALL.corners(0)
    assert len({str(SMALL.corners(seed)) for seed in range(5)}) > 1
    assert all(SMALL.contains(c) for c in SMALL.corners(0))


def test_a_fixed_parameter_has_one_end() -> None:
    fixed = space(prune_frac=[0.3], w_bits=[4], a_bits=[4, 6, 8])
    assert sorted(c["a_bits"] for c in fixed.corners(0)) == [4, 8]
    assert space(w_bits=[4]).corners(0) == [{"w_bits": 4}]


def test_corners_are_at_most_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        monkeypatch.setitem(FIELDS, f"p{i}", ("seed",))
    wide = space(**{f"p{i}": [0, 1] for i in range(5)})
    corners = wide.corners(0)
    assert len(corners) == len({tuple(c.values()) for c in corners}) == MAX_CORNERS


def test_contains() -> None:
    assert SMALL.contains({"prune_frac": 0.3, "w_bits": 4, "a_bits": 8})
    assert SMALL.contains({"a_bits": 8, "w_bits": 4, "prune_frac": 0})
    assert not SMALL.contains({"prune_frac": 0.25, "w_bits": 4, "a_bits": 8})
    assert not SMALL.contains({"prune_frac": 0.3, "w_bits": 3, "a_bits": 8})
    assert not SMALL.contains({"prune_frac": 0.3, "w_bits": 4})
    assert not SMALL.contains({"prune_frac": 0.3, "w_bits": 4, "a_bits": 8, "seed": 1})
    assert not SMALL.contains({})


def test_a_huge_space_costs_nothing() -> None:
    step = {"low": 0, "high": 0.999, "step": 0.001}
    huge = SearchSpace.model_validate(dict.fromkeys(("prune_frac", "w_bits", "a_bits"), step))
    assert huge.size == 10**9
    assert huge.point(10**9 - 1) == {"prune_frac": 0.999, "w_bits": 0.999, "a_bits": 0.999}
    assert huge.point(123_456_789) == {"prune_frac": 0.123, "w_bits": 0.456, "a_bits": 0.789}
    assert len(huge.corners(0)) == 8
    assert next(huge.grid()) == {"prune_frac": 0, "w_bits": 0, "a_bits": 0}
    assert huge.contains(huge.point(77))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "must not be empty"),
        ({"w_bit": [2]}, "unknown parameter 'w_bit'; did you mean 'w_bits'?"),
        ({"w_bits.steam": [2]}, "unknown parameter 'w_bits.steam'; did you mean 'w_bits."),
        ({"seed": [1, 2]}, "unknown parameter 'seed'; known: prune_frac, importance, sparsity, w_bits, a_bits, "),
        ({"seed": [1, 2]}, "qat_weight_decay, w_bits.GROUP, a_bits.GROUP; groups: all, first_conv, expansion, "),
        ({"w_bits.all": [2], "w_bits": [4]}, "w_bits.all sets w_bits too: leave one of the two out"),
        ({"a_bits.all": [2], "a_bits.classifier": [4]}, "a_bits.all sets a_bits.classifier too"),
        ({"w_bits": []}, "must not be empty"),
    ],
)
def test_illegal_spaces_are_refused(parameters: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SearchSpace.model_validate(parameters)
    assert expected in str(caught.value)


def test_a_point_goes_into_its_fields_and_nowhere_else() -> None:
    trial = to_trial({"prune_frac": 0.3, "w_bits": 3, "a_bits": 5}, BASE)
    assert trial.prune.prune_frac == 0.3
    assert (trial.quantize.scheme.w_bits, trial.quantize.scheme.a_bits) == (3, 5)
    back = to_trial({"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}, trial)
    assert back == BASE
    assert BASE.prune.prune_frac == 0
    assert to_trial({}, BASE) == BASE


VALUES: dict[str, float | int | str] = {
    "prune_frac": 0.5,
    "importance": "l2",
    "sparsity": 0.5,
    "granularity": "tensor",
    "observer": "minmax",
    "budget_bytes": 1000,
    **dict.fromkeys(("ft_epochs", "sparsify_epochs", "qat_epochs"), 3),
    **dict.fromkeys(("ft_lr", "sparsify_lr", "qat_lr"), 0.005),
    **dict.fromkeys(("ft_batch_size", "sparsify_batch_size", "qat_batch_size"), 64),
    **dict.fromkeys(("ft_weight_decay", "sparsify_weight_decay", "qat_weight_decay"), 0.25),
}
"""A legal value of each parameter that is not a number of bits, other than the one in FULL."""
FULL = TrialConfig(
    baseline=BaselineTrain(schedule=ONE),
    prune=ChannelPrune(fine_tune=ONE),
    sparsify=Sparsify(schedule=ONE),
    quantize=QuantAwareTrain(kind="qat", schedule=ONE, auto_bits=AutoBits(budget_bytes=1)),
)


def changed_leaves(before: object, after: object, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], object]:
    """The leaves of `after` that are not in `before`, by path."""
    if isinstance(after, dict):
        old = before if isinstance(before, dict) else {}
        found = [changed_leaves(old.get(k), v, (*path, k)) for k, v in after.items()]
        return {place: value for leaves in found for place, value in leaves.items()}
    return {} if before == after else {path: after}


@pytest.mark.parametrize("name", FIELDS)
def test_every_parameter_changes_its_field_and_nothing_else(name: str) -> None:
    value = VALUES.get(name, 4)
    trial = to_trial({name: value}, FULL)
    assert changed_leaves(FULL.model_dump(), trial.model_dump()) == {FIELDS[name]: value}
    with pytest.raises(InfeasiblePoint):
        to_trial({name: math.inf}, FULL)


@pytest.mark.parametrize("name", TOGETHER)
def test_a_parameter_for_all_reaches_every_tensor(name: str) -> None:
    scheme = to_trial({name: 3}, BASE).quantize.scheme
    weights = [scheme.weight_bits(f"unit.{group}", group) for group in GROUPS]
    activations = [scheme.activation_bits(group) for group in (*GROUPS, "residual")]
    changed, other = (weights, activations) if name == "w_bits.all" else (activations, weights)
    assert set(changed) == {3}
    assert set(other) == {8}


def test_a_parameter_of_a_part_that_the_base_leaves_out_is_refused() -> None:
    for name, missing in {"sparsity": "sparsify", "budget_bytes": "quantize.auto_bits"}.items():
        with pytest.raises(ConfigError, match=f"^space.{name} changes base.{missing}, which the spec leaves out"):
            space(**{name: [VALUES[name]]}).check(BASE)


def test_an_imported_baseline_stays_whole() -> None:
    baseline = BaselineImport(kind="import", checkpoint="a.pt", sha256="1" * 64)
    base = BASE.model_copy(update={"baseline": baseline})
    assert to_trial({"w_bits": 4}, base).baseline == baseline


@pytest.mark.parametrize("bits", [0, 1.5, 64, "four"])
@pytest.mark.parametrize("name", ["w_bits", "a_bits"])
def test_illegal_bit_widths_are_refused_in_one_line(name: str, bits: object) -> None:
    rule = "bits must be one of 1, 2, 3, 4, " if isinstance(bits, int) else "must be a whole number"
    with pytest.raises(ConfigError, match=f"^space.{name}: '?{bits}'?: {rule}") as caught:
        space(**{name: [bits]}).check(BASE)
    assert "\n" not in str(caught.value)


def test_every_legal_number_of_bits_passes() -> None:
    space(**{"w_bits.all": [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32]}).check(BASE)
    space(**{"a_bits.all": [1, 2, 3, 4, 5, 6, 7, 8, 16, 32]}).check(BASE)
    with pytest.raises(ConfigError, match=r"^space.a_bits.all: 12: bits must be one of"):
        space(**{"a_bits.all": [8, 12]}).check(BASE)


@pytest.mark.parametrize("prune_frac", [1.0, 1.5, -0.1])
def test_illegal_prune_fractions_are_refused_in_one_line(prune_frac: float) -> None:
    for parameter in ([0.5, prune_frac], {"low": min(0.0, prune_frac), "high": max(0.0, prune_frac), "step": 0.1}):
        with pytest.raises(
            ConfigError, match=r"^space.prune_frac: .*: must be (less than 1|at least 0|between 0 and 1)"
        ) as caught:
            space(prune_frac=parameter).check(BASE)
        assert "\n" not in str(caught.value)


def test_a_legal_space_passes() -> None:
    SMALL.check(BASE)
    space(prune_frac=[0, 0.999], w_bits={"low": 2, "high": 8}, a_bits=[8]).check(BASE)


def test_a_point_needs_a_legal_value_of_every_parameter_and_no_place_on_the_grid() -> None:
    SMALL.check_point({"w_bits": 5, "a_bits": 6, "prune_frac": 0.123}, BASE)
    SMALL.check_point(SMALL.point(3), BASE)
    for point, expected in [
        ({"w_bits": 5, "a_bits": 6}, "prune_frac is missing"),
        ({"w_bits": 5, "a_bits": 6, "prune_frac": 0.1, "seed": 1}, "'seed' is no parameter of the space"),
        ({"w_bits": 5, "a_bits": 6, "prune_frac": 1.0}, "prune_frac: 1.0: must be less than 1"),
    ]:
        with pytest.raises(ConfigError, match=f"{expected}"):
            SMALL.check_point(point, BASE)


def test_an_illegal_point_is_infeasible() -> None:
    with pytest.raises(InfeasiblePoint, match=r"^64: bits must be one of 1, 2, .*, 32 \(32 = untouched\)$"):
        to_trial({"w_bits": 64}, BASE)
    with pytest.raises(InfeasiblePoint):
        to_trial({"prune_frac": math.nan}, BASE)


CONDITIONAL = space(
    prune_frac=[0, 0.3, 0.6],
    importance={"of": ["l1", "bn_taylor"], "when": {"prune_frac": [0.3, 0.6]}},
    w_bits=[2, 8],
    sparsity={"of": {"low": 0, "high": 0.5, "step": 0.25}, "when": {"importance": ["l1"], "w_bits": [8]}},
)


def test_conditional_parameters_exist_where_their_condition_holds() -> None:
    grid = list(CONDITIONAL.grid())
    assert len(grid) == CONDITIONAL.size == 2 + 2 * (2 + 1 + 3)
    assert [CONDITIONAL.point(i) for i in range(len(grid))] == grid
    assert all(("importance" in p) == (p["prune_frac"] > 0) for p in grid)
    assert all(("sparsity" in p) == (p.get("importance") == "l1" and p["w_bits"] == 8) for p in grid)
    assert all(CONDITIONAL.contains(p) for p in grid)
    assert CONDITIONAL.contains({"prune_frac": 0, "w_bits": 2})
    assert not CONDITIONAL.contains({"prune_frac": 0, "importance": "l1", "w_bits": 2})
    assert not CONDITIONAL.contains({"prune_frac": 0.3, "w_bits": 2})


def test_conditions_on_parameters_of_many_values_are_counted_by_cases() -> None:
    """Three parameters of 500 values decide: walking through their combinations would take hours."""
    fine = {"low": 0.001, "high": 0.5, "step": 0.001}
    two = {"of": [32, 64], "when": {"ft_lr": [0.002], "sparsify_lr": [0.002, 0.003], "qat_lr": [0.5]}}
    large = space(ft_lr=fine, sparsify_lr=fine, qat_lr=fine, qat_batch_size=two, w_bits=[4, 8])
    assert large.size == 2 * (500**3 + 2)
    assert large.point(0) == {"ft_lr": 0.001, "sparsify_lr": 0.001, "qat_lr": 0.001, "w_bits": 4}
    last = {"ft_lr": 0.5, "sparsify_lr": 0.5, "qat_lr": 0.5, "w_bits": 8}
    assert large.point(large.size - 1) == last
    place = 2 * (500**2 + 500 + 499)
    assert [large.point(place + i).get("qat_batch_size") for i in (-1, 0, 1, 2, 3, 4)] == [None, 32, 32, 64, 64, None]


def test_corners_of_a_conditional_space_are_points_of_it() -> None:
    corners = CONDITIONAL.corners(0)
    assert len(corners) == 2 + 2 + 1 + 2
    assert all(CONDITIONAL.contains(c) for c in corners)
    never = space(prune_frac=[0, 0.3, 0.6], importance={"of": ["l1"], "when": {"prune_frac": [0.3]}})
    assert never.corners(0)
    assert all(set(c) == {"prune_frac"} for c in never.corners(0))


def test_a_conditional_space_reads_back_as_written() -> None:
    again = SearchSpace.model_validate_json(CONDITIONAL.model_dump_json())
    assert again == CONDITIONAL
    assert list(again.root) == list(CONDITIONAL.root)


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"w_bits": [8]}, "importance depends on w_bits: a parameter of that name must stand before it"),
        ({"prune_frac": [0.4]}, "importance depends on prune_frac = 0.4, which is none of its values"),
        ({}, "at least 1 item"),
    ],
)
def test_a_condition_names_earlier_parameters_and_their_values(when: object, words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        space(prune_frac=[0, 0.3], importance={"of": ["l1"], "when": when}, w_bits=[8])


def test_a_point_leaves_out_what_depends_on_other_values() -> None:
    with pytest.raises(ConfigError, match="'importance' depends on parameters with other values"):
        CONDITIONAL.check_point({"prune_frac": 0, "importance": "l1", "w_bits": 2}, BASE)
    with pytest.raises(ConfigError, match="importance is missing"):
        CONDITIONAL.check_point({"prune_frac": 0.3, "w_bits": 2}, BASE)
