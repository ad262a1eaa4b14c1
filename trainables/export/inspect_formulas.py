"""What the size formulas of earlier systems say of the network in a packed file, beside the file's own bytes."""

from collections.abc import Callable

import numpy as np

from trainables.config import FLOAT_BITS, Frozen
from trainables.costs.size_formulas import (
    NetworkFacts,
    TensorFact,
    codebook_bytes,
    common_bits,
    dense_fact,
    every_parameter_bytes,
    float_bias_bytes,
    huffman_bits,
    huffman_bytes,
    layer_weight_bytes,
    layer_weights,
    nonzero_bytes,
    zero_runs,
)
from trainables.export.header import skeleton
from trainables.export.packed import PackedModel
from trainables.models.units import named_parameters

INDEX_BITS = 3


class FormulaReport(Frozen):
    """One formula: what it counts, which system used it, and the ratio of the unpruned fp32 network to its bytes.

    `system` is the recipe of an earlier system in `examples/recipes`, or its author where there is none, and empty for
    a rule that none of them has. `column` is the formula's name in the table of trials, if it has the parameters there.
    """

    name: str
    counts: str
    system: str
    column: str
    size_bytes: int
    compression_ratio: float


def formula_reports(packed: PackedModel, *, fp32_bytes: int, index_bits: int) -> tuple[FormulaReport, ...]:
    """All formulas; those with an index have it in `index_bits` bits. Zeros are those of the file, after rounding."""
    facts = file_facts(packed)
    reports = []
    for name, (counts, system, column, formula) in _formulas(index_bits).items():
        size = int(formula(facts))
        reports.append(
            FormulaReport(
                name=name,
                counts=counts,
                system=system,
                column=column,
                size_bytes=size,
                compression_ratio=fp32_bytes / size,
            )
        )
    return tuple(reports)


def file_facts(packed: PackedModel) -> NetworkFacts:
    """The parameters of the network before batch norm was folded, with the weights of the file."""
    model = skeleton(packed.header)
    codes = dict(zip(layer_weights(model), packed.codes, strict=True))
    bits = dict(zip(codes, (layer.bits for layer in packed.layers), strict=True))
    w_bits = common_bits(model)
    return NetworkFacts(
        w_bits,
        tuple(
            _fact(name, codes[name], bits[name]) if name in codes else dense_fact(name, p.shape, w_bits)
            for name, p in named_parameters(model)
        ),
    )


def _fact(name: str, codes: np.ndarray, bits: int) -> TensorFact:
    counts = np.unique(codes, return_counts=True)[1].tolist() if bits != FLOAT_BITS else []
    return TensorFact(
        name=name,
        kind="linear" if codes.ndim == 2 else "conv",
        numel=codes.size,
        nnz=int(np.count_nonzero(codes)),
        bits=bits,
        outputs=codes.shape[0],
        code_bits=huffman_bits(counts) if counts else codes.size * bits,
        zero_runs=zero_runs(codes),
    )


def _formulas(k: int) -> dict[str, tuple[str, str, str, Callable[[NetworkFacts], float]]]:
    """What each counts, whose it is, its column where these are its published parameters, and the function."""
    indexed = f"non-zero parameters, {k}-bit index"
    return {
        "every_parameter": ("every parameter at w_bits", "seed_000", "a", every_parameter_bytes),
        "nonzero": (
            f"{indexed}, 4 B per channel and layer",
            "seed_002",
            "b" if k == INDEX_BITS else "",
            lambda facts: nonzero_bytes(facts, index_bits=k),
        ),
        "nonzero_per_tensor": (
            f"{indexed}, 4 B per layer",
            "seed_002",
            "",
            lambda facts: nonzero_bytes(facts, index_bits=k, scales="tensor"),
        ),
        "nonzero_without_index": (
            "non-zero parameters, 4 B per channel and layer",
            "seed_002",
            "",
            lambda facts: nonzero_bytes(facts, index_bits=0),
        ),
        "nonzero_fillers": (
            f"{indexed}, filler zeros, 4 B per channel and layer",
            "",
            "",
            lambda facts: nonzero_bytes(facts, index_bits=k, fillers=True),
        ),
        "nonzero_fillers_norm": (
            "the same, and float32 statistics of batch norm",
            "",
            "",
            lambda facts: nonzero_bytes(facts, index_bits=k, fillers=True, norm_statistics=True),
        ),
        "layer_weights": ("weights of layers at their bits, 4 B per layer", "seed_004", "c", layer_weight_bytes),
        "float_biases": (
            "weights and batch norm's scales at their bits, float32 biases",
            "seed_001, seed_003",
            "d",
            float_bias_bytes,
        ),
        "codebooks": ("codebook, codes, gaps and bitmask per weight", "kalkura", "kalkura", codebook_bytes),
        "huffman": ("Huffman code of all weights, codebooks", "kalkura", "kalkura_huffman", huffman_bytes),
        "huffman_biases": (
            "the same, and float32 biases",
            "",
            "",
            lambda facts: huffman_bytes(facts, biases=True),
        ),
    }
