"""TrialConfig: one configuration of the whole pipeline (torch-free)."""

from typing import Any, Literal

from pydantic import Field, model_validator

from trainables.config.data import DataConfig
from trainables.config.frozen import Frozen
from trainables.config.stages import (
    PLACES,
    Baseline,
    ChannelPrune,
    Quantize,
    Sensitivity,
    Sparsify,
    StageConfig,
    Teacher,
    training_of,
)


class PackConfig(Frozen):
    """How the integer codes are stored in the packed file."""

    coder: Literal["auto", "rans", "zstd", "bits"] = Field(
        default="auto", description="auto: for each layer the smallest of all; the others: that one where it can"
    )


class MeasureConfig(Frozen):
    """What is measured of each trial beside its packed file."""

    onnx: bool = Field(default=False, description="write model.onnx, run it with onnxruntime, record size and accuracy")


class TrialConfig(Frozen):
    """One configuration of the pipeline; the search changes a copy of the experiment's base."""

    seed: int = Field(default=0, ge=0, lt=2**31, description="of the random numbers of all stages")
    repeat: int = Field(
        default=0, ge=0, description="the same again with other random numbers; baseline and teacher stay the same"
    )
    data: DataConfig = DataConfig()
    baseline: Baseline = Field(description="the network that all trials start from")
    teacher: Teacher | None = Field(default=None, description="network to distil from; null: the baseline")
    prune: ChannelPrune | None = None
    sparsify: Sparsify | None = None
    quantize: Quantize = Field(description="the last stage; what comes out is packed")
    pack: PackConfig = PackConfig()
    measure: MeasureConfig = MeasureConfig()

    @model_validator(mode="after")
    def _has_a_teacher(self) -> "TrialConfig":
        own = training_of(self.baseline)
        if own is not None and own.distill is not None and self.teacher is None:
            raise ValueError("baseline.schedule.distill needs a teacher: set base.teacher, or leave distill out")
        if self.teacher is not None:
            other = training_of(self.teacher)
            if other is not None and other.distill is not None:
                raise ValueError("a teacher learns from labels alone: leave teacher.schedule.distill out")
        return self

    def identity(self) -> dict[str, Any]:
        """Everything that decides what a result means; not where files lie."""
        content = {**self.model_dump(mode="json"), "data": self.data.identity()}
        for name in ("baseline", "teacher"):
            part = getattr(self, name)
            content[name] = None if part is None else part.model_dump(mode="json", exclude=PLACES)
        return content

    def stages(self) -> tuple[StageConfig, ...]:
        """The stages in order, without those that would change nothing."""
        stages: list[StageConfig] = [self.baseline]
        if self.prune is not None and self.prune.prune_frac > 0:
            stages.append(self.prune)
        if self.sparsify is not None and self.sparsify.sparsity > 0:
            stages.append(self.sparsify)
        auto = self.quantize.auto_bits
        if auto is not None:
            scheme = self.quantize.scheme
            stages.append(
                Sensitivity(
                    candidates=auto.candidates,
                    images=auto.images,
                    granularity=scheme.granularity,
                    observer=scheme.observer,
                    percentile=scheme.percentile,
                    side_bits=scheme.side_bits,
                )
            )
        return (*stages, self.quantize)
