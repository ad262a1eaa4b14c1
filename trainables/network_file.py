"""read_network: a network from a file of any kind: packed, a stage of the cache, or plain weights."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainables.config import Architecture
from trainables.data.data_sets import DataSet
from trainables.data.images import Images, ImageSet, normalized, pixel_constants
from trainables.device import Device
from trainables.errors import ConfigError
from trainables.export.packed import unpack
from trainables.models.checkpoint_file import read_fitted
from trainables.models.model import Model, build
from trainables.stages.files import WEIGHTS, read_stage
from trainables.stages.markers import FINISHED
from trainables.storage import StoragePath, exists, read_bytes, storage_path
from trainables.train.predict import Advance, predict

PACKED = ".mbq"
"""The suffix of packed files."""


@dataclass(frozen=True)
class Network:
    """A network on the CPU, and the constants that normalize its input; None where only the data set has them."""

    model: Model
    architecture: Architecture
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size_bytes: int | None = None

    def predict(self, images: ImageSet, data: DataSet, device: Device, *, advance: Advance | None = None) -> np.ndarray:
        """Returns class probabilities of images of a data set, (N, classes); the network moves to the device.

        Raises:
            ConfigError: a logit is NaN or infinite.
        """
        placed = Images(images, self.mean or data.mean, self.std or data.std, device.torch)
        return predict(device.place(self.model), placed, advance=advance)


class FromPixels(nn.Module):
    """A network that takes pixels, as `model.onnx` does: (N, C, H, W) from 0 to 255, of any type of numbers.

    It returns logits (N, classes), and normalizes by the constants that the packed file has.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        assert network.mean is not None, "a packed file has them"
        assert network.std is not None
        mean, scale = pixel_constants(network.mean, network.std)
        self.mean, self.scale = nn.Buffer(mean, persistent=False), nn.Buffer(scale, persistent=False)
        self.network = network.model.to(memory_format=torch.channels_last)  # as it was measured

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns logits (N, classes) of pixels (N, C, H, W)."""
        logits: Tensor = self.network(normalized(pixels, self.mean, self.scale))
        return logits


def load_network(place: str | StoragePath) -> FromPixels:
    """Loads the network of a packed file, `model.mbq`, on the CPU and in eval mode.

    Raises:
        ConfigError: there is no such file.
        CorruptFile: it is no packed file, or truncated or altered.
    """
    return FromPixels(packed_network(_content(storage_path(place)))).eval()


def packed_network(content: bytes) -> Network:
    """Decodes the network of a packed file, or raises CorruptFile: the bytes are no packed file."""
    packed = unpack(content)
    header = packed.header
    return Network(packed.network(), header.architecture, header.mean, header.std, len(content))


def stage_network(folder: StoragePath) -> Network:
    """Reads the network of a finished stage.

    Raises:
        CorruptFile: a file is missing or not what was written.
        TrialFailure: the stage is known to fail.
    """
    stage = read_stage(folder)
    return Network(stage.model(), stage.architecture)


def read_network(path: StoragePath, architecture: Architecture | None) -> Network:
    """Reads the network of a packed file (`*.mbq`), a stage (its folder, or the weights in it), or a file of weights.

    `architecture` is that of the network which plain weights belong to; the other files know their own.

    Raises:
        ConfigError: there is no such file, or it holds other weights than the architecture has, or none is given.
        CorruptFile: it is truncated or altered.
    """
    if path.suffix == PACKED:
        return packed_network(_content(path))
    for folder in (path, path.parent) if path.name == WEIGHTS else (path,):
        if exists(folder / FINISHED):
            return stage_network(folder)
    if architecture is None:
        raise ConfigError(f"{path} holds weights and does not say whose: name the experiment, or a spec's YAML file.")
    if not isinstance(path, Path):
        raise ConfigError(f"weights are read from a file of this machine, but got {path}: copy it first.")
    model = build(architecture)
    model.load_state_dict(model.state_dict() | read_fitted(path, model.state_dict()).state)
    return Network(model, architecture, size_bytes=path.stat().st_size)


def _content(path: StoragePath) -> bytes:
    try:
        return read_bytes(path)
    except OSError as err:
        reason = err.strerror or "no such file"
        raise ConfigError(f"cannot read {path}: {reason}. Give the path of a file.") from err


def check_fits(network: Network, data: DataSet, *, name: str) -> None:
    """Raises ConfigError, with both shapes, if a data set has other images or classes than the network is for."""
    made, found = network.architecture, data.val.images.shape[1:]
    if (made.image, made.classes) != (found, data.classes):
        takes, has = (" x ".join(map(str, shape)) for shape in (made.image, found))
        raise ConfigError(
            f"the network takes images of {takes} in {made.classes} classes, but {name} has {has} in {data.classes}: "
            "name its own data set."
        )
