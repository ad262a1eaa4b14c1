"""ExperimentSpec: what one experiment is, checked."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from cluster.config import ClusterConfig
from search_spaces.parameters import Value
from search_spaces.rungs import FULL, Rung, at_rung
from search_spaces.samplers import SAMPLERS
from search_spaces.space import SearchSpace, to_trial
from trainables.config import SHARE, Frozen, TrialConfig
from trainables.errors import ConfigError, InfeasiblePoint
from trainables.results import METRICS
from trainables.storage import StoragePath, storage_path
from tune_app.spec.constraint import Constraint, check_together, check_value, metric_name
from tune_app.spec.trackers import TrackerConfig, written_out

MAX_TRIALS = 1_000_000
"""No budget is larger: each trial is a file, and all of them are read at a start."""
BEST = "ehvi"
"""The sampler that needs the least training in `benchmarks/search`, so the default one."""
Direction = Literal["maximize", "minimize"]
Trials = Annotated[int, Field(ge=1, le=MAX_TRIALS)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, SHARE, Field(ge=0, le=1)]


class SamplerConfig(Frozen):
    """Which sampler proposes points."""

    name: Annotated[str, SAMPLERS] = Field(BEST, description="name of the sampler")
    seed: int = Field(0, ge=0, lt=2**31, description="seed of its random numbers")

    @property
    def is_strategy(self) -> bool:
        """Whether it chooses point and rung together; the points of all others climb by their rank."""
        return SAMPLERS[self.name].is_strategy


class Fidelity(Frozen):
    """Cheaper trials first: what does well at a rung is tried again at the next, and at last in full."""

    rungs: tuple[Rung, ...] = Field(
        (Rung(name="ptq", qat_epochs=0),), min_length=1, description="rising in cost, below the full schedule"
    )
    eta: float = Field(3, ge=1, le=100, description="one of so many points of a rung earns the next; 3 as in Hyperband")
    min_correlation: float = Field(
        0.3, ge=-1, le=1, description="a rung whose ranks agree less with the next one's is skipped as a poor judge"
    )
    batch: int = Field(
        8,
        ge=1,
        le=1000,
        description="points without training that one Ray trial tries, if they share a parent; more: fewer starts; "
        f"under `{BEST}` each goes alone, since its outcome decides what comes next",
    )
    min_pairs: int = Field(
        12, ge=3, description="points at both rungs before ranks are compared; of fewer it is chance"
    )

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

    trials: Trials = Field(
        30, description="trials of the full schedule to look back on; fewer: ends earlier, also by bad luck"
    )
    gain: Annotated[float, SHARE] = Field(
        0.001, ge=0, lt=1, description="a smaller share of growth over them ends the search"
    )


class Budget(Frozen):
    """When a search is done: no new trial starts when the first of these is spent; what runs is finished."""

    trials: Trials = Field(description="distinct configurations with a record of the full schedule, of any state")
    wall_s: Seconds | None = Field(
        None,
        description="seconds since one run of the command began, with its data and baseline, which are made in any "
        "case; null: no limit",
    )
    training_s: Seconds | None = Field(
        None,
        description="seconds that stages of all trials took, without what the cache answered or a warm start brought",
    )
    stagnation: Stagnation | None = Field(None, description="null: goes on however little it finds")
    stop_below: Share | None = Field(
        None,
        description="growth of the hypervolume, as a share of it, that the next ten trials must promise for an hour of "
        f"training; less ends the search, after ten trials; known to `{BEST}`; null: it goes on",
    )
    failed_share: Share = Field(
        0.5,
        description="a larger share of trials that end badly, after ten, ends the search (exit code 4); "
        "accuracy at chance and parameters without a legal network are answers and do not count",
    )


class Repeats(Frozen):
    """More runs, with other random numbers, of points that may be on the frontier; they start after the trials."""

    seeds: int = Field(3, ge=2, le=100, description="runs of a point in all; more: surer means, more time")
    min_probability: Share = Field(
        0.05,
        description="a point that is less likely on the frontier gets no further run; lower: more runs, fewer misses",
    )


class Resources(Frozen):
    """What one trial holds while it runs."""

    cpu: float = Field(1, gt=0, le=4096, description="cores, and threads of torch; 1 lets most trials run at a time")
    gpu: Annotated[float, Field(ge=0, le=64)] | Literal["auto"] = Field(
        0.0,
        description="may be a fraction: 0.25 puts four trials on a GPU; auto: as many as the memory allows that the "
        "first trial of each rung took",
    )
    baseline_cpu: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="threads of the baseline and the teacher, which train before the trials; none: all cores of a node "
        "where nothing else runs; a number: the same last bits on machines with more or fewer",
    )
    compile: bool = Field(False, description="compile networks before training: minutes, once per shape")
    bf16: bool = Field(
        False,
        description="train in bfloat16 on CPUs too, as GPUs always do: about 1.5 times as fast where the processor "
        "has avx512_bf16 or amx_bf16, slower on others",
    )

    @field_validator("cpu", "gpu")
    @classmethod
    def _ray_can_count_it(cls, amount: float | str, info: ValidationInfo) -> float | str:
        if isinstance(amount, str):
            return amount
        if amount != round(amount, 4):
            raise ValueError("Ray counts in steps of 0.0001: write four digits after the point at most")
        if info.field_name == "gpu" and amount > 1 and not amount.is_integer():
            raise ValueError("more than one GPU must be a whole number")
        return amount

    @property
    def gpu_at_first(self) -> float:
        """The GPUs that the baseline and the first trial of each rung hold."""
        return 1.0 if self.gpu == "auto" else self.gpu


class EpochDeadline(Frozen):
    """When a trial that shows no progress is taken for hung: its worker is ended, and it starts once more."""

    least_s: Seconds = Field(300, description="never shorter, seconds: the last epoch is followed by packing")
    medians: float = Field(
        5, ge=1, description="so many times the median epoch of this run; fewer: hung trials end earlier, slow ones too"
    )
    first_s: Seconds = Field(1_800, description="seconds for what ends no epoch: loading, compiling, a first epoch")


NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def _rungs_that_pay(value: Any, info: ValidationInfo) -> Any:
    """Reads `auto` as the rungs that suit the fields before; one of those that is wrong is not there.

    A look without training costs a few percent of a trial, and spares some in full: on the table of
    `benchmarks/search` the default sampler needs a fifth less training with it at 4 workers, a third less at 16, and as
    much with 1. Where the budget is for every point it can spare none.
    """
    if value != "auto":
        return value
    known = info.data
    if not {"base", "space", "sampler", "budget"} <= known.keys() or known["sampler"].name != BEST:
        return None
    trains = known["base"].quantize.training is not None
    return Fidelity() if trains and known["space"].size > known["budget"].trials else None


def _by_field(field: str) -> BeforeValidator:
    """Reads a lone name or number as a mapping with this one field."""
    return BeforeValidator(lambda value: {field: value} if isinstance(value, str | int) else value)


def _as_list(value: Any) -> Any:
    """Reads one entry as a list of it."""
    return [value] if isinstance(value, str | Frozen) else value


def _natural(value: Any) -> Any:
    """Reads metrics without a direction as a mapping to their natural ones."""
    names = _as_list(value)
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return {name: METRICS[metric_name(name)].better for name in names}
    return value


class ExperimentSpec(Frozen):
    """One experiment: the base configuration, what is searched, and how far."""

    name: str = Field(pattern=NAME, description="name of the experiment, and of its folder in `storage`")
    storage: str = Field("runs", min_length=1, description="folder or URI (s3://, gs://) that holds its folder")
    base: TrialConfig
    space: SearchSpace
    points: tuple[dict[str, Value], ...] = Field(
        (), description="tried before all others; their values are legal ones, on the grid or not"
    )
    objectives: Annotated[dict[str, Direction], BeforeValidator(_natural)] = Field(
        {"accuracy": "maximize", "size_bytes": "minimize"},
        min_length=1,
        max_length=3,
        description="measured columns, and which way each is better; or a list of them",
    )
    constraints: Annotated[tuple[Constraint, ...], BeforeValidator(_as_list)] = Field(
        (), description='bounds of the frontier, as in "accuracy >= 0.93"'
    )
    reference: dict[str, float] = Field(
        {}, description="corner of the hypervolume, by metric; default: chance, and what the baseline costs"
    )
    sampler: Annotated[SamplerConfig, _by_field("name")] = SamplerConfig()
    budget: Annotated[Budget, _by_field("trials")]
    fidelity: Annotated[
        Fidelity | None, BeforeValidator(_rungs_that_pay, json_schema_input_type=Fidelity | Literal["auto"] | None)
    ] = Field(
        "auto",
        validate_default=True,
        description=f"null: every trial runs the full schedule; auto: with the sampler `{BEST}` a rung without "
        "training, if trials train and the space has more points than the budget has trials; else null",
    )
    repeats: Annotated[Repeats | None, _by_field("seeds")] = Field(None, description="null: every point runs once")
    resources: Resources = Resources()
    max_concurrent_trials: int | None = Field(None, ge=1, le=10_000, description="null: what the cluster fits")
    worker_retries: int = Field(
        3, ge=0, le=100, description="new starts of a trial whose worker was lost; more for spot nodes"
    )
    epoch_deadline: EpochDeadline = EpochDeadline()
    cluster: ClusterConfig = Field(ClusterConfig(), description="machines for `tune-app submit`")
    tracking: Annotated[tuple[TrackerConfig, ...], BeforeValidator(written_out)] = Field(
        (), description="where runs are shown too: wandb, tensorboard, mlflow, or mappings with their options"
    )

    @field_validator("objectives")
    @classmethod
    def _better_as_ever(cls, objectives: dict[str, Direction]) -> dict[str, Direction]:
        for name, direction in objectives.items():
            better = METRICS[metric_name(name)].better
            if direction != better:
                raise ValueError(f"{name} is better the other way: write {name}: {better}")
        return objectives

    @field_validator("reference")
    @classmethod
    def _can_be_measured(cls, reference: dict[str, float]) -> dict[str, float]:
        for name, value in reference.items():
            check_value(metric_name(name), value)
        return reference

    @field_validator("constraints")
    @classmethod
    def _can_be_met(cls, constraints: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
        check_together(constraints)
        return constraints

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
        first: dict[frozenset[tuple[str, Value]], int] = {}
        for i, point in enumerate(self.points):
            same = first.setdefault(frozenset(point.items()), i)
            if same != i:
                raise ConfigError(f"points.{i} is points.{same} again: leave one of them out.")
            try:
                self.space.check_point(point, self.base)
            except ConfigError as err:
                raise ConfigError(f"points.{i}: {err}") from err
        return self

    @model_validator(mode="after")
    def _rungs_are_shorter(self) -> "ExperimentSpec":
        if self.fidelity is None:
            return self
        full, longest = self.base.quantize.training, self.fidelity.rungs[-1]
        at_rung(self.base, longest)  # refuses a base without training
        if full is not None and longest.qat_epochs >= full.epochs:
            raise ValueError(
                f"a rung trains for fewer epochs than the full schedule's {full.epochs}, but got {longest.qat_epochs}"
            )
        return self

    @model_validator(mode="after")
    def _expects_something(self) -> "ExperimentSpec":
        if self.budget.stop_below is not None and not self.sampler.is_strategy:
            raise ValueError(
                f"budget.stop_below needs a sampler that knows what to expect, but got {self.sampler.name}: "
                f"choose {BEST}, or budget.stagnation"
            )
        return self

    @property
    def rungs(self) -> dict[str, Rung | None]:
        """Every rung by name, from the cheapest to the full schedule, which changes nothing (None)."""
        shorter = () if self.fidelity is None else self.fidelity.rungs
        return {**{rung.name: rung for rung in shorter}, FULL: None}

    @property
    def metrics(self) -> list[str]:
        """The columns that trials are judged by: objectives, then others with a bound."""
        return list(dict.fromkeys([*self.objectives, *(c.metric for c in self.constraints)]))

    def has_point(self, params: Mapping[str, Value]) -> bool:
        """Whether a point is one of the space, or one of those that the spec names."""
        return params in self.points or self.space.contains(params)

    def trial(self, params: Mapping[str, Value], rung: str = FULL, *, repeat: int = 0) -> TrialConfig:
        """Returns the configuration of a point at a rung; `repeat` counts its further runs, 0 is the first one.

        Raises:
            InfeasiblePoint: a value is out of its field's range, or there is no such rung (any more).
        """
        rungs = self.rungs
        if rung not in rungs:
            raise InfeasiblePoint(f"the spec has no rung {rung!r}: its rungs are {', '.join(rungs)}")
        config = at_rung(to_trial(params, self.base), rungs[rung])
        return config.model_copy(update={"repeat": repeat})

    @property
    def folder(self) -> StoragePath:
        """The folder or bucket that holds the experiment."""
        return storage_path(self.storage) / self.name
