import itertools
import math
import time

import pytest
from pydantic import ValidationError

from search_spaces.space import FIELDS, MAX_CORNERS, SearchSpace, to_trial
from trainables.config import BaselineImport, BaselineTrain, ChannelPrune, PostTrainingQuant, Schedule, TrialConfig
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
    started = time.perf_counter()
    huge = SearchSpace.model_validate(dict.fromkeys(("prune_frac", "w_bits", "a_bits"), step))
    assert huge.size == 10**9
    assert huge.point(10**9 - 1) == {"prune_frac": 0.999, "w_bits": 0.999, "a_bits": 0.999}
    assert huge.point(123_456_789) == {"prune_frac": 0.123, "w_bits": 0.456, "a_bits": 0.789}
    assert len(huge.corners(0)) == 8
    assert next(huge.grid()) == {"prune_frac": 0, "w_bits": 0, "a_bits": 0}
    assert huge.contains(huge.point(77))
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, "must not be empty"),
        ({"w_bit": [2]}, "unknown parameter 'w_bit'; known: prune_frac, w_bits, a_bits; did you mean 'w_bits'?"),
        ({"seed": [1, 2]}, "unknown parameter 'seed'"),
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


def test_every_parameter_has_a_field() -> None:
    for name, path in FIELDS.items():
        content = BASE.model_dump()
        for part in path:
            content = content[part]
        assert isinstance(content, int | float), name


def test_an_imported_baseline_stays_whole() -> None:
    baseline = BaselineImport(kind="import", checkpoint="a.pt", sha256="1" * 64)
    base = BASE.model_copy(update={"baseline": baseline})
    assert to_trial({"w_bits": 4}, base).baseline == baseline


@pytest.mark.parametrize("bits", [0, 1, 1.5, 64, "four"])
@pytest.mark.parametrize("name", ["w_bits", "a_bits"])
def test_illegal_bit_widths_are_refused_in_one_line(name: str, bits: object) -> None:
    with pytest.raises(ConfigError, match=f"^space.{name}: '?{bits}'?: input should be") as caught:
        space(**{name: [bits]}).check(BASE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prune_frac", [1.0, 1.5, -0.1])
def test_illegal_prune_fractions_are_refused_in_one_line(prune_frac: float) -> None:
    for parameter in ([0.5, prune_frac], {"low": min(0.0, prune_frac), "high": max(0.0, prune_frac), "step": 0.1}):
        with pytest.raises(ConfigError, match=r"^space.prune_frac: .*: input should be (less|greater)") as caught:
            space(prune_frac=parameter).check(BASE)
        assert "\n" not in str(caught.value)


def test_a_legal_space_passes() -> None:
    SMALL.check(BASE)
    space(prune_frac=[0, 0.999], w_bits={"low": 2, "high": 8}, a_bits=[8]).check(BASE)


def test_an_illegal_point_is_infeasible() -> None:
    with pytest.raises(InfeasiblePoint, match=r"^64: input should be less than or equal to 8$"):
        to_trial({"w_bits": 64}, BASE)
    with pytest.raises(InfeasiblePoint):
        to_trial({"prune_frac": math.nan}, BASE)
