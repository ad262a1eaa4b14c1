"""CoderContract: what every coder of weights must do, as tests to inherit."""

from collections.abc import Iterator

import numpy as np

from trainables.config import CODERS, FLOAT_BITS
from trainables.errors import CorruptFile
from trainables.export.coders.coder import Coder, LayerSpec, assembled
from trainables.export.coders.streams import Source

BITS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, FLOAT_BITS)
"""All widths of weights."""
SHAPES = ((1,), (3, 5), (8, 1, 3, 3), (40, 6, 3, 3))
"""A single weight, a linear layer, a depthwise and a plain convolution: from 1 to 2,160 weights."""


class CoderContract:
    """Subclass it in a test file and set `coder`, as a class attribute or by a fixture."""

    coder: Coder

    def test_weights_come_back_bit_for_bit(self) -> None:
        """Decoding gives the weights that were encoded, whatever their kind, and leaves nothing in the source."""
        for layer, weights in self._cases():
            source = assembled([self.coder.encode(weights, layer)]).source()
            found = self.coder.decode(layer, source)
            source.finish()
            assert found.dtype == layer.dtype
            assert found.shape == (layer.count,)
            assert found.tobytes() == weights.tobytes(), layer

    def test_layers_follow_one_another(self) -> None:
        """Every layer reads its own part of the streams that layers share."""
        cases = list(self._cases())
        source = assembled([self.coder.encode(weights, layer) for layer, weights in cases]).source()
        for layer, weights in cases:
            assert self.coder.decode(layer, source).tobytes() == weights.tobytes(), layer
        source.finish()

    def test_the_sizes_it_states_add_up(self) -> None:
        """The stated sizes add up to that of the file, but for whole words of the stream and rounded probabilities."""
        coded = [self.coder.encode(weights, layer) for layer, weights in self._cases()]
        stated = sum(layer.size_bits for layer in coded)
        assert abs(8 * assembled(coded).size_bytes - stated) <= 64 + 2e-3 * stated

    def test_equal_weights_give_equal_bytes(self) -> None:
        """Encoding the same weights twice gives the same bytes and does not change the weights."""
        for layer, weights in self._cases():
            kept = weights.copy()
            first, second = (assembled([self.coder.encode(weights, layer)]) for _ in range(2))
            assert first == second
            assert weights.tobytes() == kept.tobytes()

    def test_a_source_that_ends_early_is_refused(self) -> None:
        """Decoding fails if the last byte of the model or of the layer's own content is missing."""
        for layer, weights in self._cases():
            coded = assembled([self.coder.encode(weights, layer)])
            if coded.models:
                assert self._refuses(layer, Source(coded.models[:-1], coded.words, coded.data)), layer
            if coded.data:
                assert self._refuses(layer, Source(coded.models, coded.words, coded.data[:-1])), layer

    def test_any_other_bytes_are_refused_or_give_legal_weights(self) -> None:
        """Decoding a hostile file ends in an error of ours or in weights within the range, never in a crash."""
        random = np.random.default_rng(0)
        for layer, weights in self._cases():
            coded = assembled([self.coder.encode(weights, layer)])
            for _ in range(20):
                models, words, data = (_damaged(part, random) for part in (coded.models, coded.words, coded.data))
                # What a decoder opens: whole words, the last one not zero.
                words = words[: len(words) // 4 * 4] + b"\1\0\0\0"
                self._refuses(layer, Source(models, words, data))

    def test_its_kind_is_its_own(self) -> None:
        """The coder's number in the file fits into a byte, and no other coder has it."""
        assert 0 <= self.coder.kind < 256
        others = [CODERS[name] for name in CODERS.names() if CODERS[name] != self.coder]
        assert self.coder.kind not in [other.kind for other in others]

    def _refuses(self, layer: LayerSpec, source: Source) -> bool:
        """Whether decoding ends in CorruptFile; what it accepts must be legal."""
        try:
            weights = self.coder.decode(layer, source)
        except CorruptFile:
            return True
        assert weights.dtype == layer.dtype
        assert weights.shape == (layer.count,)
        assert layer.bits == FLOAT_BITS or np.abs(weights.astype(np.int64)).max() <= layer.largest
        return False

    def _cases(self) -> Iterator[tuple[LayerSpec, np.ndarray]]:
        """Yields the layers that the coder fits, of all widths and shapes, with weights of many distributions."""
        found = False
        for bits in BITS:
            for shape in SHAPES:
                layer = LayerSpec("layer", shape, bits)
                if self.coder.fits(layer):
                    found = True
                    for weights in _float_weights(layer) if bits == FLOAT_BITS else _codes(layer):
                        yield layer, weights
        assert found, "a coder fits some layer"


def _codes(layer: LayerSpec) -> Iterator[np.ndarray]:
    """Yields zeros, constants, extremes, dense and sparse distributions; flat, in the layer's dtype.

    One bit has their signs.
    """
    random, count, largest = np.random.default_rng(layer.bits), layer.count, layer.largest
    normal = np.rint(random.normal(size=count) * max(0.6, largest / 3)).clip(-largest, largest)
    peaked = np.rint(random.laplace(size=count) * max(0.4, largest / 12)).clip(-largest, largest)
    for values in (
        np.zeros(count),
        np.full(count, largest),
        np.full(count, -largest),
        np.where(np.arange(count) % 2, largest, -largest),
        np.where(np.arange(count) == count - 1, -1, 0),
        random.integers(-largest, largest + 1, count),
        normal,
        np.where(random.random(count) < 0.9, 0, normal),
        np.where(np.abs(peaked) < largest / 6, 0, peaked),
    ):
        yield (np.where(values < 0, -1, 1) if layer.bits == 1 else values).astype(layer.dtype)


def _float_weights(layer: LayerSpec) -> Iterator[np.ndarray]:
    """Yields normal and sparse values, and numbers at the edges of float32."""
    random = np.random.default_rng(0)
    normal = random.normal(size=layer.count)
    edges = [0.0, -0.0, 1e-45, -1e-38, 3.4e38, -3.4e38, 1.0]
    for values in (normal, np.where(random.random(layer.count) < 0.9, 0, normal), np.resize(edges, layer.count)):
        yield values.astype(layer.dtype)


def _damaged(stream: bytes, random: np.random.Generator) -> bytes:
    """Returns random bytes, or the stream with a changed byte, shorter or longer."""
    length = len(stream)
    if length == 0 or random.random() < 0.2:
        return random.bytes(int(random.integers(0, 3)) * 4 + length)
    place = int(random.integers(length))
    return [
        stream[:place] + random.bytes(1) + stream[place + 1 :],
        stream[:place],
        stream + random.bytes(4),
        random.bytes(length),
    ][int(random.integers(4))]
