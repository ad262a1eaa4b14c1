"""TrialConfig: one configuration of the whole pipeline (torch-free)."""

from typing import Any, Literal

from pydantic import Field, model_validator

from trainables.config.data import DataConfig
from trainables.config.frozen import Frozen
from trainables.config.quantizing import Quantize
from trainables.config.stage import OwnStage, StageConfig
from trainables.config.stages import Baseline, ChannelPrune, Sparsify, Teacher


class PackConfig(Frozen):
    """How the integer codes are stored in the packed file."""

    coder: Literal["auto", "rans", "zstd", "bits"] = Field(
        "auto", description="auto: for each layer the smallest of all; the others: that one where it can"
    )


class MeasureConfig(Frozen):
    """What is measured of each trial beside its packed file."""

    onnx: bool = Field(False, description="write model.onnx, run it with onnxruntime, record size and accuracy")


class TrialConfig(Frozen):
    """One configuration of the pipeline; the search changes a copy of the experiment's base."""

    seed: int = Field(0, ge=0, lt=2**31, description="seed of the random numbers of all stages")
    repeat: int = Field(0, ge=0, description="the same with other random numbers; baseline and teacher stay the same")
    data: DataConfig = DataConfig()
    baseline: Baseline = Field(description="the network that all trials start from")
    teacher: Teacher | None = Field(None, description="network to distill from; null: the baseline")
    prune: ChannelPrune | None = None
    sparsify: Sparsify | None = None
    own_stages: tuple[OwnStage, ...] = Field(
        (),
        exclude_if=lambda stages: not stages,
        description="more stages before the last one, in this order; their kinds are plug-ins",
    )
    quantize: Quantize = Field(description="the last stage; what comes out is packed")
    pack: PackConfig = PackConfig()
    measure: MeasureConfig = MeasureConfig()

    @model_validator(mode="after")
    def _has_a_teacher(self) -> "TrialConfig":
        if self.baseline.distills and self.teacher is None:
            raise ValueError("baseline.schedule.distill needs a teacher: set base.teacher, or leave distill out")
        if self.teacher is not None and self.teacher.distills:
            raise ValueError("a teacher learns from labels alone: leave teacher.schedule.distill out")
        return self

    def identity(self) -> dict[str, Any]:
        """Returns everything that decides what a result means; not where files lie."""
        content = {**self.model_dump(mode="json"), "data": self.data.identity()}
        for name in ("baseline", "teacher"):
            part = getattr(self, name)
            content[name] = None if part is None else part.model_dump(mode="json", exclude=part.PLACES)
        return content

    def stages(self) -> tuple[StageConfig, ...]:
        """Returns the stages in order, without those that would change nothing."""
        asked = (self.baseline, self.prune, self.sparsify, *self.own_stages, *self.quantize.before(), self.quantize)
        return tuple(stage for stage in asked if stage is not None and not stage.left_out)

    @property
    def own_teacher(self) -> Baseline | None:
        """The network that some stage learns from, if it is not the baseline."""
        return self.teacher if any(stage.distills for stage in self.stages()) else None
