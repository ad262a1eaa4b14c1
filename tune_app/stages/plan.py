"""Plan: what a search would run and what that takes, told before anything runs. Nothing is written.

Seconds and bytes are medians of what the experiment's stage cache holds. Which points a sampler will choose is
unknown: the rest of the budget is taken to draw new points at random.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from search_spaces.rungs import at_rung
from trainables.config import Frozen, stage_of_kind
from trainables.data.needs import ImageNeeds, image_needs
from trainables.errors import ConfigError
from trainables.stages.cache import StageCache
from trainables.stages.files import StageEntry
from trainables.storage import exists, files_by_folder
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.reading import read_records
from tune_app.ledger.versions import refuse_other_versions
from tune_app.spec.experiment import BEST, ExperimentSpec
from tune_app.stages.needs import Remainder, StageNeed, configurations, stage_needs
from tune_app.terminal.progress import doing

NOT_DECODED = "not decoded"
"""Stands for the fingerprint of images that nobody decoded on this machine; no stage is named after it."""


class RungPlan(Frozen):
    """One rung, until the budget of trials is spent."""

    name: str
    epochs: int = Field(description="of quantization-aware training; 0: after training only")
    trials: int = Field(description="in all; below the full schedule as many as the sampler may ask for")
    done: int


@dataclass(frozen=True)
class Typical:
    """Medians over the stages that a cache holds.

    `rung_of` gives the rung of last stages by key, `epochs` the epochs of quantization-aware training by rung.
    """

    entries: Sequence[StageEntry]
    rung_of: Mapping[str, str]
    epochs: Mapping[str, int]

    def seconds(self, kind: str, rung: str = "") -> float | None:
        """Returns the seconds of a stage of this kind, of this rung if it ends a trial; None where none is known.

        A rung of training without a stage of its own takes what the others take per epoch.
        """
        made = [e for e in self.entries if e.kind == kind and not e.failed]
        own = [e.seconds for e in made if self.rung_of.get(e.key, "") == rung]
        if own or not stage_of_kind(kind).SCHEDULE:
            return _median(own)
        rates = [e.seconds / epochs for e in made if (epochs := self.epochs.get(self.rung_of.get(e.key, ""), 0))]
        rate = _median(rates)
        return None if rate is None else rate * self.epochs[rung]

    def bytes(self, kind: str) -> float | None:
        """Returns the bytes on disk of a stage of this kind; None: there is none to judge by."""
        return _median([float(e.size_bytes) for e in self.entries if e.kind == kind and not e.failed])


class StagePlan(Frozen):
    """Stages of one kind; those that end a trial are told apart by rung."""

    kind: str
    rung: str = Field(description="empty for stages that all rungs share")
    distinct: int = Field(description="stages that the counted configurations need")
    cached: int = Field(description="of these")
    to_make: float = Field(description="expected for the rest of the budget")
    seconds_each: float | None = Field(description="null: nobody has measured one")
    bytes_each: float | None

    @property
    def label(self) -> str:
        """The name of these stages: `qat@short`, or the kind alone."""
        return f"{self.kind}@{self.rung}" if self.rung else self.kind


class Plan(Frozen):
    """What a search has and what it still takes; the sums leave out the stages in `unknown`."""

    name: str
    points: int = Field(description="of the space")
    counted: int = Field(description="distinct configurations that the stages are counted over")
    sampled: bool = Field(description="these are a sample of the space")
    trials: int = Field(description="of the budget, at the full schedule")
    done: int
    search: str = Field(description="which sampler chooses the points, and why so")
    rungs: tuple[RungPlan, ...] = Field(description="cheapest first")
    stages: tuple[StagePlan, ...]
    unknown: tuple[str, ...] = Field(description="stages to be made that nobody has measured")
    seconds: float = Field(description="that stages to be made take, all workers together")
    stages_bytes: int = Field(description="on disk now")
    artifacts_bytes: int = Field(description="on disk now")
    more_stages_bytes: float
    more_artifacts_bytes: float | None = Field(description="null: there is no artifact yet to judge by")
    repeats: bool = Field(description="further runs of frontier points follow, which nothing here counts")
    images: ImageNeeds | None = Field(None, description="null: the data set is not on this machine")


def read_plan(spec: ExperimentSpec) -> Plan:
    """Plans a spec by what its experiment holds, if there is one; else the data set is loaded.

    Raises:
        ConfigError: the data set cannot be loaded, or the experiment of this name has another base or results of
            other versions of plug-ins.
        CorruptFile: the stored spec or baseline is damaged.
        StorageUnavailable: a file cannot be read.
    """
    folder = ExperimentFolder(spec.folder)
    if exists(folder.spec_file) and folder.read_spec().base.identity() != spec.base.identity():
        raise ConfigError(f"{folder.path} holds an experiment with another base: give this spec another name.")
    baseline, records = read_baseline(folder), read_records(folder)
    refuse_other_versions(records, spec)
    images = _image_needs(spec, needed=baseline is None)
    plan = make_plan(
        spec,
        fingerprint=_fingerprint(spec, images) if baseline is None else baseline.fingerprint,
        entries=StageCache(folder.stages).entries(),
        records=records,
        artifacts=[sum(file.size_bytes for file in files) for files in files_by_folder(folder.artifacts).values()],
    )
    return plan.model_copy(update={"images": images})


def make_plan(
    spec: ExperimentSpec,
    *,
    fingerprint: str,
    entries: Sequence[StageEntry] = (),
    records: Sequence[TrialRecord] = (),
    artifacts: Sequence[int] = (),
) -> Plan:
    """Plans a spec by the fingerprint of its data, the entries of its stage cache, its newest records and artifacts.

    Of each configuration and rung there is one record; `artifacts` are the bytes of what each trial left.

    Raises:
        InfeasiblePoint: a point gives no legal configuration.
    """
    tried = {r.assignment.place for r in records}
    configs = configurations(spec, fingerprint)
    needs = stage_needs(spec, configs, fingerprint, tried)
    rungs = _rung_plans(spec, configs.total, records)
    rest = Remainder(
        left=_left(rungs),
        untried={rung.name: sum((key, rung.name) not in tried for key in configs.by_key) for rung in rungs},
        sampled=configs.sampled,
    )
    # The records know last stages of points that are not counted.
    rung_of = {r.result.stages[-1].key: r.assignment.rung for r in records if r.result.stages}
    rung_of |= {need.key: need.rung for need in needs}
    typical = Typical(entries, rung_of, {rung.name: rung.epochs for rung in rungs})
    stages = _stage_plans(needs, rest, typical)
    return Plan(
        name=spec.name,
        points=spec.space.size,
        counted=len(configs.by_key),
        sampled=configs.sampled,
        trials=spec.budget.trials,
        done=rungs[-1].done,
        search=_search(spec),
        rungs=rungs,
        stages=stages,
        unknown=tuple(s.label for s in stages if s.to_make and s.seconds_each is None),
        seconds=math.fsum(s.to_make * (s.seconds_each or 0.0) for s in stages),
        stages_bytes=sum(entry.size_bytes for entry in entries),
        artifacts_bytes=sum(artifacts),
        more_stages_bytes=math.fsum(s.to_make * (s.bytes_each or 0.0) for s in stages),
        more_artifacts_bytes=sum(rest.left.values()) * statistics.median(artifacts) if artifacts else None,
        repeats=spec.repeats is not None,
    )


def _search(spec: ExperimentSpec) -> str:
    if spec.sampler.name != BEST:
        return spec.sampler.name
    parts = [f"{BEST}, by expected new hypervolume for a second of training"]
    if spec.fidelity is not None:
        rungs = ", ".join(rung.name for rung in spec.fidelity.rungs)
        parts.append(f"{rungs} first where that may spare a full trial")
    if spec.space.size <= spec.budget.trials:
        parts.append("all points run: the budget is for as many")
    return "; ".join(parts)


def _rung_plans(spec: ExperimentSpec, total: int, records: Sequence[TrialRecord]) -> tuple[RungPlan, ...]:
    """Plans from the full schedule down, as far as points reach.

    A rung has eta times the trials of the one above where points climb by rank; under a strategy of its own, which
    tries a point there where that may spare the full trial, as many at most: in `benchmarks/search` it is half of them.
    """
    done = Counter(r.assignment.rung for r in records if r.assignment.repeat == 0)
    eta = 1.0 if spec.fidelity is None or spec.sampler.is_strategy else spec.fidelity.eta
    plans: list[RungPlan] = []
    trials = min(spec.budget.trials, total)
    for name, rung in reversed(spec.rungs.items()):
        epochs = at_rung(spec.base, rung).quantize.planned_epochs
        plans.append(RungPlan(name=name, epochs=epochs, trials=trials, done=done[name]))
        trials = min(math.ceil(eta * trials - 1e-9), total)
    return tuple(reversed(plans))


def _left(rungs: Sequence[RungPlan]) -> dict[str, int]:
    """Counts the trials still to run by rung; none when the budget is spent."""
    spent = rungs[-1].done >= rungs[-1].trials
    return {rung.name: 0 if spent else max(0, rung.trials - rung.done) for rung in rungs}


def _stage_plans(needs: Iterable[StageNeed], rest: Remainder, typical: Typical) -> tuple[StagePlan, ...]:
    known = {entry.key for entry in typical.entries}
    groups: dict[tuple[str, str], list[StageNeed]] = defaultdict(list)
    for need in needs:
        groups[need.kind, need.rung].append(need)
    return tuple(
        StagePlan(
            kind=kind,
            rung=rung,
            distinct=len(group),
            cached=sum(need.key in known for need in group),
            to_make=rest.expected(need for need in group if need.key not in known),
            seconds_each=typical.seconds(kind, rung),
            bytes_each=typical.bytes(kind),
        )
        for (kind, rung), group in sorted(groups.items(), key=lambda item: item[0][1] != "")
    )


def _image_needs(spec: ExperimentSpec, *, needed: bool) -> ImageNeeds | None:
    """Returns what the images take; None where the data set is not here and not `needed`: its fingerprint is known."""
    try:
        with doing("looking for images"):
            return image_needs(spec.base.data)
    except ConfigError:
        if needed:
            raise
        return None


def _fingerprint(spec: ExperimentSpec, images: ImageNeeds | None) -> str:
    """Returns the fingerprint of the data; none of images that must be decoded first, of which nothing is stored."""
    from trainables.data.data_sets import load_data

    if images is not None and images.disk_bytes and not images.decoded:
        return NOT_DECODED
    with doing("loading data"):
        return load_data(spec.base.data).fingerprint


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
