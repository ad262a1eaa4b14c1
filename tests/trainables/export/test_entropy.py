import hashlib
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.config import CODERS, FLOAT_BITS
from trainables.errors import CorruptFile
from trainables.export.coders.coder import Choice, LayerSpec, assembled, coded_bits, coders, decode, encode
from trainables.export.coders.entropy import GAUSSIAN, HISTOGRAM, LAPLACE, entropy_bits
from trainables.export.coders.smooth import SMOOTH
from trainables.export.coders.streams import CodedWeights, Source
from trainables.export.coders.zstd import LARGE, ZSTD
from trainables.testing.coders import BITS, CoderContract

pytestmark = pytest.mark.numeric

CHOICES: tuple[Choice, ...] = ("auto", "rans", "zstd", "bits")
RANS = ("gaussian", "histogram", "laplace", "smooth")
INTEGER_BITS = [bits for bits in BITS if bits < FLOAT_BITS]


class TestEveryRegisteredCoder(CoderContract):
    @pytest.fixture(autouse=True, params=CODERS.names())
    def _take(self, request: pytest.FixtureRequest) -> None:
        self.coder = CODERS[request.param]


def test_the_numbers_of_coders_in_a_file_do_not_change() -> None:
    numbers = {"bits": 0, "histogram": 1, "laplace": 2, "gaussian": 3, "zstd": 4, "float32": 5, "smooth": 6}
    assert {name: CODERS[name].kind for name in CODERS.names()} == numbers
    assert list(coders()) == sorted(numbers.values())


def layer(count: int, bits: int) -> LayerSpec:
    return LayerSpec("layer", (count,), bits)


def quantize(weights: np.ndarray, bits: int) -> np.ndarray:
    """Codes of (C, N) weights with the step of least squared error per channel."""
    largest = 2 ** (bits - 1) - 1
    best = np.zeros_like(weights)
    error = np.full(len(weights), np.inf)
    for share in np.linspace(0.2, 1.1, 40):
        step = np.maximum(share * np.abs(weights).max(axis=1, keepdims=True) / largest, 1e-12)
        codes = np.clip(np.rint(weights / step), -largest, largest)
        found = np.square(codes * step - weights).sum(axis=1)
        better = found < error
        best[better], error[better] = codes[better], found[better]
    return best.astype(np.int16)


def realistic(channels: int, inputs: int, *, sparse: str = "", shape: str = "normal", seed: int = 0) -> np.ndarray:
    """Weights of channels of different scales, pruned to a tenth by magnitude or at random."""
    random = np.random.default_rng(seed)
    weights = getattr(random, shape)(size=(channels, inputs)) * np.exp(0.3 * random.normal(size=(channels, 1)))
    if sparse == "magnitude":
        weights[np.abs(weights) < np.quantile(np.abs(weights), 0.9)] = 0
    if sparse == "random":
        weights[random.random(weights.shape) < 0.9] = 0
    return weights


def exact_entropy(codes: np.ndarray) -> float:
    """n · H, symbol by symbol."""
    values = codes.reshape(-1).tolist()
    share = {value: values.count(value) / len(values) for value in set(values)}
    return sum(-math.log2(share[value]) for value in values)


@pytest.mark.parametrize("codes", [[0], [1, 1, 1], [0, 1], [0, 0, 0, 1, -1, 3]])
def test_the_bound_is_the_entropy_of_the_single_codes(codes: list[int]) -> None:
    assert entropy_bits(np.array(codes)) == pytest.approx(exact_entropy(np.array(codes)))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("sparse", ["", "magnitude", "random"])
@pytest.mark.parametrize("shape", ["normal", "laplace"])
def test_a_network_of_layers_takes_at_most_1_02_times_its_entropy(bits: int, sparse: str, shape: str) -> None:
    sizes = [(32, 320), (64, 384), (160, 960)]
    weights = [quantize(realistic(c, n, sparse=sparse, shape=shape, seed=c), bits) for c, n in sizes]
    layers = [LayerSpec("layer", codes.shape, bits) for codes in weights]
    coded = encode(layers, weights, choice="rans")
    assert 8 * coded.size_bytes <= 1.02 * sum(entropy_bits(codes) for codes in weights)
    assert all(np.array_equal(a, b) for a, b in zip(decode(layers, coded)[0], weights, strict=True))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("sparse", ["", "magnitude", "random"])
def test_one_layer_of_25_000_weights_takes_at_most_1_02_times_its_entropy(bits: int, sparse: str) -> None:
    codes = quantize(realistic(64, 400, sparse=sparse), bits)
    coded = encode([LayerSpec("layer", codes.shape, bits)], [codes], choice="rans")
    assert 8 * coded.size_bytes <= 1.02 * entropy_bits(codes)


@pytest.mark.parametrize(
    ("make", "best"),
    [
        (lambda random, n: random.laplace(size=n) * 6, "laplace"),
        (lambda random, n: random.normal(size=n) * 12, "gaussian"),
        (lambda random, n: np.where(random.random(n) < 0.9, 0, random.normal(size=n) * 12), "gaussian"),
        (lambda random, n: random.choice([-2, -1, 0, 1, 2], n, p=[0.05, 0.6, 0.2, 0.05, 0.1]), "histogram"),
        (lambda random, n: np.where(np.arange(n) % 700 < 30, 31, 5 - np.arange(n) % 7), "zstd"),
        (lambda random, n: random.integers(-31, 32, n), "bits"),
    ],
)
def test_each_coder_has_layers_where_it_is_smallest(make: Callable[..., np.ndarray], best: str) -> None:
    count = 40 if best == "bits" else 4_200
    codes = np.clip(np.rint(make(np.random.default_rng(0), count)), -31, 31).astype(np.int8)
    assert coders()[encode([layer(count, 6)], [codes]).kinds[0]] == CODERS[best]


def test_a_large_layer_is_searched_for_repeats_where_there_are_some() -> None:
    random = np.random.default_rng(0)
    one_filter = random.integers(-7, 8, 4_608).astype(np.int8)
    repeated = np.tile(one_filter, 1 + LARGE // len(one_filter))
    drawn = np.clip(np.rint(random.normal(size=len(repeated)) * 3), -7, 7).astype(np.int8)
    spec = layer(len(repeated), 4)
    by_choice = {name: len(ZSTD.encode(codes, spec).data) for name, codes in (("same", repeated), ("drawn", drawn))}
    assert by_choice["same"] < len(repeated) / 80
    assert by_choice["drawn"] < 0.55 * len(drawn)
    assert encode([spec], [repeated]).kinds == (ZSTD.kind,)
    for codes in (repeated, drawn, np.zeros_like(drawn)):
        np.testing.assert_array_equal(decode([spec], encode([spec], [codes], choice="zstd"))[0][0], codes)


def test_a_hole_around_zero_is_smallest_with_the_smooth_model() -> None:
    codes = quantize(realistic(64, 400, sparse="magnitude"), 6)
    assert encode([LayerSpec("layer", codes.shape, 6)], [codes]).kinds == (SMOOTH.kind,)


@pytest.mark.parametrize(
    ("power", "digest"),
    [(1, "2addd88b523a8110"), (2, "bbc08b8697fb5499"), (3, "942779feea164ce8"), (5, "5134985108e99793")],
)
def test_every_processor_stores_the_same_bytes(power: int, digest: str) -> None:
    """Of the same codes, by each coder: flat ones, and such that most are small."""
    found, draws = hashlib.sha256(), np.random.default_rng(power)
    for bits in (2, 3, 4, 6, 8, 12, 16):
        for count in (7, 300, 9_000):
            flat = np.prod(draws.random((power, count)), axis=0)
            largest = 2 ** (bits - 1) - 1
            codes = np.rint(flat * largest * draws.choice([-1, 1], count)).astype(np.int16)
            spec = layer(count, bits)
            for coder in coders().values():
                if coder.fits(spec) and coder.family == "rans":
                    coded = coder.encode(codes.astype(spec.dtype), spec)
                    found.update(coded.model + coded.weights.tobytes() + struct.pack("<d", coded.stream_bits))
            found.update(encode([spec], [codes]).words)
    assert found.hexdigest()[:16] == digest


@settings(max_examples=40)
@given(st.data())
def test_any_layers_come_back_with_any_choice(data: st.DataObject) -> None:
    layers, weights = [], []
    for _ in range(data.draw(st.integers(1, 4))):
        bits = data.draw(st.sampled_from(INTEGER_BITS))
        shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
        spec = LayerSpec("layer", shape, bits)
        symbols = st.integers(-spec.largest, spec.largest) | st.sampled_from([0, 0, 1, -1, spec.largest])
        symbols = st.sampled_from([-1, 1]) if bits == 1 else symbols
        values = data.draw(st.lists(symbols, min_size=spec.count, max_size=spec.count))
        layers.append(spec)
        weights.append(np.array(values, spec.dtype).reshape(shape))
    sizes = {}
    for choice in CHOICES:
        coded = encode(layers, weights, choice=choice)
        found, bits_taken = decode(layers, coded)
        assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(found, weights, strict=True))
        assert 0 <= 8 * coded.size_bytes - sum(bits_taken) <= 32
        sizes[choice] = coded.size_bytes
    assert sizes["auto"] == min(sizes.values())


@pytest.mark.parametrize("choice", CHOICES)
def test_a_choice_takes_its_own_coders_and_others_only_where_none_can(choice: Choice) -> None:
    random = np.random.default_rng(0)
    codes = np.rint(random.normal(size=900) * 2).clip(-7, 7).astype(np.int8)
    values = random.normal(size=900).astype(np.float32)
    coded = encode([layer(900, 4), layer(900, FLOAT_BITS)], [codes, values], choice=choice)
    families = [coders()[kind].family for kind in coded.kinds]
    assert families[0] == ("rans" if choice == "auto" else choice)
    assert families[1] == "zstd" if choice == "zstd" else families[1] in ("bits", "zstd")


def test_a_layer_of_zeros_takes_two_bytes_whatever_its_size() -> None:
    coded = encode([layer(1_000_000, 8)], [np.zeros(1_000_000, np.int8)])
    assert (coded.kinds, coded.models, coded.words, coded.data) == ((HISTOGRAM.kind,), b"\0\0", b"", b"")
    assert not decode([layer(1_000_000, 8)], coded)[0][0].any()


def test_layers_share_one_stream() -> None:
    random = np.random.default_rng(0)
    weights = [np.rint(random.normal(size=200)).clip(-7, 7).astype(np.int8) for _ in range(50)]
    together = encode([layer(200, 4)] * 50, weights, choice="rans")
    apart = sum(encode([layer(200, 4)], [codes], choice="rans").size_bytes for codes in weights)
    assert together.size_bytes < apart - 50


def test_the_size_of_a_layer_alone_is_what_it_adds_to_a_network() -> None:
    codes = quantize(realistic(32, 320), 4)
    spec = LayerSpec("layer", codes.shape, 4)
    twice = encode([spec, spec], [codes, codes], choice="rans")
    assert 2 * coded_bits(spec, codes) == pytest.approx(8 * twice.size_bytes, abs=64, rel=1e-4)


@pytest.mark.parametrize("name", RANS)
@pytest.mark.parametrize("bits", INTEGER_BITS)
def test_a_model_costs_what_the_frequencies_it_stores_say(name: str, bits: int) -> None:
    """The stated size against the entropy of the stored frequencies, symbol by symbol."""
    spec = layer(3_000, bits)
    codes = np.rint(np.random.default_rng(bits).laplace(size=3_000) * max(0.5, spec.largest / 6))
    coded = CODERS[name].encode(codes.clip(-spec.largest, spec.largest).astype(spec.dtype), spec)
    grains = np.maximum(coded.weights / coded.weights.sum(), 2.0**-24)
    assert coded.stream_bits == pytest.approx(-np.log2(grains)[coded.symbols].sum(), rel=0.01)


@pytest.mark.parametrize(
    ("coder", "sample", "scale"),
    [(LAPLACE, "laplace", 9.0), (GAUSSIAN, "normal", 20.0), (LAPLACE, "laplace", 0.8), (GAUSSIAN, "normal", 1.3)],
)
def test_a_shape_is_fitted_to_its_data(coder: Any, sample: str, scale: float) -> None:
    random = np.random.default_rng(0)
    codes = np.rint(getattr(random, sample)(size=200_000) * scale).clip(-127, 127).astype(np.int8)
    assert coder.encode(codes, layer(200_000, 8)).size_bits < 1.003 * entropy_bits(codes)


@pytest.mark.parametrize("bits", INTEGER_BITS)
def test_the_knots_of_the_smooth_model_span_the_range_in_few_bytes(bits: int) -> None:
    spec = layer(500, bits)
    coded = SMOOTH.encode(np.zeros(500, spec.dtype), spec)
    assert len(coded.model) <= min(4 * bits, spec.largest + 1)
    assert len(coded.weights) == 2 * spec.largest + 1
    assert np.array_equal(coded.weights, coded.weights[::-1])


def test_more_counts_than_16_bits_keep_rare_symbols() -> None:
    codes = np.zeros(300_000, np.int8)
    codes[7] = 3
    coded = encode([layer(300_000, 3)], [codes], choice="rans")
    assert np.array_equal(decode([layer(300_000, 3)], coded)[0][0], codes)
    assert HISTOGRAM.encode(codes, layer(300_000, 3)).size_bits < 200


def test_codes_that_pile_up_at_the_end_of_the_range_have_a_knot_of_their_own() -> None:
    codes = np.rint(np.random.default_rng(0).normal(size=60_000) * 90).clip(-127, 127).astype(np.int8)
    assert (codes == 127).mean() > 0.05
    assert SMOOTH.encode(codes, layer(60_000, 8)).size_bits < 1.004 * entropy_bits(codes)


@pytest.mark.parametrize("name", ["bits", "histogram", "zstd"])
def test_codes_beyond_the_range_of_the_layer_are_refused(name: str) -> None:
    """Written for a layer of more bits, or, where a width has a code to spare, with that one."""
    codes = np.array([8, -1, 0, 0] * 50, np.int8)
    coded = assembled([CODERS[name].encode(codes, layer(200, 5))])
    if name == "bits":
        coded = CodedWeights(coded.kinds, b"", b"", b"\xff" * 100)
    with pytest.raises(CorruptFile, match="outside ±7"):
        decode([layer(200, 4)], coded)


MODELS: dict[str, tuple[int, bytes]] = {
    "no histogram": (HISTOGRAM.kind, b""),
    "histogram beyond the range": (HISTOGRAM.kind, b"\x08\0" + b"\1\0" * 17),
    "histogram of nothing": (HISTOGRAM.kind, b"\x01\0" + bytes(6)),
    "half a histogram": (HISTOGRAM.kind, b"\x07\0" + b"\1\0" * 10),
    "negative zero share": (LAPLACE.kind, np.float16(-1).tobytes() + np.float32(0.5).tobytes()),
    "infinite zero share": (LAPLACE.kind, np.float16(np.inf).tobytes() + np.float32(0.5).tobytes()),
    "no number": (GAUSSIAN.kind, np.float16(np.nan).tobytes() + np.float32(0.5).tobytes()),
    "no decay": (GAUSSIAN.kind, np.float16(1).tobytes() + np.float32(0).tobytes()),
    "growth": (LAPLACE.kind, np.float16(1).tobytes() + np.float32(-0.5).tobytes()),
    "more than full decay": (LAPLACE.kind, np.float16(1).tobytes() + np.float32(1.5).tobytes()),
    "smooth of nothing": (SMOOTH.kind, bytes(8)),
    "too few knots": (SMOOTH.kind, b"\1" * 7),
    "more models than layers": (SMOOTH.kind, b"\1" * 9),
    "an unknown coder": (99, b""),
    "a negative coder": (-1, b""),
    "a coder of float layers": (5, b""),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_no_encoder_writes_is_refused(name: str) -> None:
    kind, model = MODELS[name]
    words = np.array([1, 2, 3], "<u4").tobytes()
    with pytest.raises(CorruptFile):
        decode([layer(20, 4)], CodedWeights((kind,), model, words, b""))


@pytest.mark.parametrize("words", [b"\1", b"\1\0\0", bytes(4), b"\1\0\0\0" + bytes(4)])
def test_a_stream_that_no_encoder_writes_is_refused(words: bytes) -> None:
    with pytest.raises(CorruptFile):
        Source(b"", words, b"")


@pytest.mark.parametrize("part", ["models", "words", "data"])
def test_what_is_left_over_is_refused(part: str) -> None:
    codes = np.arange(-7, 8, dtype=np.int8)
    coded = encode([layer(15, 4)], [codes], choice="rans")
    streams = {"models": coded.models, "words": coded.words, "data": coded.data}
    streams[part] += b"\1\0\0\0"
    with pytest.raises(CorruptFile):
        decode([layer(15, 4)], CodedWeights(coded.kinds, **streams))


@pytest.mark.parametrize("length", [0, 10, 2**31])
def test_a_frame_of_another_length_is_refused_before_it_takes_memory(length: int) -> None:
    codes = np.zeros(1_000, np.int8)
    coded = encode([layer(1_000, 8)], [codes], choice="zstd")
    for wrong in (
        CodedWeights(coded.kinds, np.array(length, "<u4").tobytes(), b"", coded.data),
        CodedWeights(
            coded.kinds, coded.models, b"", encode([layer(10**7, 8)], [np.zeros(10**7, np.int8)], choice="zstd").data
        ),
    ):
        with pytest.raises(CorruptFile):
            decode([layer(1_000, 8)], wrong)
