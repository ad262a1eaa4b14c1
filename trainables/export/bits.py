"""Plain bit packing of small unsigned integers, least significant bit first."""

import numpy as np


def pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """Packs codes in [0, 2**bits) into ceil(n · bits / 8) bytes, uint8.

    Bit j of element i is stream bit i · bits + j; stream bit k is bit (k mod 8) of byte k // 8.

    Raises:
        ValueError: a code does not fit.
    """
    flat = np.ascontiguousarray(codes).reshape(-1)
    if flat.size and (flat.min() < 0 or flat.max() >= 1 << bits):
        raise ValueError(f"codes must lie in 0..{(1 << bits) - 1}, but lie in {flat.min()}..{flat.max()}")
    planes = (flat.astype(np.uint8)[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return np.packbits(planes.reshape(-1), bitorder="little")


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """The inverse: `count` codes, uint8.

    Raises:
        ValueError: the stream has another length.
    """
    if len(packed) != packed_bytes(count, bits):
        raise ValueError(f"{count} codes of {bits} bits take {packed_bytes(count, bits)} bytes, not {len(packed)}")
    planes = np.unpackbits(packed, count=count * bits, bitorder="little").reshape(count, bits)
    codes: np.ndarray = (planes << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    return codes


def packed_bytes(count: int, bits: int) -> int:
    """Length of the stream of `count` codes."""
    return -(-count * bits // 8)
