"""DataConfig: which images a network sees (torch-free)."""

from typing import Any

from pydantic import Field, field_validator

from trainables.config.frozen import Frozen
from trainables.config.plugins import DATASETS


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
