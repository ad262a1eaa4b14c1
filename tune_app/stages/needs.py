"""Stage needs: which stages the configurations of a space need, and how many of them the rest of a budget will."""

import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from search_spaces.rungs import at_rung
from trainables.config import TrialConfig, trial_key
from tune_app.ledger.ledger import Params, Place
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.epochs import stages_by_key
from tune_app.terminal.progress import counted

SAMPLE = 2_000
"""Points of a larger space that a plan counts; more: a surer plan that takes longer."""
SEED = 0
"""The sample is the same each time, so that a plan is."""


@dataclass(frozen=True)
class Configurations:
    """The distinct configurations of a space and its given points by key, or of a sample of it."""

    by_key: Mapping[str, TrialConfig]
    total: int
    sampled: bool


@dataclass(frozen=True)
class StageNeed:
    """A stage that some configuration needs."""

    key: str
    kind: str
    rung: str
    """The rung of a last stage; empty for one that other stages start from, which all rungs share."""
    uses: Counter[str] = field(default_factory=Counter)
    """Configurations that need it and were not tried yet, by rung."""


@dataclass(frozen=True)
class Remainder:
    """What a search has still to do: trials that are left, and configurations to draw them from, by rung."""

    left: Mapping[str, int]
    untried: Mapping[str, int]
    sampled: bool

    def expected(self, needs: Iterable[StageNeed]) -> float:
        """Returns how many of these stages the trials need that are left, if they draw at random."""
        return math.fsum(max((self._chance(need, rung) for rung in need.uses), default=0.0) for need in needs)

    def _chance(self, need: StageNeed, rung: str) -> float:
        """Returns the chance that a draw hits one of the uses; higher rungs draw from what lower ones drew."""
        left, untried, uses = self.left[rung], self.untried[rung], need.uses[rung]
        if uses == 0:
            return 0.0
        if not self.sampled:
            draws = min(left, untried)
            return 1 - math.comb(untried - uses, draws) / math.comb(untried, draws)
        if need.rung:  # it stands for those of configurations outside the sample
            return left / untried
        return 1 - (1 - uses / untried) ** left


def configurations(spec: ExperimentSpec, fingerprint: str) -> Configurations:
    """Lists every configuration of a spec with its full schedule; of a space above SAMPLE points a seeded sample.

    Raises:
        InfeasiblePoint: a point gives no legal configuration.
    """
    size = spec.space.size
    points = [*spec.points, *(_sample(spec) if size > SAMPLE else spec.space.grid())]
    found: dict[str, TrialConfig] = {}
    for point in counted(points, "listing configurations, points", total=len(points)):
        config = spec.trial(point)
        found[trial_key(config, fingerprint=fingerprint)] = config
    return Configurations(found, total=size if size > SAMPLE else len(found), sampled=size > SAMPLE)


def stage_needs(
    spec: ExperimentSpec, configs: Configurations, fingerprint: str, tried: Collection[Place]
) -> list[StageNeed]:
    """Lists the distinct stages of configurations at every rung of the spec, in the order of the pipeline.

    `configs` have their full schedule, `fingerprint` is of the data, `tried` are the places that have a record.
    """
    needs: dict[str, StageNeed] = {}
    for config_key, full in counted(configs.by_key.items(), "counting stages, points", total=len(configs.by_key)):
        for name, rung in spec.rungs.items():
            stages = stages_by_key(at_rung(full, rung), fingerprint=fingerprint)
            last = next(reversed(stages))
            for key, stage in stages.items():
                need = needs.setdefault(key, StageNeed(key, stage.kind, name if key == last else ""))
                need.uses[name] += (config_key, name) not in tried
    return list(needs.values())


def _sample(spec: ExperimentSpec) -> list[Params]:
    draw, places = random.Random(SEED), set[int]()
    while len(places) < SAMPLE:
        places.add(draw.randrange(spec.space.size))
    return [spec.space.point(place) for place in sorted(places)]
