import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.export.coders.bits import BLOCK, pack_bits, packed_bytes, unpack_bits

pytestmark = pytest.mark.numeric


@given(st.data(), st.integers(1, 16), st.lists(st.integers(0, 7), max_size=4))
def test_unpack_inverts_pack(data: st.DataObject, bits: int, shape: list[int]) -> None:
    count = int(np.prod(shape))
    values = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=count, max_size=count))
    codes = np.array(values, np.int64).reshape(shape)
    packed = pack_bits(codes, bits)
    assert packed.dtype == np.uint8
    assert len(packed) == packed_bytes(count, bits) == -(-count * bits // 8)
    assert np.array_equal(unpack_bits(packed, bits, count), codes.reshape(-1))


@pytest.mark.parametrize(
    ("codes", "bits", "expected"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 0], 3, "d1581f"),
        ([1, 2, 15], 4, "210f"),
        ([1, 2, 3, 0], 2, "39"),
        ([1, 0, 0, 0, 0, 0, 0, 0, 1], 1, "0101"),
        ([0, 128, 255], 8, "0080ff"),
        ([0x123, 0x456], 12, "236145"),
        ([0x1234, 0xFFFF], 16, "3412ffff"),
        ([], 5, ""),
    ],
)
def test_layout(codes: list[int], bits: int, expected: str) -> None:
    assert pack_bits(np.array(codes, np.int64), bits).tobytes().hex() == expected


@given(st.integers(2, 16), st.integers(1, 40))
def test_element_i_starts_at_bit_i_times_bits(bits: int, count: int) -> None:
    codes = np.random.default_rng(count).integers(0, 2**bits, count)
    stream = sum(int(c) << (i * bits) for i, c in enumerate(codes))
    assert int.from_bytes(pack_bits(codes, bits).tobytes(), "little") == stream


def test_the_order_of_memory_does_not_matter() -> None:
    codes = np.arange(12).reshape(3, 4)
    assert np.array_equal(pack_bits(np.asfortranarray(codes), 4), pack_bits(codes, 4))


@pytest.mark.parametrize("codes", [[-1], [8], [0, 300], [256]])
def test_a_code_that_does_not_fit_is_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError, match=r"must lie in 0\.\.7"):
        pack_bits(np.array(codes), 3)


@pytest.mark.parametrize("length", [0, 2, 4])
def test_a_stream_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="take 3 bytes"):
        unpack_bits(np.zeros(length, np.uint8), 3, 8)


@pytest.mark.parametrize("bits", [3, 12])
@pytest.mark.parametrize("count", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_blocks_join_without_a_seam(bits: int, count: int) -> None:
    codes = np.random.default_rng(count).integers(0, 2**bits, count)
    packed = pack_bits(codes, bits)
    assert len(packed) == packed_bytes(count, bits)
    assert np.array_equal(unpack_bits(packed, bits, count), codes)
    edge = codes[BLOCK - 8 :]
    assert np.array_equal(packed[(BLOCK - 8) * bits // 8 :], pack_bits(edge, bits))
