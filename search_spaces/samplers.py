"""SAMPLERS by name: Optuna's, and two that walk the grid (optuna is imported on use)."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from search_spaces.parameters import Parameter, Value, is_active
from search_spaces.space import SearchSpace
from trainables.registry import Registry

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial


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
        "gp": "search_spaces.samplers:gp",
        "quasi_random": "search_spaces.samplers:quasi_random",
        "random": "search_spaces.samplers:uniform",
        "grid": "search_spaces.samplers:grid",
        "shuffled_grid": "search_spaces.samplers:shuffled_grid",
        "ehvi": "tune_app.search.ehvi:Ehvi",
    },
    group="tune_app.samplers",
)
SURROGATES = {"ehvi"}
"""Samplers that are a strategy (tune_app.search.strategy): they choose point and rung together."""
MAX_SHUFFLED = 1_000_000
ORDERS = {"grid", "shuffled_grid"}
"""Samplers that are an Order; the others build an Optuna sampler from a space and a seed."""
SLOW = {"gp"}
"""Samplers that take seconds of CPU for a proposal."""


def tpe(space: SearchSpace, seed: int) -> "BaseSampler":
    """Multivariate TPE; running trials count as bad ones, so that parallel proposals keep apart.

    In groups where parameters are conditional: one model for each set of parameters that points have.
    """
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, multivariate=True, group=space.conditional, constant_liar=True, n_startup_trials=8)


def nsga2(space: SearchSpace, seed: int) -> "BaseSampler":
    """NSGA-II with a population that fits budgets of tens of trials (Optuna's 50 is random below 50)."""
    from optuna.samplers import NSGAIISampler

    return NSGAIISampler(seed=seed, population_size=16)


def gp(space: SearchSpace, seed: int) -> "BaseSampler":
    """Gaussian processes with expected hypervolume improvement: seconds of CPU a proposal, for long trials."""
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed, n_startup_trials=8)


def quasi_random(space: SearchSpace, seed: int) -> "BaseSampler":
    """A scrambled Sobol sequence."""
    from optuna.samplers import QMCSampler

    return QMCSampler(seed=seed, scramble=True)


def uniform(space: SearchSpace, seed: int) -> "BaseSampler":
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


def suggest(trial: "Trial", space: SearchSpace) -> dict[str, Value]:
    """The point that an Optuna trial proposes, parameter by parameter."""
    point: dict[str, Value] = {}
    for name, parameter in space.root.items():
        if not is_active(parameter, point):
            continue
        last = len(parameter.values) - 1
        if parameter.ordered:
            place = trial.suggest_int(name, 0, last)
        else:
            place = trial.suggest_categorical(name, range(last + 1))
        point[name] = parameter.values[place]
    return point
