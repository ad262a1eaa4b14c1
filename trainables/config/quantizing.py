"""The stages that quantize, which end a trial, and the one that measures for them (torch-free)."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from trainables.config.frozen import Frozen
from trainables.config.plugins import CODERS, OBSERVERS, STAGES
from trainables.config.quant import QuantScheme, SideBits, WeightBits
from trainables.config.schedule import Schedule
from trainables.config.stage import BnImages, Component, StageConfig
from trainables.config.written import SHARE, SIZE

CalibrationImages = Annotated[
    int,
    Field(ge=1, le=1_000_000, description="training images from which steps are read; more: steadier steps, more time"),
]


class AutoBits(Frozen):
    """Bits per layer from each layer's sensitivity, under a budget of packed bytes."""

    budget_bytes: Annotated[int, SIZE] = Field(
        ge=1, description="bytes of the whole packed file as coder `auto` writes it; of qat: before training"
    )
    candidates: tuple[Annotated[int, Field(ge=2, le=8)], ...] = Field(
        (2, 3, 4, 5, 6, 8), min_length=1, description="widths to choose from"
    )
    method: Literal["greedy", "dp"] = Field(
        "dp", description="dp: least sum of sensitivities in the budget; greedy: narrow where a byte costs least"
    )
    images: int = Field(512, ge=1, description="images that measure sensitivity; more: steadier ranks, more time")


PERCENTILE_VERSION = 2
"""The version of the observer of that name, which counts no zeros since its second one."""


def _of_observers(*names: str | None) -> dict[str, int]:
    """Returns the revisions of the observers with these names."""
    return {"percentile": PERCENTILE_VERSION} if "percentile" in names else {}


@STAGES.register("sensitivity")
class Sensitivity(StageConfig):
    """Measure, for each layer and bit width, how far the network's output moves (KL) and what the bytes are."""

    HANDLER = "trainables.sensitivity"
    kind: Literal["sensitivity"] = "sensitivity"
    candidates: tuple[int, ...]
    images: int
    granularity: Literal["channel", "tensor"]
    observer: Annotated[str, OBSERVERS]
    percentile: float
    side_bits: SideBits

    def revisions(self) -> Mapping[str, int]:
        """Adds that of the percentile observer, if it is used."""
        return {**super().revisions(), **_of_observers(self.observer)}

    def components(self) -> Iterable[Component]:
        """Yields the observer, and each coder: any of them may store a layer in the fewest bytes."""
        return [*super().components(), *((CODERS, name) for name in CODERS.installed())]


class Quantization(StageConfig):
    """What the kinds of last stages have in common: a scheme, and perhaps a budget that chooses its bits."""

    VERSION = 4
    ENDS = True
    scheme: QuantScheme = QuantScheme()
    auto_bits: AutoBits | None = None

    def before(self) -> tuple[StageConfig, ...]:
        """Returns the measurement that `auto_bits` chooses by."""
        if self.auto_bits is None:
            return ()
        asked, scheme = self.auto_bits.model_dump(include={"candidates", "images"}), self.scheme.model_dump()
        return (Sensitivity.model_validate(asked | {n: scheme[n] for n in Sensitivity.model_fields if n in scheme}),)

    def revisions(self) -> Mapping[str, int]:
        """Adds that of the percentile observer, if it is used."""
        return {**super().revisions(), **_of_observers(self.scheme.observer, self.scheme.activation_observer)}

    def shortened(self, epochs: int) -> "Quantization":
        """Returns what a rung of so many epochs makes of the stage, or raises ValueError: it has no training."""
        raise ValueError("rungs shorten quantization-aware training: choose base.quantize.kind: qat")


@STAGES.register("ptq")
class PostTrainingQuant(Quantization):
    """Quantize from calibration data alone."""

    HANDLER = "trainables.ptq"
    kind: Literal["ptq"] = "ptq"
    calibration_images: CalibrationImages = 512
    bn_images: BnImages = 2048
    rounding: Literal["gptq", "nearest"] = Field(
        "gptq", description="gptq: weights make up for each other's errors; nearest: each by itself, in less time"
    )
    bias_correction: bool = Field(True, description="match the mean output of each channel to the float one's")

    def revisions(self) -> Mapping[str, int]:
        """Adds that of the budget, which holds for the file as written since its second version, and that of GPTQ.

        Without corrected biases GPTQ heeds the mean of an error since its second version.
        """
        used = {
            "budget": self.auto_bits is not None,
            "gptq_means": self.rounding == "gptq" and not self.bias_correction,
        }
        return {**super().revisions(), **{part: 2 for part, is_used in used.items() if is_used}}


class Freezing(Frozen):
    """Freeze weights that oscillate between two codes (Nagel et al., arXiv 2203.11086)."""

    threshold_start: float = Field(
        0.1, gt=0, le=1, description="flips per step above which a weight freezes; lower: sooner"
    )
    threshold_end: float = Field(0.01, gt=0, le=1, description="the same at the last step, reached by a cosine")
    momentum: float = Field(
        0.01, gt=0, lt=1, description="of moving averages of flips and codes; lower: a longer memory"
    )
    start: Annotated[float, SHARE] = Field(
        0.25, ge=0, lt=1, description="share of training before any freezing; later: weights settle first"
    )
    max_bits: int = Field(4, ge=2, le=8, description="layers with more bits are left alone: finer codes oscillate less")


@STAGES.register("qat")
class QuantAwareTrain(Quantization):
    """Quantize from calibration data, then train weights and step sizes."""

    HANDLER = "trainables.quant.qat"
    TITLE = "Quantization-aware training"
    SCHEDULE = "schedule"
    kind: Literal["qat"]
    schedule: Schedule
    calibration_images: CalibrationImages = 512
    bn_images: BnImages = 2048
    progressive_bits: tuple[WeightBits, ...] = Field(
        (), description="widths trained one after another before the scheme's own, e.g. [8, 5]"
    )
    progressive_epochs: int = Field(1, ge=1, description="epochs at each progressive width; 1 is the least that trains")
    freezing: Freezing | None = None
    freeze_steps_after: Annotated[float, SHARE] = Field(
        1.0, gt=0, le=1, description="share of the training after which the activations' steps stand still; 1: never"
    )
    guard_channels: bool = Field(False, description="keep the largest weight of a channel whose codes are all 0")

    @property
    def planned_epochs(self) -> int:
        """The epochs of the schedule, and those of each progressive width."""
        return self.schedule.epochs + len(self.progressive_bits) * self.progressive_epochs

    def revisions(self) -> Mapping[str, int]:
        """Adds that of progressive widths that raise `edge_bits` too, as all do since their second version."""
        raises = any(bits > self.scheme.edge_bits for bits in self.progressive_bits)
        return {**super().revisions(), **({"progressive": 2} if raises else {})}

    def shortened(self, epochs: int) -> Quantization:
        """Returns the stage with fewer epochs, or without training; progressive widths are the full schedule's."""
        if epochs == 0:
            shared = QuantAwareTrain.model_fields.keys() & PostTrainingQuant.model_fields.keys() - {"kind"}
            return PostTrainingQuant.model_validate({name: getattr(self, name) for name in shared})
        schedule = self.schedule.model_copy(update={"epochs": min(epochs, self.schedule.epochs)})
        return self.model_copy(update={"schedule": schedule, "progressive_bits": ()})


Quantize = Annotated[PostTrainingQuant | QuantAwareTrain, Field(discriminator="kind")]
