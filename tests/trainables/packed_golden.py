"""Networks of the golden files, made of digests alone: the same on every machine, whatever the versions.

`python -m tests.trainables.packed_golden` writes the files again; only a new version of the format needs it. What
a later configuration adds has its default in an older file.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.trainables.factories import make_architecture
from trainables.config import QuantScheme
from trainables.export.packed import Header, pack
from trainables.models.attach import activation_quantizers, attach_quantizers_
from trainables.models.model import Model, build
from trainables.models.quantizer import Quantizer
from trainables.models.units import ConvUnit, units
from trainables.quant.fold import round_side_info_

FOLDER = Path(__file__).parent / "golden"
BITS = (32, 4, 2, 3, 4, 5, 6, 8, 6, 12, 4, 16, 3, 8)
"""Of the 14 layers of a VGG16 of 5,000 weights."""


def golden_header(side_bits: int) -> Header:
    """A scheme that has layers of most widths."""
    architecture = make_architecture("vgg16", width=0.02, widths={"features.12": 9})
    with torch.device("meta"):
        layers = units(build(architecture))
    bits = dict(zip(layers, BITS, strict=True))
    scheme = QuantScheme(w_bits=5, a_bits=4, side_bits=side_bits, w_bits_by_layer=bits)
    return Header(architecture=architecture, scheme=scheme, mean=(0.5,), std=(0.25,))


def golden_network(side_bits: int) -> Model:
    """Weights of several distributions, batch norm with a dead channel, rounded side information."""
    header = golden_header(side_bits)
    model = build(header.architecture).eval()
    attach_quantizers_(model, header.scheme)
    with torch.no_grad():
        for i, (name, unit) in enumerate(units(model).items()):
            _fill_(unit.layer.weight, name, (_bell, _peak, _lopsided, _flat)[i % 4])
            quantizer = unit.weight_point.quantizer
            if isinstance(quantizer, Quantizer):
                quantizer.step.copy_(torch.full_like(quantizer.step, 1 / quantizer.qp))
            if unit.layer.bias is not None:
                _fill_(unit.layer.bias, f"{name}.bias")
            if isinstance(unit, ConvUnit) and isinstance(unit.bn, nn.BatchNorm2d):
                for part in ("weight", "bias", "running_mean", "running_var"):
                    _fill_(getattr(unit.bn, part), f"{name}.{part}")
                unit.bn.running_var.abs_().add_(0.25)  # type: ignore[union-attr]
                unit.bn.weight[0] = 0
        for quantizer in activation_quantizers(model).values():
            quantizer.step.fill_(0.125)
    round_side_info_(model, side_bits=side_bits)
    return model


def _draw(name: str, count: int) -> np.ndarray:
    """Multiples of 2^−15 in (−1, 1)."""
    raw = b"".join(hashlib.sha256(f"{name}{i}".encode()).digest() for i in range(-(-count // 16)))
    return np.frombuffer(raw, "<i2")[:count] / 32768.0


def _flat(name: str, count: int) -> np.ndarray:
    return _draw(name, count)


def _bell(name: str, count: int) -> np.ndarray:
    return sum((_draw(f"{name}/{i}", count) for i in range(4)), np.zeros(count)) / 4


def _peak(name: str, count: int) -> np.ndarray:
    values = _draw(name, count)
    return values * values * values


def _lopsided(name: str, count: int) -> np.ndarray:
    values = np.abs(_draw(name, count))
    return np.where(values < 0.7, 0.0, values)


def _fill_(tensor: torch.Tensor, name: str, shape: Callable[[str, int], np.ndarray] = _flat) -> None:
    tensor.copy_(torch.from_numpy(shape(name, tensor.numel())).view_as(tensor))


if __name__ == "__main__":
    for bits in (8, 16):
        (FOLDER / f"side{bits}.mbq").write_bytes(pack(golden_network(bits), golden_header(bits)))
