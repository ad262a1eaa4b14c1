import dataclasses
import heapq
import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.trainables.factories import inner_groups
from trainables.config import MODELS, Architecture, ModelConfig, QuantScheme
from trainables.costs.size_formulas import (
    FORMULAS,
    NetworkFacts,
    TensorFact,
    codebook,
    entries,
    every_parameter,
    float_bias,
    formula_bytes,
    huffman,
    huffman_bits,
    layer_weight,
    network_facts,
    nonzero,
    total_bytes,
    zero_runs,
)
from trainables.models.attach import attach_quantizers_, weight_quantizer
from trainables.models.model import Model, build
from trainables.models.units import count_parameters, units

WHOLE_NETWORKS = True

pytestmark = pytest.mark.numeric

PARAMETERS = 2_236_682
LAYER_WEIGHTS = 2_202_560


def mobilenet(*, prune_frac: float = 0.0, classes: int = 10) -> Model:
    """Full width, 32x32 color images, no parameter zero."""
    full = Architecture(model=ModelConfig(), classes=classes, channels=3, image_size=32)
    with torch.device("meta"):
        model = build(full)
    sizes = {g.name: units(model)[g.source].layer.weight.shape[0] for g in inner_groups(model) if not g.optional}
    widths = {name: size - max(1, math.floor(size * prune_frac + 1e-9)) for name, size in sizes.items()}
    if prune_frac:
        full = full.model_copy(update={"widths": widths})
        with torch.device("meta"):
            model = build(full)
    model = model.to_empty(device="cpu")
    for parameter in model.parameters():
        torch.nn.init.ones_(parameter)
    return model


def facts_at(w_bits: int, **network: float) -> NetworkFacts:
    """The facts of a network whose weights all have w_bits."""
    found = network_facts(mobilenet(**network))
    tensors = (t if t.kind == "bias" else dataclasses.replace(t, bits=w_bits) for t in found.tensors)
    return NetworkFacts(w_bits, tuple(tensors))


def sparse(facts: NetworkFacts, zeros: int) -> NetworkFacts:
    """The same with so many zeros, in the first tensors that have room."""
    tensors = []
    for tensor in facts.tensors:
        here = min(zeros, tensor.numel) if tensor.kind == "conv" else 0
        zeros -= here
        tensors.append(dataclasses.replace(tensor, nnz=tensor.numel - here))
    assert zeros == 0
    return dataclasses.replace(facts, tensors=tuple(tensors))


def vgg16_with_three_linear_layers() -> NetworkFacts:
    """Convolutions with bias and batch norm, then 512 to 4096 to 4096 to 10; 8 bits."""

    def layer(kind: str, inputs: int, outputs: int) -> Iterator[TensorFact]:
        numel = inputs * outputs * (9 if kind == "conv" else 1)
        sizes = {kind: numel, "bias": outputs} | ({"scale": outputs} if kind == "conv" else {})
        for part, count in [*sizes.items(), *([("bias", outputs)] if kind == "conv" else [])]:
            bits = 32 if part == "bias" else 8
            yield TensorFact(part, part, count, count, bits, outputs, count * bits)

    widths = [3, 64, 64, 128, 128, 256, 256, 256, *[512] * 6]
    convs = [fact for pair in itertools.pairwise(widths) for fact in layer("conv", *pair)]
    linears = [fact for pair in ((512, 4096), (4096, 4096), (4096, 10)) for fact in layer("linear", *pair)]
    return NetworkFacts(8, (*convs, *linears))


def ratio(parameters: int, size_bytes: float) -> str:
    return f"{4 * parameters / size_bytes:.2f}"


def mebibytes(size_bytes: float) -> str:
    return f"{size_bytes / 2**20:.2f}"


@pytest.mark.parametrize(
    ("prune_frac", "w_bits", "size_bytes", "printed"),
    [(0.25, 8, 1_784_954, "5.01"), (0.3, 4, 847_748, "10.55"), (0.4, 4, 757_428, "11.81"), (0.45, 4, 712_202, "12.56")],
)
def test_every_parameter_at_w_bits(prune_frac: float, w_bits: int, size_bytes: int, printed: str) -> None:
    found = total_bytes(every_parameter(facts_at(w_bits, prune_frac=prune_frac)))
    assert found == size_bytes
    assert ratio(PARAMETERS, found) == printed
    assert printed != "11.81" or f"{found / 2**20:.3f}" == "0.722"


@pytest.mark.parametrize(
    ("sparsity", "nnz", "w_bits", "printed"),
    [(0.5, 1_135_402, 8, "5.49"), (0.7, 694_890, 8, "8.74"), (0.8424, 381_246, 6, "17.99")],
)
def test_non_zero_parameters_with_an_index(sparsity: float, nnz: int, w_bits: int, printed: str) -> None:
    facts = sparse(facts_at(w_bits), math.floor(sparsity * LAYER_WEIGHTS))
    assert sum(t.nnz for t in facts.tensors) == nnz
    found = total_bytes(nonzero(facts))
    assert ratio(PARAMETERS, found) == printed
    if nnz == 694_890:
        assert found == 1_023_949.75
        assert f"{found / 2**20:.4f}" == "0.9765"
    assert found - nnz * (w_bits + 3) / 8 == 68_476


def scattered(facts: NetworkFacts, nnz: int) -> NetworkFacts:
    """The same with so many non-zero elements at random places of all parameters."""
    rng = np.random.default_rng(0)
    mask = np.zeros(PARAMETERS, bool)
    mask[rng.permutation(PARAMETERS)[:nnz]] = True
    ends = list(itertools.accumulate(t.numel for t in facts.tensors))
    parts = np.split(mask, ends[:-1])
    tensors = (
        dataclasses.replace(tensor, nnz=int(part.sum()), zero_runs=zero_runs(part))
        for tensor, part in zip(facts.tensors, parts, strict=True)
    )
    return dataclasses.replace(facts, tensors=tuple(tensors))


@pytest.mark.parametrize(
    ("nnz", "w_bits", "claimed", "with_fillers", "with_norm"),
    [(1_135_402, 8, 5.49, 5.47, 5.05), (694_890, 8, 8.74, 8.32, 7.39), (381_246, 6, 17.99, 14.4, 11.8)],
)
def test_three_bits_cannot_index_every_gap_without_fillers(
    nnz: int, w_bits: int, claimed: float, with_fillers: float, with_norm: float
) -> None:
    facts = scattered(facts_at(w_bits), nnz)
    assert 4 * PARAMETERS / total_bytes(nonzero(facts)) == pytest.approx(claimed, abs=5e-3)
    digit = 0.05 if nnz == 381_246 else 0.005
    right = total_bytes(nonzero(facts, fillers=True))
    assert 4 * PARAMETERS / right == pytest.approx(with_fillers, abs=digit)
    whole = total_bytes(nonzero(facts, fillers=True, norm_statistics=True))
    assert whole - right == 136_448
    assert 4 * PARAMETERS / whole == pytest.approx(with_norm, abs=max(digit, 0.008))


def test_the_options_of_the_index() -> None:
    facts = sparse(facts_at(8), 1_000_000)
    nnz = PARAMETERS - 1_000_000
    assert total_bytes(nonzero(facts, index_bits=0)) == nnz + 68_476
    assert total_bytes(nonzero(facts, index_bits=5)) == nnz * 13 / 8 + 68_476
    assert total_bytes(nonzero(facts, scales="tensor")) == nnz * 11 / 8 + 4 * 53
    assert total_bytes(nonzero(facts, scales="none")) == nnz * 11 / 8
    biases = 17_056 + 10
    assert total_bytes(nonzero(facts, weights_only=True)) == (nnz - biases) * 11 / 8 + 68_476


def test_weights_alone_are_counted_at_their_own_bits() -> None:
    tensors = (
        TensorFact("a", "conv", 10, 4, 2, outputs=1, code_bits=0),
        TensorFact("b", "linear", 10, 6, 8, outputs=1, code_bits=0),
        TensorFact("c", "bias", 3, 3, 32, outputs=3, code_bits=0),
    )
    found = total_bytes(nonzero(NetworkFacts(8, tensors), weights_only=True, scales="none"))
    assert found == (4 * (2 + 3) + 6 * (8 + 3)) / 8


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 5))
def test_entries_are_those_of_an_encoder_whose_stream_can_be_decoded(mask: list[bool], index_bits: int) -> None:
    stream, zeros = list[tuple[int, bool]](), 0
    for value in mask:
        if value or zeros == 2**index_bits - 1:
            stream.append((zeros, value))
            zeros = 0
        else:
            zeros += 1
    while stream and not stream[-1][1]:
        stream.pop()  # nothing follows: the zeros at the end are those that no entry names
    decoded = [value for gap, last in stream for value in [*[False] * gap, last]]
    assert decoded == mask[: len(decoded)]
    assert not any(mask[len(decoded) :])
    array = np.array(mask, bool)
    fact = TensorFact("x", "conv", len(mask), int(array.sum()), 8, 1, 0, zero_runs=zero_runs(array))
    assert entries(fact, index_bits) == len(stream)


@pytest.mark.parametrize(
    ("w_bits", "printed", "printed_mebibytes"),
    [
        (32, "1.02", "8.40"),
        (16, "2.03", "4.20"),
        (12, "2.71", "3.15"),
        (8, "4.06", "2.10"),
        (6, "5.42", "1.58"),
        (4, "8.12", "1.05"),
        (3, "10.83", "0.79"),
        (2, "16.24", "0.53"),
    ],
)
def test_weights_of_layers(w_bits: int, printed: str, printed_mebibytes: str) -> None:
    found = total_bytes(layer_weight(facts_at(w_bits)))
    assert ratio(PARAMETERS, found) == printed
    assert mebibytes(found) == printed_mebibytes
    assert w_bits != 8 or found == 2_202_772


@pytest.mark.parametrize(
    ("classes", "w_bits", "size_bytes", "printed", "printed_mebibytes"),
    [
        (10, 5, 1_455_524, "6.15", "1.39"),
        (100, 1, 360_476, "26.10", "0.34"),
        (100, 2, 652_328, "14.42", "0.62"),
        (100, 4, 1_236_032, "7.61", "1.18"),
        (100, 8, 2_403_440, "3.91", "2.29"),
        (100, 16, 4_738_256, "1.99", "4.52"),
    ],
)
def test_weights_with_float_biases(
    classes: int, w_bits: int, size_bytes: int, printed: str, printed_mebibytes: str
) -> None:
    facts = facts_at(w_bits, classes=classes)
    found = total_bytes(float_bias(facts))
    assert found == size_bytes
    assert ratio(sum(t.numel for t in facts.tensors), found) == printed
    assert mebibytes(found) == printed_mebibytes


def test_weights_with_float_biases_of_a_large_network() -> None:
    facts = vgg16_with_three_linear_layers()
    assert sum(t.numel for t in facts.tensors) == 33_646_666
    assert total_bytes(float_bias(facts)) == 33_696_616
    assert ratio(33_646_666, total_bytes(float_bias(facts))) == "3.99"
    assert mebibytes(total_bytes(float_bias(facts))) == "32.14"


@pytest.mark.parametrize(
    ("kind", "numel", "nnz", "bits", "size_bytes"),
    [("conv", 864, 749, 8, 2_630), ("linear", 12_800, 12_347, 5, 17_162)],
)
def test_codebooks_of_one_tensor(kind: str, numel: int, nnz: int, bits: int, size_bytes: int) -> None:
    tensor = TensorFact("weight", kind, numel, nnz, bits, outputs=1, code_bits=0)
    assert total_bytes(codebook(NetworkFacts(8, (tensor,)))) == size_bytes


def test_codebooks_of_105_tensors_and_no_biases() -> None:
    facts = facts_at(8)
    assert len(facts.weights) == 105
    alone = [total_bytes(codebook(dataclasses.replace(facts, tensors=(t,)))) for t in facts.weights]
    assert total_bytes(codebook(facts)) == sum(alone)


def test_huffman_package() -> None:
    bits, codebooks = 11_975_882, 88_488
    tensor = TensorFact("weight", "conv", 10**6, nnz=codebooks // 4, bits=16, outputs=1, code_bits=bits)
    found = total_bytes(huffman(NetworkFacts(8, (tensor,))))
    assert found == 1_585_474
    assert ratio(PARAMETERS, found) == "5.64"
    biases = TensorFact("bias", "bias", 17_066, 17_066, 32, outputs=17_066, code_bits=0)
    assert ratio(PARAMETERS, total_bytes(huffman(NetworkFacts(8, (tensor, biases)), biases=True))) == "5.41"


def test_facts_of_a_network() -> None:
    model = mobilenet()
    facts = network_facts(model)
    assert sum(t.numel for t in facts.tensors) == count_parameters(model) == PARAMETERS
    assert sum(t.numel for t in facts.layers) == LAYER_WEIGHTS
    assert sum(t.outputs for t in facts.layers) == 17_066
    assert len(facts.layers) == 53
    assert [t.name for t in facts.tensors if t.kind == "linear"] == ["classifier.layer.weight"]
    assert sum(t.numel for t in facts.tensors if t.kind == "bias") == 17_056 + 10
    assert {t.bits for t in facts.tensors} == {32}


def test_facts_take_each_layers_bits_and_the_zeros_before_rounding() -> None:
    model = mobilenet()
    attach_quantizers_(model, QuantScheme(w_bits=4, w_bits_by_layer={"head": 6}))
    stem = units(model)["stem"].layer.weight
    with torch.no_grad():
        stem[:3] = 0
        stem[3:] = 1e-3  # rounds to zero: the step is 1
    facts = network_facts(model)
    by_name = {t.name: t for t in facts.tensors}
    assert facts.w_bits == 4
    assert by_name["stem.layer.weight"].bits == by_name["classifier.layer.weight"].bits == 8
    assert by_name["head.layer.weight"].bits == 6
    assert by_name["stem.bn.weight"].bits == 4
    assert by_name["stem.bn.bias"].bits == 32
    assert by_name["stem.layer.weight"].nnz == stem.numel() - 3 * 27
    assert by_name["stem.layer.weight"].code_bits == stem.numel(), "one symbol is left"


def test_code_bits_are_of_the_codes_with_zeros() -> None:
    model = mobilenet()
    attach_quantizers_(model, QuantScheme(w_bits=3))
    unit = units(model)["blocks.1.expand"]
    with torch.no_grad():
        unit.layer.weight.copy_(torch.arange(unit.layer.weight.numel()).view_as(unit.layer.weight) % 5 - 3)
    codes = weight_quantizer(unit).codes(unit.layer.weight).flatten().tolist()
    assert sorted(set(codes)) == [-3, -2, -1, 0, 1]
    fact = next(t for t in network_facts(model).tensors if t.name == "blocks.1.expand.layer.weight")
    assert fact.code_bits == slow_huffman_bits([codes.count(symbol) for symbol in set(codes)])


@pytest.mark.parametrize("name", sorted(MODELS.names()))
@pytest.mark.parametrize("w_bits", [2, 8, 32])
def test_every_formula_gives_whole_bytes_for_every_family(name: str, w_bits: int) -> None:
    shape = Architecture(model=ModelConfig(name=name, width=0.1), classes=10, channels=1, image_size=8)
    model = build(shape)
    attach_quantizers_(model, QuantScheme(w_bits=w_bits))
    found = formula_bytes(model)
    facts = network_facts(model)
    assert found == {formula: math.floor(total_bytes(size(facts))) for formula, size in FORMULAS.items()}
    assert all(isinstance(size, int) and size > 0 for size in found.values())
    assert found["a"] == count_parameters(model) * w_bits // 8


@given(st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any))
def test_huffman_bits_are_those_of_the_code(counts: list[int]) -> None:
    assert huffman_bits(counts) == slow_huffman_bits(counts)
    total = sum(counts)
    entropy = sum(c * math.log2(total / c) for c in counts if c)
    assert entropy - 1e-6 <= huffman_bits(counts) < entropy + total + 1


def slow_huffman_bits(counts: list[int]) -> int:
    """Builds the tree and adds up count × depth."""
    heap: list[tuple[int, int, object]] = [(c, i, c) for i, c in enumerate(counts) if c]
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, _, left), (b, i, right) = heapq.heappop(heap), heapq.heappop(heap)
        heapq.heappush(heap, (a + b, i + len(counts), (left, right)))

    def cost(node: object, depth: int) -> int:
        if isinstance(node, tuple):
            return cost(node[0], depth + 1) + cost(node[1], depth + 1)
        assert isinstance(node, int)
        return node * max(depth, 1)

    return cost(heap[0][2], 0)
