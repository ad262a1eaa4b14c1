"""The points that a proposal chooses from."""

from typing import Any

import numpy as np
import pytest

from search_spaces.parameters import coordinates
from search_spaces.rungs import FULL
from search_spaces.space import SearchSpace
from tests.tune_app.factories import make_steps
from trainables.config import GROUPS
from tune_app.ledger.ledger import Params
from tune_app.search.candidates import FRESH, MOST, Candidates

SMALL = SearchSpace.model_validate({"prune_frac": [0, 0.3], "w_bits": [2, 4, 8], "a_bits": [4, 8]})
LARGE = SearchSpace.model_validate(
    {"prune_frac": {"low": 0.0, "high": 0.999, "step": 0.001}, "w_bits": [2, 3, 4, 6, 8], "a_bits": [4, 8]}
)
BEST = {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}


def key_of(params: Params, repeat: int = 0) -> str:
    return repr(coordinates(params))


def candidates(space: SearchSpace, **more: Any) -> Candidates:
    return Candidates(space, **{"key_of": key_of, "steps_of": make_steps, **more})


def test_a_small_space_is_there_as_a_whole_and_stays() -> None:
    found = candidates(SMALL)
    found.renew(list(found)[:2], ())
    found.look_near(BEST)
    assert found.next_of_all(lambda params, key: True) == []
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
    found.renew(best, {busy.key})
    after = list(found)
    assert after[: 1 + min(kept, MOST - FRESH)] == [busy, *best[: MOST - FRESH]]
    assert 0 < len(after) - 1 - min(kept, MOST - FRESH) <= FRESH


def test_a_walk_finds_every_open_point_once() -> None:
    found, few = candidates(LARGE), {key_of({**BEST, "prune_frac": p}) for p in (0.1, 0.2, 0.3)}
    met = [found.next_of_all(lambda params, key: key in few) for _ in range(4)]
    assert {candidate.key for each in met for candidate in each} == few
    assert [len(each) for each in met] == [1, 1, 1, 0]


def test_points_of_one_configuration_are_one_candidate() -> None:
    """Without pruning its criterion changes nothing."""
    space = SearchSpace.model_validate({"prune_frac": [0, 0.3], "importance": ["l1", "l2"], "w_bits": [4, 8]})

    def same(params: Params, repeat: int = 0) -> str:
        return key_of({name: v for name, v in params.items() if params["prune_frac"] or name != "importance"})

    assert len(list(candidates(space, key_of=same))) == 2 + 2 * 2


def test_named_points_stay_and_may_lie_beside_the_grid() -> None:
    named = [{**BEST, "prune_frac": 0.55555}, {**BEST, "w_bits": 5}]
    found = candidates(LARGE, named=named)
    found.renew(list(found)[-3:], ())
    assert [candidate.params for candidate in found][:2] == named
    assert named[1] in [candidate.params for candidate in candidates(SMALL, named=named[1:])]


def test_a_space_may_have_more_points_than_a_machine_word_counts() -> None:
    wide = {f"{kind}_bits.{group}": [2, 3, 4, 5, 6, 7, 8] for kind in "wa" for group in GROUPS}
    fine = {"low": 0.001, "high": 1.0, "step": 0.001}
    space = SearchSpace.model_validate({**wide, "qat_lr": fine, "ft_lr": fine})
    assert space.size > 2**63
    found = candidates(space)
    assert len(list(found)) == MOST // 2
    assert len(found.next_of_all(lambda params, key: True)) == 1
