"""ExperimentSpec: what one experiment is, checked."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cluster.config import ClusterConfig
from search_spaces.parameters import Value
from search_spaces.rungs import FULL, Rung, at_rung
from search_spaces.samplers import SAMPLERS
from search_spaces.space import SearchSpace, to_trial
from trainables.config import Frozen, QuantAwareTrain, TrialConfig
from trainables.errors import ConfigError, did_you_mean
from trainables.results import METRICS
from trainables.storage import StoragePath, storage_path
from tune_app.spec.trackers import TrackerConfig, written_out

MAX_TRIALS = 1_000_000
Direction = Literal["maximize", "minimize"]


class Constraint(Frozen):
    """A bound on a measured column, written as "accuracy >= 0.93"."""

    metric: str = Field(description="a measured column")
    sense: Literal["<=", ">="] = Field(description="which side of the bound is legal")
    bound: float = Field(description="a number in the column's unit")

    def violation(self, value: float) -> float:
        """How far a value is outside; zero or less means feasible."""
        return value - self.bound if self.sense == "<=" else self.bound - value

    def __str__(self) -> str:
        short = f"{self.bound:g}"
        return f"{self.metric} {self.sense} {short if float(short) == self.bound else self.bound}"

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, text: Any) -> Any:
        if not isinstance(text, str):
            return text
        match = re.fullmatch(r"\s*(\w+)\s*(<=|>=)\s*([-+.\deE]+)\s*", text)
        if match is None:
            raise ValueError(f'{text!r} is no bound; write it like "accuracy >= 0.93"')
        return {"metric": match[1], "sense": match[2], "bound": match[3]}

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        return _metric(name)


class SamplerConfig(Frozen):
    """Which sampler proposes points."""

    name: str = Field(default="tpe", description="of the sampler")
    seed: int = Field(default=0, ge=0, lt=2**31, description="of its random numbers")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return SAMPLERS.check(name)


class Fidelity(Frozen):
    """Cheaper trials first: what does well at a rung is tried again at the next, and at last in full."""

    rungs: tuple[Rung, ...] = Field(
        default=(Rung(name="ptq", qat_epochs=0),), min_length=1, description="rising in cost, below the full schedule"
    )
    eta: float = Field(default=3, ge=1, le=100, description="one of this many points of a rung earns the next")
    min_correlation: float = Field(
        default=0.3,
        ge=-1,
        le=1,
        description="a rung whose ranks agree less with the next one's is skipped",
    )
    batch: int = Field(
        default=8, ge=1, le=1000, description="points without training that one Ray trial tries, if they share a parent"
    )
    min_pairs: int = Field(default=12, ge=3, description="points at both rungs before their ranks are compared")

    @model_validator(mode="after")
    def _rising(self) -> "Fidelity":
        names = [rung.name for rung in self.rungs]
        if FULL in names or len(set(names)) < len(names):
            raise ValueError(f"rungs have different names, none of them {FULL!r}, but got {names}")
        epochs = [rung.qat_epochs for rung in self.rungs]
        if epochs != sorted(set(epochs)):
            raise ValueError(f"qat_epochs must rise from rung to rung, but got {epochs}")
        return self


class Stagnation(Frozen):
    """A search that no longer finds anything: the hypervolume stands still."""

    trials: int = Field(default=30, ge=1, le=MAX_TRIALS, description="trials of the full schedule to look back on")
    gain: float = Field(default=0.001, ge=0, lt=1, description="a smaller share of growth over them ends the search")


class Budget(Frozen):
    """When a search is done: no new trial starts when the first of these is spent; what runs is finished."""

    trials: int = Field(
        ge=1, le=MAX_TRIALS, description="distinct configurations with a record of the full schedule, of any state"
    )
    wall_s: float | None = Field(default=None, gt=0, description="seconds of one run of the command; null: no limit")
    training_s: float | None = Field(
        default=None,
        gt=0,
        description="seconds that stages of all trials took, without what the cache answered or a warm start brought",
    )
    stagnation: Stagnation | None = Field(default=None, description="null: goes on however little it finds")
    failed_share: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="a larger share of trials that end badly, after ten, ends the search (exit code 4); "
        "accuracy at chance and parameters without a legal network are answers and do not count",
    )


class Repeats(Frozen):
    """More runs, with other random numbers, of points that may be on the frontier; they start after the trials."""

    seeds: int = Field(default=3, ge=2, le=100, description="runs of a point in all, its first one included")
    min_probability: float = Field(
        default=0.05, ge=0, le=1, description="a point that is less likely on the frontier gets no further run"
    )


class Resources(Frozen):
    """What one trial holds while it runs."""

    cpu: float = Field(default=1, gt=0, le=4096, description="cores, and threads of torch")
    gpu: Annotated[float, Field(ge=0, le=64)] | Literal["auto"] = Field(
        default=0.0,
        description="may be a fraction: 0.25 puts four trials on a GPU; auto: as many as the memory allows that the "
        "first trial of each rung took",
    )
    compile: bool = Field(default=False, description="compile networks before training: minutes, once per shape")

    @property
    def gpu_at_first(self) -> float:
        """What the baseline and the first trial of each rung hold."""
        return 1.0 if self.gpu == "auto" else self.gpu


class EpochDeadline(Frozen):
    """When a trial that shows no progress is taken for hung: its worker is ended, and it starts once more."""

    least_s: float = Field(default=60, gt=0, description="no shorter, however fast epochs are")
    medians: float = Field(default=5, ge=1, description="so many times the median epoch of this run")
    first_s: float = Field(default=900, gt=0, description="until an epoch was seen to end: loading, compiling")


NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class ExperimentSpec(Frozen):
    """One experiment: the base configuration, what is searched, and how far."""

    name: str = Field(pattern=NAME, description="of the experiment, and of its folder in `storage`")
    storage: str = Field(
        default="runs", min_length=1, description="folder or URI (s3://, gs://) that holds the experiment's folder"
    )
    base: TrialConfig
    space: SearchSpace
    points: tuple[dict[str, Value], ...] = Field(
        default=(), description="tried before all others; their values are legal ones, on the grid or not"
    )
    objectives: dict[str, Direction] = Field(
        default={"accuracy": "maximize", "size_bytes": "minimize"},
        min_length=1,
        max_length=3,
        description="measured columns, and which way each is better",
    )
    constraints: tuple[Constraint, ...] = Field(
        default=(), description='bounds that the frontier keeps, as in "accuracy >= 0.93"'
    )
    reference: dict[str, float] = Field(
        default={},
        description="corner of the hypervolume, by metric; default: chance, and what the baseline costs",
    )
    sampler: SamplerConfig = SamplerConfig()
    fidelity: Fidelity | None = Field(default=None, description="null: every trial runs the full schedule")
    budget: Budget
    repeats: Repeats | None = Field(default=None, description="null: every point runs once")
    resources: Resources = Resources()
    max_concurrent_trials: int | None = Field(default=None, ge=1, le=10_000, description="null: what the cluster fits")
    worker_retries: int = Field(default=3, ge=0, le=100, description="new starts of a trial whose worker was lost")
    epoch_deadline: EpochDeadline = EpochDeadline()
    cluster: ClusterConfig = Field(default=ClusterConfig(), description="machines for `tune-app submit`")
    tracking: tuple[TrackerConfig, ...] = Field(
        default=(), description="where runs are shown too: wandb, tensorboard, mlflow, or mappings with their options"
    )

    @field_validator("tracking", mode="before")
    @classmethod
    def _without_keys(cls, tracking: Any) -> Any:
        return written_out(tracking)

    @field_validator("reference")
    @classmethod
    def _finite(cls, reference: dict[str, float]) -> dict[str, float]:
        for value in reference.values():
            if not math.isfinite(value):
                raise ValueError(f"coordinates must be finite numbers, but got {value}")
        return {_metric(name): value for name, value in reference.items()}

    @field_validator("objectives")
    @classmethod
    def _measured(cls, objectives: dict[str, Direction]) -> dict[str, Direction]:
        return {_metric(name): direction for name, direction in objectives.items()}

    @field_validator("base")
    @classmethod
    def _is_the_first_run(cls, base: TrialConfig) -> TrialConfig:
        if base.repeat:
            raise ValueError(
                f"repeat must be 0, but got {base.repeat}: leave it out, and write repeats: {{seeds: 3}} for more runs"
            )
        return base

    @model_validator(mode="after")
    def _points_are_legal(self) -> "ExperimentSpec":
        for i, point in enumerate(self.points):
            try:
                self.space.check_point(point, self.base)
            except ConfigError as err:
                raise ConfigError(f"points.{i}: {err}") from err
        return self

    @model_validator(mode="after")
    def _rungs_are_shorter(self) -> "ExperimentSpec":
        if self.fidelity is None:
            return self
        if not isinstance(self.base.quantize, QuantAwareTrain):
            raise ValueError("rungs shorten quantization-aware training: choose base.quantize.kind: qat")
        longest, full = self.fidelity.rungs[-1].qat_epochs, self.base.quantize.schedule.epochs
        if longest >= full:
            raise ValueError(f"a rung trains for fewer epochs than the full schedule's {full}, but got {longest}")
        return self

    @property
    def rungs(self) -> dict[str, Rung | None]:
        """Every rung by name, from the cheapest to the full schedule, which changes nothing (None)."""
        shorter = () if self.fidelity is None else self.fidelity.rungs
        return {**{rung.name: rung for rung in shorter}, FULL: None}

    def trial(self, params: Mapping[str, Value], rung: str = FULL, *, repeat: int = 0) -> TrialConfig:
        """The configuration of a point at a rung; `repeat` counts its further runs, 0 is the first one.

        Raises:
            InfeasiblePoint: a value is out of its field's range.
        """
        config = at_rung(to_trial(params, self.base), self.rungs[rung])
        return config.model_copy(update={"repeat": repeat})

    @property
    def folder(self) -> StoragePath:
        """Where the experiment lives."""
        return storage_path(self.storage) / self.name


def _metric(name: str) -> str:
    if name not in METRICS:
        hint = did_you_mean(name, METRICS, before="; ")
        raise ValueError(f"unknown metric {name!r}; known: {', '.join(METRICS)}{hint}")
    return name
