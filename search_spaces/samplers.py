"""SAMPLERS by name: Optuna's, and two that walk the grid (optuna is imported on use)."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from search_spaces.parameters import Parameter, Value
from search_spaces.space import SearchSpace
from trainables.registry import Registry

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler


class Order(Protocol):
    """A fixed walk over the space, for samplers that learn nothing."""

    def __call__(self, space: SearchSpace, seed: int) -> Iterator[dict[str, Value]]:
        """Points in the order in which they are to be tried."""
        ...


SAMPLERS: Registry[Any] = Registry(
    "sampler",
    {
        "tpe": "search_spaces.samplers:tpe",
        "nsga2": "search_spaces.samplers:nsga2",
        "random": "search_spaces.samplers:uniform",
        "grid": "search_spaces.samplers:grid",
        "shuffled_grid": "search_spaces.samplers:shuffled_grid",
    },
)
MAX_SHUFFLED = 1_000_000
ORDERS = {"grid", "shuffled_grid"}
"""Samplers that are an Order; the others build an Optuna sampler from a seed."""


def tpe(seed: int) -> "BaseSampler":
    """Multivariate TPE; running trials count as bad ones, so that parallel proposals keep apart."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=8)


def nsga2(seed: int) -> "BaseSampler":
    """NSGA-II with a population that fits budgets of tens of trials (Optuna's 50 is random below 50)."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed, population_size=16)


def uniform(seed: int) -> "BaseSampler":
    """Independent uniform draws."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)


def grid(space: SearchSpace, seed: int) -> Iterator[dict[str, Value]]:
    """Every point, in the order of the grid; the seed is not used."""
    return space.grid()


def shuffled_grid(space: SearchSpace, seed: int) -> Iterator[dict[str, Value]]:
    """Every point once, in a seeded random order; of a huge space, the first MAX_SHUFFLED of that order."""
    for index in random.Random(seed).sample(range(space.size), k=min(space.size, MAX_SHUFFLED)):
        yield space.point(index)


def distribution(parameter: Parameter) -> "BaseDistribution":
    """What Optuna sees of a parameter: the index of the value, so that no float is ever rounded."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    last = len(parameter.values) - 1
    return IntDistribution(0, last) if parameter.ordered else CategoricalDistribution(range(last + 1))
