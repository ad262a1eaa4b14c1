"""DataConfig: which images a network sees (torch-free)."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from trainables.config.frozen import Frozen
from trainables.config.image_size import ImageSize, height_and_width
from trainables.config.plugins import DATASETS
from trainables.config.written import SHARE

Kept = Annotated[float, Field(gt=0, le=1, exclude_if=lambda share: share == 1), SHARE]
"""The share of an image that a crop keeps; where it is all, configurations are named as before there were crops."""
Strength = Annotated[float, Field(ge=0, le=1, description="s of its factor, which lies in [1 − s, 1 + s]"), SHARE]

UNBALANCED = 4
"""Times the images of the smallest class that the largest one has, from which classes count as very different: their
validation images are drawn class by class. Another number draws other images of some data sets."""


class ColorJitter(Frozen):
    """Random changes of color: factors from [1 − s, 1 + s], and a shift of the hue by up to `hue` turns."""

    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    hue: float = Field(0.0, ge=0, le=0.5, description="largest shift either way, turns")


MOST_PADDING = 16
"""More pixels around an image: crops of small images hold little else, and those of large ones gain nothing."""


class Augment(Frozen):
    """Random changes of training images, drawn anew for each image and applied in the order of the fields."""

    AUTO_VERSION: ClassVar[int] = 2
    """The version of what policies do is in the key of data that one changes; the first one drew for four images."""
    resized_crop: Kept = Field(
        1.0,
        description="smallest share of the area that a random crop keeps before it is scaled up again; 1: no crop; "
        "0.08 is usual on ImageNet",
    )
    crop_padding: int = Field(
        4, ge=0, le=MOST_PADDING, description="padding before a random crop, pixels; 4 is usual at 32 x 32"
    )
    crop_mode: Literal["zero", "reflect"] = Field("zero", description="what the padding holds")
    flip: bool = Field(False, description="horizontal flip with probability 1/2")
    rotation_degrees: float = Field(0.0, ge=0, le=180, description="turn by up to this much either way")
    auto: Literal["none", "autoaugment_cifar10", "trivial"] = Field(
        "none", description="a policy: AutoAugment's for CIFAR-10, or TrivialAugmentWide"
    )
    color_jitter: ColorJitter = ColorJitter()
    cutout: int = Field(0, ge=0, le=64, description="side of a square set to the mean, pixels")
    erasing: Annotated[float, SHARE] = Field(
        0.0, ge=0, le=1, description="probability of a random rectangle set to the mean"
    )


class Validation(Frozen):
    """Which images choose between networks: a share of the training images or of the test set, or the set's own.

    A share of the test set is stratified by class, and the test split is what is left of it. A share of the training
    images is stratified where classes have very different counts: the largest one four times as many as the smallest,
    or more. A network that was trained before, on all training images, is judged fairly by images from elsewhere alone.
    `from: val` takes the validation images that a data set has beside training and test images; otherwise nothing uses
    these.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)
    source: Literal["train", "test", "val"] = Field("train", alias="from", description="where the images are taken")
    fraction: Annotated[float | None, SHARE] = Field(
        0.1,
        gt=0,
        lt=1,
        description="share of these images that validates, below 1/2 of the training images; none with `from: val`",
    )

    @model_validator(mode="before")
    @classmethod
    def _takes_a_whole_split(cls, content: Any) -> Any:
        if isinstance(content, dict) and "val" in (content.get("from"), content.get("source")):
            return {"fraction": None, **content}
        return content

    @model_validator(mode="after")
    def _leaves_images_to_train(self) -> "Validation":
        if (self.source == "val") != (self.fraction is None):
            raise ValueError("from: train and from: test need a fraction, and from: val takes all of that split")
        if self.source == "train" and self.fraction is not None and self.fraction >= 0.5:
            raise ValueError(f"fraction {self.fraction:g} of the training images must be below 0.5: most images train")
        return self


class Columns(Frozen):
    """Columns of parquet files that hold a data set."""

    image: str | None = Field(None, description="column of encoded images; null: the only one there is")
    label: str | None = Field(None, description="column of classes; null: `label`, or the only other one")


class DataConfig(Frozen):
    """A data set, its size on the model's input, its split and its augmentation."""

    name: Annotated[str, DATASETS] = Field("digits", description="name of the data set")
    root: str | None = Field(None, description="folder with the data set's files, or the one file")
    cache: str | None = Field(
        None,
        exclude_if=lambda folder: folder is None,
        description="folder of each machine for decoded images; null: `tune-app/images` in the user's cache",
    )
    download: bool = Field(False, description="let torchvision fetch missing files")
    image_size: ImageSize = Field(
        32, description="side of the model's input, or its height and width, pixels; 32 is CIFAR's own"
    )
    center_crop: Kept = Field(
        1.0,
        description="share of a scaled image's shorter side that is kept, about the center; usual on ImageNet: 0.875, "
        "224 of 256 pixels",
    )
    mean: tuple[float, ...] | None = Field(
        None,
        description="subtracted from each channel of pixels in 0..1; three numbers make three channels of gray images; "
        "null: the data set's own",
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        None, description="divides each channel afterwards; null: the data set's own"
    )
    validation: Validation = Field(
        Validation(),
        description="the images that validate; `val_fraction: 0.2` is older for `{from: train, fraction: 0.2}`",
    )
    test_fraction: Annotated[float, SHARE] = Field(
        0.2,
        gt=0,
        lt=1,
        exclude_if=lambda fraction: fraction == 0.2,
        description="share of all images that is the test set, where a data set has none; drawn by a fixed seed",
    )
    columns: Columns = Field(
        Columns(), exclude_if=lambda columns: columns == Columns(), description="of a data set in parquet files"
    )
    images: int | None = Field(
        None,
        ge=4,
        exclude_if=lambda count: count is None,
        description="at most this many images of each split, for a rehearsal, as if there were no more; null: all",
    )
    on_error: Literal["refuse", "skip"] = Field(
        "refuse",
        exclude_if=lambda choice: choice == "refuse",
        description="what becomes of image files that cannot be decoded: refuse the data set, or leave them out",
    )
    split_seed: int = Field(0, ge=0, description="seed of the draw of these images")
    augment: Augment = Augment()

    @model_validator(mode="before")
    @classmethod
    def _older_spelling(cls, content: Any) -> Any:
        if not isinstance(content, dict) or "val_fraction" not in content:
            return content
        if "validation" in content:
            raise ValueError("validation and val_fraction say the same: leave val_fraction out, its older spelling")
        others = {name: value for name, value in content.items() if name != "val_fraction"}
        return {**others, "validation": {"from": "train", "fraction": content["val_fraction"]}}

    @model_validator(mode="after")
    def _fits(self) -> "DataConfig":
        padding, sides = self.augment.crop_padding, height_and_width(self.image_size)
        if self.augment.crop_mode == "reflect" and padding >= min(sides):
            raise ValueError(
                f"augment.crop_padding {padding} must be below image_size {min(sides)} to reflect: "
                "take less padding, or crop_mode: zero"
            )
        if self.augment.auto != "none" and sides[0] != sides[1]:
            raise ValueError(
                f"augment.auto {self.augment.auto} is for square images, not for {list(sides)} pixels: set it to none"
            )
        return self

    def identity(self) -> dict[str, Any]:
        """Returns the fields that change what a network sees; where the files lie is not among them.

        Nor is what becomes of files that cannot be decoded: images that are left out change the data's fingerprint.

        Results of earlier versions are named by what this returned then: a share of the training images keeps its old
        name here.
        """
        content = self.model_dump(mode="json", exclude={"root", "cache", "download", "on_error"})
        if self.validation.source == "train":
            content["val_fraction"] = content.pop("validation")["fraction"]
        return content
