"""Stage configurations: each is the data of one step of the pipeline (torch-free).

The type of a configuration picks the function that runs it (`trainables.stages.stage`), and its content names the
result (`trainables.config.keys`).
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from trainables.config.frozen import Frozen
from trainables.config.model import ModelConfig
from trainables.config.plugins import IMPORTANCE, SPARSITY
from trainables.config.quant import LayerGroup, QuantScheme, WeightBits
from trainables.config.schedule import Schedule

PLACES = {"checkpoint"}
"""Fields of stages that say where a file lies: they never name a result."""


class BaselineTrain(Frozen):
    """Train the shared network from scratch."""

    VERSION: ClassVar[int] = 1
    kind: Literal["train"] = "train"
    model: ModelConfig = ModelConfig()
    schedule: Schedule


class BaselineImport(Frozen):
    """Take the shared network from a file: safetensors, or a state dict saved by torch.save.

    `sha256` of the file names the stage, not its path; it is filled in when the spec is resolved.
    """

    VERSION: ClassVar[int] = 1
    kind: Literal["import"]
    model: ModelConfig = ModelConfig()
    checkpoint: str = Field(default="", description="path of the file")
    sha256: str = Field(default="", description="of the file; found when a spec is read")


class BaselineUntrained(Frozen):
    """A placeholder with random weights, to try everything out: sizes and costs are real, accuracies mean nothing.

    Its trials do not fail for an accuracy at chance, and outputs call the baseline untrained.
    """

    VERSION: ClassVar[int] = 1
    kind: Literal["untrained"]
    model: ModelConfig = ModelConfig()


class ChannelPrune(Frozen):
    """Remove whole channels, coupled layers together, then fine-tune. prune_frac = 0 leaves the stage out."""

    VERSION: ClassVar[int] = 2
    kind: Literal["channel_prune"] = "channel_prune"
    prune_frac: float = Field(default=0.0, ge=0, lt=1, description="share of the prunable channels to remove")
    importance: str = Field(default="l1", description="criterion that ranks the channels of a group")
    scope: Literal["uniform", "global"] = Field(
        default="uniform", description="the same share of each group, or the least important channels of all"
    )
    head: bool = Field(default=False, description="the 1x1 convolution before the classifier is prunable too")
    round_to: int | None = Field(
        default=None, ge=1, le=256, description="kept channels are a multiple of this; null: 16 in groups of 96 or more"
    )
    max_group_frac: float = Field(default=0.8, gt=0, lt=1, description="most that scope: global takes from a group")
    min_channels: int = Field(default=16, ge=1, description="fewest that scope: global leaves in a group")
    importance_images: int = Field(default=2048, ge=1, description="training images for criteria that need gradients")
    steps: int = Field(default=1, ge=1, le=100, description="prune in this many steps, fine-tuning after each")
    step_epochs: int = Field(default=1, ge=0, description="epochs after each step but the last one")
    fine_tune: Schedule

    @field_validator("importance")
    @classmethod
    def _known(cls, name: str) -> str:
        return IMPORTANCE.check(name)


class Sparsify(Frozen):
    """Set single weights to zero while training; they stay zero afterwards. sparsity = 0 leaves the stage out.

    `mode: gradual` raises the sparsity inside one training run by the cubic schedule of Zhu and Gupta (arXiv
    1710.01878) and lets weights come back until the ramp ends. `mode: iterative` prunes in `steps`, trains for
    the whole schedule after each, never lets a weight come back, and stops after the first step whose accuracy
    drop passes `max_accuracy_drop`.
    """

    VERSION: ClassVar[int] = 1
    kind: Literal["sparsify"] = "sparsify"
    sparsity: float = Field(default=0.0, ge=0, lt=1, description="share of zeros among the weights that are not exempt")
    criterion: str = Field(default="lamp", description="that ranks weights")
    mode: Literal["gradual", "iterative"] = Field(default="gradual", description="in one training run, or in steps")
    exempt: tuple[LayerGroup, ...] = Field(
        default=("first_conv", "depthwise", "classifier"), description="groups of layers that keep all weights"
    )
    min_density: float = Field(default=0.3, ge=0, le=1, description="kept at least in layers below 10,000 weights")
    ramp: float = Field(default=0.6, gt=0, le=1, description="share of a gradual run after which the mask is fixed")
    mask_every: int = Field(default=100, ge=1, description="training steps between two masks of a gradual run")
    steps: int = Field(default=5, ge=1, le=100, description="of mode: iterative")
    ramp_shape: Literal["cubic", "linear"] = Field(default="cubic", description="of the sparsity over the steps")
    max_accuracy_drop: float | None = Field(
        default=None, gt=0, le=1, description="against the parent, on validation; null = no bound (iterative only)"
    )
    schedule: Schedule

    @field_validator("criterion")
    @classmethod
    def _known(cls, name: str) -> str:
        return SPARSITY.check(name)


class AutoBits(Frozen):
    """Bits per layer from each layer's sensitivity, under a budget of packed bytes."""

    budget_bytes: int = Field(ge=1, description="of the whole packed file, before training")
    candidates: tuple[Annotated[int, Field(ge=2, le=8)], ...] = Field(
        default=(2, 3, 4, 5, 6, 8), min_length=1, description="widths to choose from"
    )
    method: Literal["greedy", "dp"] = Field(
        default="dp",
        description="dp: least sum of sensitivities in the budget; greedy: narrow where a byte costs least",
    )
    images: int = Field(default=512, ge=1, description="training images on which sensitivity is measured")


class Sensitivity(Frozen):
    """Measure, for each layer and bit width, how far the network's output moves (KL) and what the bytes are."""

    VERSION: ClassVar[int] = 1
    kind: Literal["sensitivity"] = "sensitivity"
    candidates: tuple[int, ...]
    images: int
    granularity: Literal["channel", "tensor"]
    observer: str
    percentile: float
    side_bits: Literal[8, 16]


class PostTrainingQuant(Frozen):
    """Quantize from calibration data alone."""

    VERSION: ClassVar[int] = 3
    kind: Literal["ptq"] = "ptq"
    scheme: QuantScheme = QuantScheme()
    auto_bits: AutoBits | None = None
    calibration_images: int = Field(
        default=512, ge=1, le=1_000_000, description="training images from which steps are read"
    )
    bn_images: int = Field(default=2048, ge=0, le=10_000_000, description="images for BN re-estimation; 0 = off")
    bias_correction: bool = Field(default=False, description="match the mean output of each channel to the float one's")


class Freezing(Frozen):
    """Freeze weights that oscillate between two codes (Nagel et al., arXiv 2203.11086)."""

    threshold_start: float = Field(default=0.1, gt=0, le=1, description="flips per step above which a weight freezes")
    threshold_end: float = Field(default=0.01, gt=0, le=1, description="reached by a cosine at the last step")
    momentum: float = Field(default=0.01, gt=0, lt=1, description="of the moving averages of flips and codes")
    start: float = Field(default=0.25, ge=0, lt=1, description="share of the training before the first freezing")
    max_bits: int = Field(default=4, ge=2, le=8, description="layers with more bits are left alone")


class QuantAwareTrain(Frozen):
    """Quantize from calibration data, then train weights and step sizes."""

    VERSION: ClassVar[int] = 3
    kind: Literal["qat"]
    scheme: QuantScheme = QuantScheme()
    auto_bits: AutoBits | None = None
    schedule: Schedule
    calibration_images: int = Field(
        default=512, ge=1, le=1_000_000, description="training images from which steps are read"
    )
    bn_images: int = Field(default=2048, ge=0, le=10_000_000, description="images for BN re-estimation; 0 = off")
    progressive_bits: tuple[WeightBits, ...] = Field(
        default=(), description="widths trained one after another before the scheme's own, e.g. [8, 5]"
    )
    progressive_epochs: int = Field(default=1, ge=1, description="epochs at each progressive width")
    freezing: Freezing | None = None
    freeze_steps_after: float = Field(
        default=1.0, gt=0, le=1, description="share of the training after which the activations' steps stand still"
    )
    guard_channels: bool = Field(
        default=False, description="keep the largest weight of a channel whose codes are all 0"
    )


Teacher = Annotated[BaselineTrain | BaselineImport, Field(discriminator="kind")]
Baseline = Annotated[BaselineTrain | BaselineImport | BaselineUntrained, Field(discriminator="kind")]
Quantize = Annotated[PostTrainingQuant | QuantAwareTrain, Field(discriminator="kind")]
StageConfig = (
    BaselineTrain
    | BaselineImport
    | BaselineUntrained
    | ChannelPrune
    | Sparsify
    | Sensitivity
    | PostTrainingQuant
    | QuantAwareTrain
)


def training_of(stage: StageConfig) -> Schedule | None:
    """The training run inside a stage, if it has one."""
    if isinstance(stage, ChannelPrune):
        return stage.fine_tune
    return stage.schedule if isinstance(stage, BaselineTrain | Sparsify | QuantAwareTrain) else None
