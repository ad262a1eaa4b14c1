from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from search_spaces.parameters import MAX_VALUES, Choices, Parameter, Range


def parse(value: object) -> Range | Choices:
    parameter: Range | Choices = TypeAdapter(Parameter).validate_python(value)
    return parameter


@pytest.mark.parametrize(
    ("given_range", "values"),
    [
        ({"low": 0, "high": 0.6, "step": 0.1}, (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)),
        ({"low": 0.1, "high": 0.3, "step": 0.1}, (0.1, 0.2, 0.3)),
        ({"low": 0, "high": 0.7, "step": 0.05}, tuple(i / 20 for i in range(15))),
        ({"low": 2, "high": 8}, (2, 3, 4, 5, 6, 7, 8)),
        ({"low": 2, "high": 8, "step": 2}, (2, 4, 6, 8)),
        ({"low": 2, "high": 7, "step": 2}, (2, 4, 6)),
        ({"low": 4, "high": 4}, (4,)),
        ({"low": 0.5, "high": 0.5}, (0.5,)),
        ({"low": -0.2, "high": 0.2, "step": 0.2}, (-0.2, 0.0, 0.2)),
        ({"low": 0.25, "high": 0.3, "step": 1}, (0.25,)),
    ],
)
def test_a_range_is_the_grid_that_was_written(given_range: dict[str, float], values: tuple[float, ...]) -> None:
    found = parse(given_range)
    assert found.values == values
    assert [type(v) for v in found.values] == [type(v) for v in values]
    assert found.ordered


@given(st.integers(-1000, 1000), st.integers(1, 200), st.integers(0, 300), st.integers(0, 4))
def test_a_range_has_no_rounding_errors(low: int, step: int, count: int, places: int) -> None:
    unit = Decimal(1).scaleb(-places)
    expected = [(low + i * step) * unit for i in range(count + 1)]
    found = Range(low=float(expected[0]), high=float(expected[-1]), step=float(step * unit))
    assert list(found.values) == [float(v) for v in expected]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"low": 1, "high": 0}, "low <= high must hold, but got low 1 and high 0"),
        ({"low": 0, "high": 1, "step": 0}, "greater than or equal"),
        ({"low": 0, "high": 1, "step": -0.1}, "greater than or equal"),
        ({"low": 0, "high": 1, "step": 1e-12}, "greater than or equal"),
        ({"low": float("nan"), "high": 1}, "finite"),
        ({"low": 0, "high": float("inf")}, "finite"),
        ({"low": 0, "high": 1, "step": float("nan")}, "finite|greater"),
        ({"low": 0, "high": MAX_VALUES}, "at most 10,000 values"),
        ({"low": 0, "high": 1, "step": 1e-5}, "at most 10,000 values"),
        ({"low": 0, "high": 10**400}, "less than or equal"),
        ({"low": -(10**400), "high": 0.5}, "greater than or equal"),
        ({"low": 0}, "high"),
        ({"low": "a", "high": "b"}, "valid"),
        ({"low": 0, "high": 1, "log": True}, "Extra inputs"),
        ([], "must not be empty"),
        ([1, 1], "must differ"),
        ([4, 4.0], "must differ"),
        ([0.1, float("nan")], "finite"),
        ([0.1, float("inf")], "finite"),
        (["0"], "'0' is text: write it without quotes"),
        (["l1", "1e-3"], "'1e-3' is text"),
        (["nan"], "'nan' is text"),
        ([None], "valid"),
        ([[1]], "valid"),
        (list(range(MAX_VALUES + 1)), "at most 10,000 values may be listed, but got 10,001"),
        (3, "valid tuple"),
        ("a", "valid tuple"),
        (None, "valid tuple"),
    ],
)
def test_illegal_parameters_are_refused(value: object, expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        parse(value)


def test_the_largest_range_is_legal() -> None:
    assert len(Range(low=1, high=MAX_VALUES).values) == MAX_VALUES


def test_a_list_of_numbers_is_sorted_and_ordered() -> None:
    found = parse([8, 2, 4])
    assert found.values == (2, 4, 8)
    assert found.ordered


def test_a_list_of_names_keeps_its_order() -> None:
    found = parse(["b", "a"])
    assert found.values == ("b", "a")
    assert not found.ordered
    assert not parse(["b", 1]).ordered


def test_numbers_keep_their_kind() -> None:
    assert [type(v) for v in parse([2, 0.5, "x"]).values] == [int, float, str]


def test_parameters_survive_json() -> None:
    adapter = TypeAdapter(Parameter)
    for value in ({"low": 0, "high": 0.6, "step": 0.1}, [2, 4, 8], ["a", "b"], [0.0, 0.5]):
        found = parse(value)
        assert adapter.validate_json(adapter.dump_json(found)) == found


def test_equal_numbers_keep_their_kind() -> None:
    for listed in ((8, 4), (8.0, 4.0), (8, 4.0), (8.0, 4)):
        assert list(map(type, Choices(listed).values)) == list(map(type, reversed(listed)))
