"""Architecture: everything needed to build an empty network (torch-free)."""

from typing import Annotated

from pydantic import Field, model_validator

from trainables.config.frozen import Frozen
from trainables.config.image_size import ImageSize, height_and_width
from trainables.config.plugins import MODELS
from trainables.config.written import SHARE

CAPTURED = "captured"
"""The name of the family of all networks that are known by their graph."""


class ModelConfig(Frozen):
    """A network family and its free sizes; classes and channels come from the data set."""

    name: Annotated[str, MODELS] = Field("mobilenet_v2", description="name of the family")
    width: float = Field(1.0, gt=0, le=4, description="factor of all channel counts; 1: as published")
    dropout: Annotated[float, SHARE] = Field(
        0.0, ge=0, lt=1, description="probability of dropout before each linear layer"
    )
    head: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        (), max_length=8, description="widths of hidden linear layers before the classifier; vgg16 only"
    )

    graph: str = Field(
        "",
        exclude_if=lambda graph: not graph,
        description="stored graph of a network of one's own; filled in from `network`, which see",
    )

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "ModelConfig":
        if self.head and self.name == "mobilenet_v2":
            raise ValueError("mobilenet_v2 has no hidden linear layers: leave head out, or choose vgg16")
        if bool(self.graph) != (self.name == CAPTURED):
            raise ValueError(f"model: {CAPTURED} is the name of networks of one's own: give `network` instead of model")
        return self


class Architecture(Frozen):
    """Everything needed to build an empty network: the model is this plus a state dict.

    `widths` holds the channels left in each prunable group; a group that is not named is unpruned. `kept` says which
    channels these are, in networks where their places matter.
    """

    model: ModelConfig
    classes: int = Field(ge=2, le=100_000)
    channels: int = Field(ge=1, le=64)
    image_size: ImageSize
    widths: dict[str, Annotated[int, Field(ge=1)]] = Field({})
    kept: dict[str, tuple[Annotated[int, Field(ge=0)], ...]] = Field({}, exclude_if=lambda kept: not kept)

    @property
    def image(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that the network takes."""
        return self.channels, *height_and_width(self.image_size)
