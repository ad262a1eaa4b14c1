"""What a trial is made of, as data: schedules, schemes and stage configurations (torch-free).

The type of a stage configuration picks the function that runs it (`trainables.stage`), and its content
names the result (`trainables.cache.stage_key`).
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from trainables.errors import ConfigError
from trainables.registry import Registry

MODELS: Registry[Any] = Registry(
    "model",
    {
        "mobilenet_v2": "trainables.models.mobilenet_v2:MobileNetV2",
        "vgg16": "trainables.models.vgg:VGG16",
    },
)
DATASETS: Registry[Any] = Registry(
    "data set",
    {
        "digits": "trainables.data:load_digits",
        "cifar10": "trainables.data:load_cifar10",
        "cifar100": "trainables.data:load_cifar100",
        "fashion_mnist": "trainables.data:load_fashion_mnist",
    },
)
IMPORTANCE: Registry[Any] = Registry("importance criterion", {"l1": "trainables.prune.importance:l1"})
OBSERVERS: Registry[Any] = Registry(
    "observer",
    {"minmax": "trainables.quant.observers:minmax", "mse": "trainables.quant.observers:mse"},
)

PLACES = {"checkpoint"}
"""Fields of stages that say where a file lies: they never name a result."""

Bits = Annotated[int, Field(ge=2, le=8, strict=True)]


class Frozen(BaseModel):
    """Immutable, with no unknown keys and no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Augment(Frozen):
    """Random changes of training images, drawn anew for each image."""

    crop_padding: int = Field(default=4, ge=0, le=16, description="zero padding before a random crop, pixels")
    flip: bool = Field(default=False, description="horizontal flip with probability 1/2")
    cutout: int = Field(default=0, ge=0, le=64, description="side of a square set to the mean, pixels")


class DataConfig(Frozen):
    """A data set, its size on the model's input, its split and its augmentation."""

    name: str = "digits"
    root: str | None = Field(default=None, description="folder with the data set's files")
    download: bool = Field(default=False, description="let torchvision fetch missing files")
    image_size: int = Field(default=32, ge=8, le=256, description="side of the model's input, pixels")
    val_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    split_seed: int = Field(default=0, ge=0)
    augment: Augment = Augment()

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return DATASETS.check(name)

    def identity(self) -> dict[str, Any]:
        """The fields that change what a network sees; where the files lie is not among them."""
        return self.model_dump(mode="json", exclude={"root", "download"})


class Schedule(Frozen):
    """One training run: SGD with Nesterov momentum, linear warm-up, cosine to zero."""

    epochs: int = Field(ge=0, le=100_000)
    lr: float = Field(gt=0, le=100)
    batch_size: int = Field(default=128, ge=2, le=65_536)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=1, description="not applied to biases, BN and step sizes")
    warmup_epochs: float = Field(default=0.0, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)


class ModelConfig(Frozen):
    """A network family and its free sizes; classes and channels come from the data set."""

    name: str = "mobilenet_v2"
    width: float = Field(default=1.0, gt=0, le=4, description="width multiplier")
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return MODELS.check(name)


class Architecture(Frozen):
    """Everything needed to build an empty network: the model is this plus a state dict.

    `widths` holds the channels left in each prunable group; a group that is not named is unpruned.
    """

    model: ModelConfig
    classes: int = Field(ge=2, le=100_000)
    channels: int = Field(ge=1, le=64)
    image_size: int = Field(ge=8, le=256)
    widths: dict[str, Annotated[int, Field(ge=1)]] = {}


class QuantScheme(Frozen):
    """Bit widths and granularity, the same for PTQ, QAT and packing.

    Weights are symmetric per output channel, activations symmetric or unsigned per tensor with a static
    step. The first and last weight layer and the classifier's input keep `edge_bits`, and sums of the
    residual stream keep at least `residual_bits`: their errors reach every later block.
    """

    w_bits: Bits = 8
    a_bits: Bits = 8
    edge_bits: Bits = 8
    residual_bits: Bits = 8
    observer: str = "mse"

    @field_validator("observer")
    @classmethod
    def _known(cls, name: str) -> str:
        return OBSERVERS.check(name)


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
    checkpoint: str = ""
    sha256: str = ""


class ChannelPrune(Frozen):
    """Remove whole channels, coupled layers together, then fine-tune. prune_frac = 0 leaves the stage out."""

    VERSION: ClassVar[int] = 1
    kind: Literal["channel_prune"] = "channel_prune"
    prune_frac: float = Field(default=0.0, ge=0, lt=1)
    importance: str = "l1"
    fine_tune: Schedule

    @field_validator("importance")
    @classmethod
    def _known(cls, name: str) -> str:
        return IMPORTANCE.check(name)


class PostTrainingQuant(Frozen):
    """Quantize from calibration data alone."""

    VERSION: ClassVar[int] = 1
    kind: Literal["ptq"] = "ptq"
    scheme: QuantScheme = QuantScheme()
    calibration_images: int = Field(default=512, ge=1, le=1_000_000)
    bn_images: int = Field(default=2048, ge=0, le=10_000_000, description="images for BN re-estimation; 0 = off")


class QuantAwareTrain(Frozen):
    """Quantize from calibration data, then train weights and step sizes."""

    VERSION: ClassVar[int] = 1
    kind: Literal["qat"]
    scheme: QuantScheme = QuantScheme()
    schedule: Schedule
    calibration_images: int = Field(default=512, ge=1, le=1_000_000)
    bn_images: int = Field(default=2048, ge=0, le=10_000_000, description="images for BN re-estimation; 0 = off")


Baseline = BaselineTrain | BaselineImport
Quantize = PostTrainingQuant | QuantAwareTrain
StageConfig = BaselineTrain | BaselineImport | ChannelPrune | PostTrainingQuant | QuantAwareTrain


class TrialConfig(Frozen):
    """One configuration of the pipeline; the search changes a copy of the experiment's base."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    data: DataConfig = DataConfig()
    baseline: Annotated[Baseline, Field(discriminator="kind")]
    prune: ChannelPrune
    quantize: Annotated[Quantize, Field(discriminator="kind")]

    def identity(self) -> dict[str, Any]:
        """Everything that decides what a result means; not where files lie."""
        baseline = self.baseline.model_dump(mode="json", exclude=PLACES)
        return {**self.model_dump(mode="json"), "data": self.data.identity(), "baseline": baseline}

    def stages(self) -> tuple[StageConfig, ...]:
        """The stages in order, without those that would change nothing."""
        prune = (self.prune,) if self.prune.prune_frac > 0 else ()
        return (self.baseline, *prune, self.quantize)


def digest(body: object) -> str:
    """SHA-256 of a JSON value, 64 hex digits; equal values give equal digests."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else err
        raise ConfigError(f"cannot read {path}: {reason}. Give the path of a checkpoint file.") from err


def stage_key(parent: str, config: StageConfig, *, seed: int) -> str:
    """Names the result of a stage by everything that made it; `parent` is the previous key or the data key."""
    content = config.model_dump(mode="json", exclude_defaults=True, exclude=PLACES)
    return digest([parent, config.VERSION, config.kind, content, seed])


def data_key(config: DataConfig, fingerprint: str) -> str:
    """The parent of the first stage: which images, in which split, with which augmentation."""
    return digest([fingerprint, config.identity()])


def stage_keys(config: TrialConfig, *, fingerprint: str) -> list[str]:
    """The key of each stage of a configuration; the last one names the configuration as a whole."""
    keys = [data_key(config.data, fingerprint)]
    for stage in config.stages():
        keys.append(stage_key(keys[-1], stage, seed=config.seed))
    return keys[1:]
