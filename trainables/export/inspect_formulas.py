"""What the size formulas of earlier systems say of the network in a packed file, beside the file's own bytes."""

from collections.abc import Callable
from functools import partial

import numpy as np

from trainables.config import FLOAT_BITS, Frozen
from trainables.costs import size_formulas as formulas
from trainables.export.header import skeleton
from trainables.export.packed import PackedModel
from trainables.models.units import named_parameters

INDEX_BITS = 3
"""The bits of an index where none are named, as the published formula has them."""


class FormulaReport(Frozen):
    """A size formula: what it counts, which system used it, and the ratio of the unpruned fp32 network to its bytes.

    `system` is the recipe of an earlier system in `examples/recipes`, or its author where there is none, and empty for
    a rule that none of them has. `column` is the formula's name in the table of trials, if it has the parameters there.
    `terms` are the parts of its bytes, which it may round down to whole ones.
    """

    name: str
    counts: str
    system: str
    column: str
    size_bytes: int
    compression_ratio: float
    terms: tuple[formulas.Term, ...]


def formula_reports(packed: PackedModel, *, fp32_bytes: int, index_bits: int) -> tuple[FormulaReport, ...]:
    """Returns a report on each formula, with indices of `index_bits` bits and the file's zeros, after rounding."""
    facts, reports = file_facts(packed), []
    for name, counts, system, column, formula in _formulas(index_bits):
        terms = tuple(formula(facts))
        size = int(formulas.total_bytes(terms))
        known = {"name": name, "counts": counts, "system": system, "column": column}
        reports.append(FormulaReport(**known, size_bytes=size, compression_ratio=fp32_bytes / size, terms=terms))
    return tuple(reports)


def file_facts(packed: PackedModel) -> formulas.NetworkFacts:
    """Returns the parameters of the network before batch norm was folded, with the weights of the file."""
    model = skeleton(packed.header)
    codes = dict(zip(formulas.layer_weights(model), packed.codes, strict=True))
    bits = dict(zip(codes, (layer.bits for layer in packed.layers), strict=True))
    w_bits = formulas.common_bits(model)
    facts = (
        _fact(name, codes[name], bits[name]) if name in codes else formulas.dense_fact(name, p.shape, w_bits)
        for name, p in named_parameters(model)
    )
    return formulas.NetworkFacts(w_bits, tuple(facts))


def _fact(name: str, codes: np.ndarray, bits: int) -> formulas.TensorFact:
    """Returns what formulas need to know of a layer's weights."""
    counts = np.unique(codes, return_counts=True)[1].tolist() if bits != FLOAT_BITS else []
    return formulas.TensorFact(
        name=name,
        kind="linear" if codes.ndim == 2 else "conv",
        numel=codes.size,
        nnz=int(np.count_nonzero(codes)),
        bits=bits,
        outputs=codes.shape[0],
        code_bits=formulas.huffman_bits(counts) if counts else codes.size * bits,
        zero_runs=formulas.zero_runs(codes),
    )


def _formulas(k: int) -> list[tuple[str, str, str, str, Callable[[formulas.NetworkFacts], list[formulas.Term]]]]:
    """Returns each name, what it counts, whose it is, its column with its published parameters, and the function."""
    indexed, column = f"non-zero parameters, {k}-bit index", "b" if k == INDEX_BITS else ""
    by_channel, by_layer = "4 B per channel and layer", "4 B per layer"
    statistics, scales = "float32 statistics of batch norm", "batch norm's scales at their bits, float32 biases"
    nonzero = partial(formulas.nonzero, index_bits=k)
    fillers = partial(nonzero, fillers=True)
    return [
        ("every_parameter", "every parameter at w_bits", "seed_000", "a", formulas.every_parameter),
        ("nonzero", f"{indexed}, {by_channel}", "seed_002", column, nonzero),
        ("nonzero_per_tensor", f"{indexed}, {by_layer}", "seed_002", "", partial(nonzero, scales="tensor")),
        ("nonzero_without_index", f"non-zero parameters, {by_channel}", "seed_002", "", partial(nonzero, index_bits=0)),
        ("nonzero_fillers", f"{indexed}, filler zeros, {by_channel}", "", "", fillers),
        ("nonzero_fillers_norm", f"the same, and {statistics}", "", "", partial(fillers, norm_statistics=True)),
        ("layer_weights", f"weights of layers at their bits, {by_layer}", "seed_004", "c", formulas.layer_weight),
        ("float_biases", f"weights and {scales}", "seed_001, seed_003", "d", formulas.float_bias),
        ("codebooks", "codebook, codes, gaps and bitmask per weight", "kalkura", "kalkura", formulas.codebook),
        ("huffman", "Huffman code of all weights, codebooks", "kalkura", "kalkura_huffman", formulas.huffman),
        ("huffman_biases", "the same, and float32 biases", "", "", partial(formulas.huffman, biases=True)),
    ]
