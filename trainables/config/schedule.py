"""Schedule: one training run (torch-free)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from trainables.config.frozen import Frozen
from trainables.config.written import SHARE


class Distillation(Frozen):
    """Learn from a teacher's logits beside the labels (Hinton et al., arXiv 1503.02531).

    The loss is weight · T² · KL(teacher ‖ student) on logits divided by T, plus (1 − weight) · cross-entropy.
    The teacher is `teacher` of the trial, or its baseline.
    """

    weight: Annotated[float, SHARE] = Field(
        0.7,
        gt=0,
        le=1,
        description="share of the teacher in the loss, labels have the rest; more: nearer to it, in its errors too",
    )
    temperature: float = Field(
        4.0,
        gt=0,
        le=100,
        description="T, which softens both networks' logits; higher: more of the unlikely classes counts",
    )


class Schedule(Frozen):
    """One training run: linear warm-up, then the learning rate falls along a cosine, in steps, or not at all."""

    AVERAGE_VERSION: ClassVar[int] = 2
    """The version of what `ema_decay` does is part of the keys of stages that average."""

    epochs: int = Field(ge=0, le=100_000, description="passes over the training images")
    lr: float = Field(gt=0, le=100, description="learning rate after the warm-up, the highest")
    batch_size: int = Field(128, ge=2, le=65_536, description="images of one step; 128 is usual on CIFAR")
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="the rule of an update")
    momentum: float = Field(
        0.9, ge=0, lt=1, description="of SGD, 0.9 as nearly everywhere; Adam has betas 0.9 and 0.999"
    )
    nesterov: bool = Field(True, description="SGD's momentum by Nesterov's rule")
    weight_decay: float = Field(
        5e-4, ge=0, le=1, description="pull of weights to 0, 5e-4 as usual on CIFAR; never of step sizes"
    )
    decay_all: bool = Field(False, description="weight decay of biases and batch norm too, as plain SGD has it")
    warmup_epochs: float = Field(0.0, ge=0, description="epochs over which the learning rate rises to `lr`; 0: none")
    decay: Literal["cosine", "step", "constant"] = Field("cosine", description="how the learning rate falls")
    min_lr: float = Field(0.0, ge=0, le=100, description="where the cosine ends")
    step_epochs: int = Field(30, ge=1, description="epochs between two decays; 30 by 0.1 is usual on ImageNet")
    step_factor: float = Field(0.1, gt=0, le=1, description="factor of a decay in steps")
    label_smoothing: Annotated[float, SHARE] = Field(
        0.0, ge=0, lt=1, description="share of a label spread over all classes; 0: none"
    )
    distill: Distillation | None = None
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="exponential moving average of weights; the average is the result; 0 = off"
    )
    keep: Literal["last", "best"] = Field(
        "last", description="the network after the last epoch, or the one of best validation accuracy"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Schedule":
        if self.optimizer == "adam" and self.momentum != 0.9:
            raise ValueError("momentum is SGD's: leave it out, or choose optimizer: sgd")
        if self.min_lr and self.decay != "cosine":
            raise ValueError("min_lr is where a cosine ends: leave it out, or choose decay: cosine")
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr:g} is above lr {self.lr:g}, from which the cosine falls to it")
        if self.ema_decay and self.keep == "best":
            raise ValueError("an average has no best epoch: leave ema_decay out, or choose keep: last")
        return self
