"""StageConfig: what each kind of stage answers for itself, so that nobody else has to know the kinds (torch-free)."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SerializeAsAny

from trainables.config.frozen import Frozen
from trainables.config.plugins import STAGES
from trainables.config.schedule import Schedule
from trainables.registry import Registry

Component = tuple[Registry[Any], str]
"""A plug-in: the registry that holds it, and its name there."""


def _not_one(images: int) -> int:
    if images == 1:
        raise ValueError("must be 0 or at least 2: batch norm takes the variance of several images")
    return images


BnImages = Annotated[
    int,
    Field(
        ge=0,
        le=10_000_000,
        description="images on which BN is measured again, kept where others then have a smaller loss; 0: never, "
        "else 2 or more",
    ),
    AfterValidator(_not_one),
]


def named_plugins(config: BaseModel) -> Iterator[Component]:
    """Yields the plug-ins that fields of a configuration name (`Annotated[str, registry]`), and fields of its parts."""
    for field, about in type(config).model_fields.items():
        value = getattr(config, field)
        if isinstance(value, BaseModel):
            yield from named_plugins(value)
        elif value is not None:
            yield from ((registry, value) for registry in about.metadata if isinstance(registry, Registry))


class StageConfig(Frozen):
    """One step of the pipeline, as data: a kind of stage is a subclass, with fields of its own.

    A package brings a kind with an entry point in the group tune_app.stages, and a handler that runs it. Whatever the
    program asks of a stage, its class answers.
    """

    VERSION: ClassVar[int] = 1
    """The method's version is part of each key: raise it when equal configurations begin to give other results."""
    HANDLER: ClassVar[str] = ""
    """This module registers the handler, and is imported when a stage runs; empty: that of the configuration does."""
    TITLE: ClassVar[str] = ""
    """The heading of the kind's training curves; empty: its name."""
    STARTS: ClassVar[bool] = False
    """Whether the stage makes a network without a parent: a baseline, or a teacher."""
    ENDS: ClassVar[bool] = False
    """Whether the stage ends a trial, so that no other one starts from it."""
    PLACEHOLDER: ClassVar[bool] = False
    """Whether the network has learned nothing, so that accuracies mean nothing."""
    SCHEDULE: ClassVar[str] = ""
    """The field with the stage's training run; empty: it does not train and has no epochs."""
    AMOUNT: ClassVar[str] = ""
    """The field that leaves the stage out at 0; empty: it always runs."""
    PLACES: ClassVar[frozenset[str]] = frozenset()
    """The fields that say where a file lies, which never name a result."""
    COLUMNS: ClassVar[Mapping[str, str]] = {}
    """The columns of the trials' table that show metrics of the stage, by metric."""

    kind: str = Field(description="name of the kind; its other keys are those of its class")

    @property
    def training(self) -> Schedule | None:
        """The training run inside the stage, if it has one."""
        return getattr(self, self.SCHEDULE) if self.SCHEDULE else None

    @property
    def planned_epochs(self) -> int:
        """The epochs of all training runs inside the stage; an iterative one may stop earlier."""
        return self.training.epochs if self.training else 0

    @property
    def distills(self) -> bool:
        """Whether the stage learns from a teacher."""
        return self.training is not None and self.training.distill is not None

    @property
    def left_out(self) -> bool:
        """Whether the stage would change nothing."""
        return self.AMOUNT != "" and not getattr(self, self.AMOUNT)

    def components(self) -> Iterable[Component]:
        """Yields the plug-ins that the stage uses beside its parent: by default those that its fields name."""
        return named_plugins(self)

    def revisions(self) -> Mapping[str, int]:
        """Returns the versions of parts of the method that this configuration uses and others do not, by name.

        They are part of its key: raise one where VERSION would leave results of the others behind that still hold.
        """
        averages = self.training is not None and self.training.ema_decay > 0
        return {"average": Schedule.AVERAGE_VERSION} if averages else {}

    def before(self) -> "tuple[StageConfig, ...]":
        """Returns stages that the configuration asks for, to be run just before this one."""
        return ()


def stage_of_kind(kind: str) -> type[StageConfig]:
    """Returns the class of a kind by its name; of a kind that is not installed (any more), the one that knows nothing.

    Records and caches name stages by kind alone, and outlive the packages that made them.
    """
    return STAGES[kind] if kind in STAGES.names() else StageConfig


def _of_its_kind(value: Any) -> Any:
    """Reads a mapping as a configuration of the kind that it names."""
    if not isinstance(value, dict):
        return value
    stage = STAGES[str(value.get("kind"))]
    if stage.STARTS or stage.ENDS:
        raise ValueError(f"{value['kind']} starts or ends a trial: give it as baseline or as quantize")
    return stage.model_validate(value)


OwnStage = Annotated[SerializeAsAny[StageConfig], BeforeValidator(_of_its_kind)]
