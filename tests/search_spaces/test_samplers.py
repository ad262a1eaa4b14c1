import warnings
from typing import Any

import pytest

from search_spaces.samplers import (
    MAX_SHUFFLED,
    SAMPLERS,
    distribution,
    grid,
    shuffled_grid,
    suggest,
)
from search_spaces.space import SearchSpace

SPACE = SearchSpace.model_validate({"prune_frac": [0, 0.3, 0.5], "w_bits": [2, 4, 8], "a_bits": [4, 8]})


OPTUNAS = [n for n in SAMPLERS.names() if not SAMPLERS[n].walks and not SAMPLERS[n].is_strategy]
CONDITIONAL = SearchSpace.model_validate(
    {
        "prune_frac": [0, 0.3, 0.5],
        "importance": {"of": ["l1", "bn_taylor"], "when": {"prune_frac": [0.3, 0.5]}},
        "w_bits": [2, 4, 8],
    }
)


def build(name: str, seed: int, space: SearchSpace = SPACE) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna marks some options as experimental
        return SAMPLERS[name].make(space, seed)


def test_every_sampler_is_a_walk_or_optunas_or_a_strategy() -> None:
    from optuna.samplers import BaseSampler

    named = {"ehvi", "tpe", "nsga2", "gp", "quasi_random", "random", "grid", "shuffled_grid"}
    assert set(SAMPLERS.names()) == named
    for name in SAMPLERS.names():
        sampler = SAMPLERS[name]
        if sampler.walks:
            assert len(list(sampler.make(SPACE, 0))) == SPACE.size
        else:
            assert sampler.is_strategy or isinstance(build(name, 0), BaseSampler)
    assert [name for name in SAMPLERS.names() if SAMPLERS[name].is_strategy] == ["ehvi"]


@pytest.mark.parametrize("space", [SPACE, CONDITIONAL], ids=["plain", "conditional"])
@pytest.mark.parametrize("name", OPTUNAS)
def test_optunas_samplers_follow_their_seed(name: str, space: SearchSpace) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def points(seed: int) -> list[dict[str, Any]]:
        study = optuna.create_study(sampler=build(name, seed, space), directions=["maximize", "minimize"])
        found = []
        for _ in range(12):
            trial = study.ask()
            found.append(suggest(trial, space))
            study.tell(trial, [sum(trial.params.values()), trial.params["w_bits"]])
        return found

    assert points(1) == points(1)
    assert points(1) != points(2)
    assert all(space.contains(point) for point in points(1))


def test_the_grid_is_walked_in_order() -> None:
    assert list(grid.make(SPACE, 0)) == list(grid.make(SPACE, 1)) == list(SPACE.grid())


def test_the_shuffled_grid_meets_every_point_once() -> None:
    def key(point: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(point.values())

    found = list(shuffled_grid.make(SPACE, 0))
    assert sorted(map(key, found)) == sorted(map(key, SPACE.grid()))
    assert found != list(SPACE.grid())
    assert found == list(shuffled_grid.make(SPACE, 0))
    assert found != list(shuffled_grid.make(SPACE, 1))


def test_a_huge_shuffled_grid_begins_at_once() -> None:
    thousand = {"low": 0, "high": 0.999, "step": 0.001}
    huge = SearchSpace.model_validate(dict.fromkeys(SPACE.root, thousand))
    order = shuffled_grid.make(huge, 0)
    first = [next(order) for _ in range(10)]
    assert len({tuple(p.values()) for p in first}) == 10
    assert huge.size > MAX_SHUFFLED


def test_optuna_sees_places_not_values() -> None:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    assert distribution(SPACE.root["w_bits"]) == IntDistribution(0, 2)
    names = SearchSpace.model_validate({"w_bits": ["b", "a"]}).root["w_bits"]
    assert distribution(names) == CategoricalDistribution((0, 1))
