"""The points that a proposal chooses from."""

import numpy as np
import pytest

from search_spaces.rungs import FULL
from search_spaces.space import SearchSpace
from tests.tune_app.factories import make_steps
from tune_app.search.candidates import FRESH, MOST, Candidates
from tune_app.search.keys import coordinates

SMALL = SearchSpace.model_validate({"prune_frac": [0, 0.3], "w_bits": [2, 4, 8], "a_bits": [4, 8]})
LARGE = SearchSpace.model_validate(
    {"prune_frac": {"low": 0.0, "high": 0.999, "step": 0.001}, "w_bits": [2, 3, 4, 6, 8], "a_bits": [4, 8]}
)
BEST = {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}


def candidates(space: SearchSpace) -> Candidates:
    return Candidates(space, make_steps, np.random.default_rng(0))


def test_a_small_space_is_there_as_a_whole_and_stays() -> None:
    found = candidates(SMALL)
    found.renew(list(found)[:2], ())
    found.look_near(BEST)
    assert found.next_of_all(lambda point: True) == []
    assert [candidate.params for candidate in found] == list(SMALL.grid())


def test_a_candidate_knows_its_features_and_its_steps() -> None:
    last = list(candidates(SMALL))[-1]
    assert last.row.tolist() == [1.0, 1.0, 1.0]
    assert last.steps == make_steps(last.params, FULL)


def test_of_a_large_space_there_is_a_sample_and_what_lies_near_a_good_point() -> None:
    found = candidates(LARGE)
    assert len(list(found)) <= MOST
    found.look_near(BEST)
    points = [candidate.params for candidate in found]
    for near in ({"prune_frac": 0.501}, {"prune_frac": 0.499}, {"w_bits": 3}, {"w_bits": 6}, {"a_bits": 4}):
        assert {**BEST, **near} in points


@pytest.mark.parametrize("kept", [3, MOST])
def test_the_best_stay_and_a_few_others_are_drawn(kept: int) -> None:
    found = candidates(LARGE)
    for value in np.linspace(0.0, 0.999, 300).round(3):
        found.look_near({**BEST, "prune_frac": float(value)})
    *best, busy = list(found)[::-1][: kept + 1]
    found.renew(best, {busy.point})
    after = list(found)
    assert after[: 1 + min(kept, MOST - FRESH)] == [busy, *best[: MOST - FRESH]]
    assert 0 < len(after) - 1 - min(kept, MOST - FRESH) <= FRESH


def test_a_walk_finds_every_open_point_once() -> None:
    found, few = candidates(LARGE), {coordinates({**BEST, "prune_frac": p}) for p in (0.1, 0.2, 0.3)}
    met = [found.next_of_all(lambda point: point in few) for _ in range(4)]
    assert {candidate.point for each in met for candidate in each} == few
    assert [len(each) for each in met] == [1, 1, 1, 0]
