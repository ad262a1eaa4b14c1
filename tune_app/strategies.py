"""open_strategy: which strategy a sampler's name stands for."""

from collections.abc import Mapping

from search_spaces.samplers import SURROGATES
from tune_app.search.bounds import Screen
from tune_app.search.ehvi import Ehvi
from tune_app.search.ladder import Ladder
from tune_app.search.rank_search import RankSearch
from tune_app.search.strategy import KeyOf, StepsOf, Strategy
from tune_app.spec.experiment import ExperimentSpec


def open_strategy(
    spec: ExperimentSpec,
    ladder: Ladder,
    *,
    key_of: KeyOf,
    steps_of: StepsOf,
    screen: Screen,
    reference: Mapping[str, float],
    finished: int,
) -> Strategy:
    """The strategy of the spec's sampler. `finished` records were there before: random draws do not start over."""
    if spec.sampler.name in SURROGATES:
        return Ehvi(spec, ladder, steps_of=steps_of, screen=screen, reference=reference)
    return RankSearch(spec, ladder, key_of=key_of, screen=screen, finished=finished)
