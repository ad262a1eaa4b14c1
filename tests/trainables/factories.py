"""Small data sets, networks and contexts, shared by the tests of this folder."""

import dataclasses
import functools
from typing import Any

import numpy as np
import torch
from torch import nn

import trainables.pipeline  # noqa: F401  (registers the stages)
from trainables.config import (
    CAPTURED,
    MODELS,
    Architecture,
    Augment,
    ChannelPrune,
    DataConfig,
    LayerGroup,
    ModelConfig,
    QuantScheme,
    Schedule,
    height_and_width,
)
from trainables.data.data_sets import DataSet, load_data
from trainables.data.images import Images, ImageSet
from trainables.device import Device
from trainables.graph.capture import capture
from trainables.graph.graph import Graph
from trainables.graph.network_file import NetworkFile
from trainables.graph.operators import shapes
from trainables.models.model import Model, build
from trainables.models.prune_groups import PruneGroup, chosen
from trainables.models.unit_state import unit_state
from trainables.models.units import ConvUnit, QuantPoint, units
from trainables.quant.calibrate import calibrate_
from trainables.stages.saved_epochs import SavedEpochs
from trainables.stages.stage import StageContext

CPU = Device(torch.device("cpu"))
SMALL = {"mobilenet_v2": 0.25, "vgg16": 0.05}
"""Widths at which a network of each family is fast."""


def make_architecture(name: str = "mobilenet_v2", **changes: Any) -> Architecture:
    """A narrow network for 8x8 gray images; `width` and the fields of Architecture may be given."""
    model = ModelConfig(name=name, width=changes.pop("width", SMALL[name]))
    fields = {"model": model, "classes": 10, "channels": 1, "image_size": 8}
    return Architecture.model_validate({**fields, **changes})


def randomise_(model: nn.Module, seed: int = 0) -> None:
    """Random batch norm: positive, negative and zero scales, any mean and variance; random biases."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for unit in units(model).values():
            if unit.layer.bias is not None:
                unit.layer.bias.copy_(normal(unit.layer.bias))
            if isinstance(unit, ConvUnit) and isinstance(unit.bn, nn.BatchNorm2d):
                unit.bn.weight.copy_(normal(unit.bn.weight))
                unit.bn.weight[0] = 0
                unit.bn.bias.copy_(normal(unit.bn.bias))
                unit.bn.running_mean.copy_(normal(unit.bn.running_mean))
                unit.bn.running_var.copy_(normal(unit.bn.running_var).exp())


def make_model(name: str = "mobilenet_v2", seed: int = 0, **changes: Any) -> Model:
    """A network with random weights and random batch norm, in eval mode."""
    torch.manual_seed(seed)
    model = build(make_architecture(name, **changes))
    randomise_(model, seed)
    return model.eval()


def plain_module(model: Model, architecture: Architecture) -> nn.Module:
    """The module that a family's network was read from, with the network's weights, in eval mode."""
    plain = MODELS[architecture.model.name](architecture)
    plain.load_state_dict(dict(zip(plain.state_dict(), model.state_dict().values(), strict=True)))
    return plain.eval()


def captured(module: nn.Module, image: tuple[int, int, int] = (1, 8, 8)) -> tuple[Model, Architecture]:
    """The network of any module, with its weights, in training mode; and its architecture."""
    found = capture(module, image)
    model, architecture = of_graph(found.graph)
    model.load_state_dict(unit_state(NetworkFile(found.graph, found.state)))
    return model, architecture


def of_graph(graph: Graph) -> tuple[Model, Architecture]:
    """The network of a graph on square images, with fresh weights; and its architecture."""
    channels, size, _ = graph.image
    architecture = Architecture(
        model=ModelConfig(name=CAPTURED, graph=graph.stored()),
        classes=shapes(graph)[graph.output][1],
        channels=channels,
        image_size=size,
    )
    return build(architecture), architecture


def conv_unit(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    role: LayerGroup,
    stride: int = 1,
    bias: bool = False,
    activation: type[nn.Module] | None = None,
) -> ConvUnit:
    """A convolution that keeps the map's size, but for its stride, with batch norm and a quantized output."""
    return ConvUnit(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias),
        role=role,
        norm=nn.BatchNorm2d(outputs),
        activation=None if activation is None else activation(),
        out_point=QuantPoint(role, signed=activation is None),
    )


def inner_groups(model: Model) -> list[PruneGroup]:
    """The groups that pruning may touch with `head`, but without residual streams."""
    return chosen(model.prune_groups(), head=True, streams=False)


def make_images(count: int = 32, *, channels: int = 1, size: int | tuple[int, int] = 8, seed: int = 0) -> Images:
    """Random pixels with random labels."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, channels, *height_and_width(size)), dtype=np.uint8)
    labels = rng.integers(0, 10, count)
    return Images(ImageSet(pixels, labels), (0.5,) * channels, (0.3,) * channels, CPU.torch)


def make_quantized(name: str = "mobilenet_v2", seed: int = 0, **scheme: Any) -> Model:
    """A network with random weights and calibrated quantizers, in eval mode."""
    model = make_model(name, seed)
    calibrate_(model, QuantScheme(**scheme), make_images(seed=seed), seed)
    return model.eval()


def make_prune(prune_frac: float, **changes: Any) -> ChannelPrune:
    """Pruning to the channel that leaves weights as they are, without training."""
    none = {"reconstruction_images": 0, "fine_tune": Schedule(epochs=0, lr=0.1)}
    fields = {"prune_frac": prune_frac, "round_to": 1, **none, **changes}
    return ChannelPrune.model_validate(fields)


@functools.cache
def digits() -> DataSet:
    """The digits at their own size, 1,293 for training and 144 for validation."""
    return load_data(DataConfig(name="digits", image_size=8))


def few_digits(count: int = 200) -> DataSet:
    """The first digits of each split."""
    data = digits()
    place = np.arange(count)
    return dataclasses.replace(data, train=data.train.take(place), val=data.val.take(place[:50]))


def make_context(data: DataSet, saved_epochs: SavedEpochs | None = None, **changes: Any) -> StageContext:
    """What a stage may use, on CPU, without a parent unless one is given."""
    train, val = (Images(part, data.mean, data.std, CPU.torch) for part in (data.train, data.val))
    fields = {"augment": Augment(crop_padding=1, cutout=2), "seed": 0, **changes}
    fields |= {"saved_epochs": saved_epochs or SavedEpochs(None)}
    return StageContext(data=data, train=train, val=val, device=CPU, **fields)
