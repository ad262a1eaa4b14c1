"""What counts as the accuracy of chance."""

import pytest

from trainables.results import chance_limit


@pytest.mark.parametrize(("classes", "limit"), [(1_000, 0.0015), (10, 0.15), (6, 0.25), (5, 0.28), (3, 0.4), (2, 0.55)])
def test_a_network_of_few_classes_may_be_near_to_chance(classes: int, limit: float) -> None:
    assert chance_limit(classes) == pytest.approx(limit)
