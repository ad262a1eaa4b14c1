"""The side information of all layers as three arrays of the file, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from trainables.errors import CorruptFile
from trainables.quant.side_info import SideInfo

SIDE_DTYPES: dict[int, dict[str, Any]] = {
    32: dict.fromkeys(("multipliers", "biases", "references"), np.float32),
    16: {"multipliers": np.float16, "biases": np.float16, "references": np.float32},
    8: {"multipliers": np.int8, "biases": np.uint8, "references": np.float32},
}
"""The arrays' types by bits of side information; bytes of biases are int8, or int16 in layers that need it."""
REFERENCES = {32: 1, 16: 1, 8: 3}
"""The references of a layer by bits of side information: see `SideInfo`."""


def to_arrays(infos: Sequence[SideInfo]) -> dict[str, np.ndarray]:
    """Returns one array each of multipliers, biases and references, layers in order."""
    biases = [_numpy(info.bias) for info in infos]
    return {
        "multipliers": np.concatenate([_numpy(info.multiplier) for info in infos]),
        "biases": np.concatenate([b.view(np.uint8) if b.dtype.kind == "i" else b for b in biases]),
        "references": np.concatenate([_numpy(info.reference) for info in infos]),
    }


def from_arrays(
    arrays: Mapping[str, np.ndarray], channels: Sequence[int], side_bits: int, wide: Sequence[int]
) -> list[SideInfo]:
    """Returns the side information of layers with these numbers of output channels; `wide` have int16 biases.

    Raises CorruptFile when an array has another length, or a multiplier or bias is not finite.
    """
    sizes = {
        "multipliers": list(channels),
        "biases": [count * (2 if i in wide else 1) for i, count in enumerate(channels)],
        "references": [REFERENCES[side_bits]] * len(channels),
    }
    parts = {name: _split(name, arrays[name], lengths) for name, lengths in sizes.items()}
    infos = []
    for i, (multiplier, bias, reference) in enumerate(zip(*parts.values(), strict=True)):
        signed = bias.view("<i2" if i in wide else np.int8) if side_bits == 8 else bias
        info = SideInfo(*(torch.from_numpy(array) for array in (reference, multiplier, signed)))
        if not all(bool(torch.isfinite(tensor).all()) for tensor in info.exact()):
            raise CorruptFile("packed file: a multiplier or bias is not finite")
        infos.append(info)
    return infos


def _split(name: str, array: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """Cuts an array into parts of these lengths, which must be all of it."""
    if array.shape != (sum(lengths),):
        raise CorruptFile(f"packed file: {name} has shape {array.shape}, the network needs ({sum(lengths)},)")
    return [part.copy() for part in np.split(array, np.cumsum(lengths)[:-1])]


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    """Returns a tensor as an array, from whatever device."""
    return tensor.detach().cpu().numpy()
