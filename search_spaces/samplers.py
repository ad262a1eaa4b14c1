"""SAMPLERS by name: Optuna's, two that walk the grid, and strategies of their own (optuna is imported on use)."""

import functools
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search_spaces.parameters import Parameter, Value, is_active
from search_spaces.space import SearchSpace
from trainables.registry import Registry

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import Trial

MAX_ASKS = 30
"""Proposals in a row that may be repeats before a random new point is taken instead.

More: the sampler finds its own way out of a space that is nearly exhausted; fewer: the driver waits less for it.
"""
MAX_SHUFFLED = 1_000_000
"""Indices that a shuffled walk holds in memory, some tens of MB; no budget comes near to so many trials."""


@dataclass(frozen=True)
class Sampler:
    """One way to search, as the registry knows it.

    `make` is one of three: a function of a space and a seed that returns an Optuna sampler; one that returns an
    iterator of points, if the sampler `walks`; or a subclass of `tune_app.search.strategy.Strategy`.
    """

    make: Callable[..., Any]
    walks: bool = False
    """Whether it visits points in a fixed order and learns nothing."""
    asks: int = MAX_ASKS
    """Proposals in a row that may be repeats; small where one takes long."""

    @property
    def is_strategy(self) -> bool:
        """Whether it chooses point and rung together; the points of all others climb by their rank."""
        return hasattr(self.make, "suggest")


class Samplers(Registry[Sampler]):
    """The samplers by name; a bare function or class of a plug-in is looked up as a `Sampler` too."""

    def __getitem__(self, name: str) -> Sampler:
        found: Any = super().__getitem__(name)
        return found if isinstance(found, Sampler) else Sampler(found)


SAMPLERS = Samplers(
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


def tpe(space: SearchSpace, seed: int) -> "BaseSampler":
    """Makes a multivariate TPE; running trials count as bad ones, so that parallel proposals keep apart.

    Conditional parameters are modeled in groups: one model for each set of parameters that points have. The model
    begins after 8 trials, as many as three parameters have corners, which come first.
    """
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, multivariate=True, group=space.conditional, constant_liar=True, n_startup_trials=8)


def _of_optuna(name: str, **options: Any) -> Callable[[SearchSpace, int], "BaseSampler"]:
    """Returns a function of a space and a seed that makes one of Optuna's samplers, with these options."""

    def make(space: SearchSpace, seed: int) -> "BaseSampler":
        import optuna.samplers

        sampler: BaseSampler = getattr(optuna.samplers, name)(seed=seed, **options)
        return sampler

    return make


nsga2 = _of_optuna("NSGAIISampler", population_size=16)
"""NSGA-II, whose population of 16 fits budgets of tens of trials (Optuna's 50 is random below 50)."""
gp = Sampler(_of_optuna("GPSampler", n_startup_trials=8), asks=2)
"""Gaussian processes with expected hypervolume improvement: seconds of CPU a proposal, for long trials."""
quasi_random = _of_optuna("QMCSampler", scramble=True)
"""A scrambled Sobol sequence."""
uniform = _of_optuna("RandomSampler")
"""Independent uniform draws."""


@functools.partial(Sampler, walks=True)
def grid(space: SearchSpace, seed: int) -> Iterator[dict[str, Value]]:
    """Walks over every point in the order of the grid; the seed is not used."""
    return space.grid()


@functools.partial(Sampler, walks=True)
def shuffled_grid(space: SearchSpace, seed: int) -> Iterator[dict[str, Value]]:
    """Walks over every point in a seeded random order; of a huge space, the first MAX_SHUFFLED of that order."""
    draw, size = random.Random(seed), space.size
    if size <= sys.maxsize:
        yield from map(space.point, draw.sample(range(size), k=min(size, MAX_SHUFFLED)))
    else:  # hardly any two of so few are equal
        yield from (space.point(draw.randrange(size)) for _ in range(MAX_SHUFFLED))


def distribution(parameter: Parameter) -> "BaseDistribution":
    """Returns what Optuna sees of a parameter: the index of the value, so that no float is ever rounded."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    last = len(parameter.values) - 1
    return IntDistribution(0, last) if parameter.ordered else CategoricalDistribution(range(last + 1))


def suggest(trial: "Trial", space: SearchSpace) -> dict[str, Value]:
    """Asks an Optuna trial for a point, parameter by parameter."""
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
