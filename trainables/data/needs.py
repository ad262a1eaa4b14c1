"""What the images of a data set take, told without decoding them (torch-free until it is asked)."""

from typing import TYPE_CHECKING

from pydantic import Field

from trainables.config import DataConfig, Frozen, height_and_width

if TYPE_CHECKING:
    from trainables.data.sources import Source


class ImageNeeds(Frozen):
    """How many images train and validate, and what they take."""

    count: int = Field(description="that train and validate")
    device_bytes: int = Field(description="of their pixels, at the size of the model's input")
    disk_bytes: int = Field(description="on each machine, once they are decoded; 0: their files hold pixels")
    decoded: bool = Field(description="on this machine")
    streamed: bool = Field(description="batch by batch from the files, unless a GPU has room for all")
    folder: str = Field(description="of decoded images on each machine")


def image_needs(config: DataConfig) -> ImageNeeds:
    """Returns what the images of a data set take.

    Raises:
        ConfigError: files are missing or damaged.
    """
    from trainables.data.data_sets import IN_MEMORY_BYTES, asked_channels, load_source
    from trainables.data.decoding.decode_once import Decoder, image_cache
    from trainables.data.decoding.encoded import EncodedImages, Form

    source, folder = load_source(config), image_cache(config.cache)
    others = {"train": None, "test": source.test, "val": source.val}[config.validation.source]
    parts = [source.rest] if others is None else [source.rest, others]
    form = Form(height_and_width(config.image_size), asked_channels(config), config.center_crop)
    each = form.size[0] * form.size[1] * image_channels(source, config)
    encoded = [part for part in parts if isinstance(part, EncodedImages)]
    return ImageNeeds(
        count=sum(map(len, parts)),
        device_bytes=each * sum(map(len, parts)),
        disk_bytes=each * sum(map(len, encoded)),
        decoded=isinstance(source.rest, EncodedImages) and Decoder(folder).has(source.rest, form),
        streamed=bool(encoded) and each * sum(map(len, parts)) > IN_MEMORY_BYTES,
        folder=str(folder),
    )


def image_channels(source: "Source", config: DataConfig) -> int:
    """Returns the number of channels that the images of a data set have, without decoding them.

    Raises:
        ConfigError: an image cannot be read.
    """
    from trainables.data.decoding.encoded import EncodedImages

    if known := config.mean or source.mean:
        return len(known)
    rest = source.rest
    return rest.channels() if isinstance(rest, EncodedImages) else int(rest.images.shape[1])
