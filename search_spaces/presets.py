"""PRESETS: search spaces by name, for `space: NAME` in a spec; another one is one more entry."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FRACTIONS = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
SPARSITIES = [0, 0.5, 0.6, 0.7, 0.8, 0.9]


@dataclass(frozen=True)
class Preset:
    """A named space: what it is for, the parts of `base` that it changes, and its parameters as a spec has them."""

    description: str
    needs: tuple[str, ...]
    space: Mapping[str, Any]


PRESETS: dict[str, Preset] = {
    "uniform": Preset(
        "one fraction of channels and one width for all layers",
        ("prune", "quantize"),
        {"prune_frac": FRACTIONS, "w_bits": [2, 3, 4, 5, 6, 8], "a_bits": [4, 6, 8]},
    ),
    "mixed": Preset(
        "weight bits by kind of layer",
        ("prune", "quantize"),
        {
            "prune_frac": FRACTIONS,
            "w_bits.depthwise": [4, 6, 8],
            "w_bits.expansion": [2, 3, 4, 6],
            "w_bits.projection": [2, 3, 4, 6],
            "w_bits.head": [2, 3, 4],
            "a_bits": [4, 6, 8],
        },
    ),
    "sparse": Preset(
        "channels and single weights; how channels are ranked matters only where some are removed",
        ("prune", "sparsify", "quantize"),
        {
            "prune_frac": [0, 0.2, 0.4, 0.6],
            "importance": {"of": ["l1", "l2", "bn_taylor"], "when": {"prune_frac": [0.2, 0.4, 0.6]}},
            "sparsity": SPARSITIES,
            "w_bits": [2, 3, 4, 6, 8],
            "a_bits": [4, 6, 8],
        },
    ),
    "seed_000": Preset(
        "16 points of structured pruning with training at few bits, as an earlier system swept them",
        ("prune", "quantize"),
        {"prune_frac": [0.25, 0.3, 0.35, 0.4], "w_bits": [4, 8], "a_bits": [4, 8]},
    ),
    "seed_001": Preset(
        "ten widths of all weights, as an earlier system swept them",
        ("quantize",),
        {"w_bits.all": [2, 3, 4, 5, 6, 7, 8, 12, 16, 32]},
    ),
    "seed_002": Preset(
        "12 points of sparsity with quantization after training, as an earlier system swept them",
        ("sparsify", "quantize"),
        {"sparsity": [0.5, 0.7, 0.9], "w_bits.all": [6, 8], "a_bits.all": [6, 8]},
    ),
    "seed_003": Preset(
        "30 pairs of widths of weights and activations, as an earlier system swept them",
        ("quantize",),
        {"w_bits.all": [1, 2, 4, 8, 16], "a_bits.all": [1, 2, 4, 8, 16, 32]},
    ),
    "seed_004": Preset(
        "eight widths of all weights, as an earlier system swept them",
        ("quantize",),
        {"w_bits.all": [2, 3, 4, 6, 8, 12, 16, 32]},
    ),
}
