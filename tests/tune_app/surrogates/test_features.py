"""What a surrogate sees of a point."""

import pytest

from search_spaces.space import SearchSpace
from tune_app.surrogates.features import features

PLAIN = SearchSpace.model_validate({"prune_frac": [0, 0.3, 0.6], "importance": ["l1", "l2"], "w_bits": [4]})
CONDITIONAL = SearchSpace.model_validate(
    {"prune_frac": [0, 0.3], "importance": {"of": ["l1", "l2"], "when": {"prune_frac": [0.3]}}}
)


def test_ordered_parameters_are_places_and_names_are_flags() -> None:
    rows = features(PLAIN, list(PLAIN.grid()))
    assert rows.tolist() == [
        [p, float(i == "l1"), float(i == "l2"), 0.0] for p in (0.0, 0.5, 1.0) for i in ("l1", "l2")
    ]


def test_a_parameter_that_is_not_there_is_flagged() -> None:
    points = [
        {
            "prune_frac": 0,
        },
        {"prune_frac": 0.3, "importance": "l2"},
    ]
    assert features(CONDITIONAL, points).tolist() == [[0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0, 0.0]]


@pytest.mark.parametrize("points", [[{"prune_frac": 0}], [{"prune_frac": 0.3, "importance": "l1"}]])
def test_the_number_of_columns_is_that_of_the_space(points: list[dict[str, float | int | str]]) -> None:
    assert features(CONDITIONAL, points).shape == (1, 5)


@pytest.mark.parametrize(("value", "place"), [(0.15, 0.25), (0.45, 0.75), (-1, 0.0), (0.9, 1.0), (0.3, 0.5)])
def test_a_number_that_is_none_of_the_values_lies_between_its_neighbors(value: float, place: float) -> None:
    [row] = features(PLAIN, [{"prune_frac": value, "importance": "l1", "w_bits": 4}])
    assert row[0] == pytest.approx(place)
