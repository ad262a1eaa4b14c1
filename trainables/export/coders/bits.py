"""Plain bit packing of small unsigned integers, least significant bit first."""

import numpy as np

BLOCK = 1 << 20
"""Codes that are packed at a time: a multiple of 8, so that a block ends with a byte; memory stays below 50 MB."""


def pack_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """Packs codes in [0, 2**bits), bits 1 to 16, into ceil(n · bits / 8) bytes, uint8.

    Bit j of element i is stream bit i · bits + j; stream bit k is bit (k mod 8) of byte k // 8.

    Raises:
        ValueError: a code does not fit.
    """
    flat = np.ascontiguousarray(codes).reshape(-1)
    if flat.size and (flat.min() < 0 or flat.max() >= 1 << bits):
        raise ValueError(f"codes must lie in 0..{(1 << bits) - 1}, but lie in {flat.min()}..{flat.max()}")
    dtype = _dtype(bits)
    places = np.arange(bits, dtype=dtype)
    packed = [
        np.packbits(((flat[i : i + BLOCK].astype(dtype)[:, None] >> places) & 1).astype(np.uint8), bitorder="little")
        for i in range(0, flat.size, BLOCK)
    ]
    return np.concatenate(packed) if packed else np.zeros(0, np.uint8)


def unpack_bits(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Unpacks `count` codes, uint8, or uint16 above 8 bits; raises ValueError if `pack_bits` packed another number."""
    if len(packed) != packed_bytes(count, bits):
        raise ValueError(f"{count} codes of {bits} bits take {packed_bytes(count, bits)} bytes, not {len(packed)}")
    dtype = _dtype(bits)
    places = np.arange(bits, dtype=dtype)
    codes = np.empty(count, dtype)
    for i in range(0, count, BLOCK):
        part = codes[i : i + BLOCK]
        block = packed[i * bits // 8 : (i + BLOCK) * bits // 8]
        planes = np.unpackbits(block, count=len(part) * bits, bitorder="little").reshape(-1, bits)
        part[:] = (planes.astype(dtype) << places).sum(axis=1, dtype=dtype)
    return codes


def packed_bytes(count: int, bits: int) -> int:
    """Returns the length of the stream of `count` codes."""
    return -(-count * bits // 8)


def _dtype(bits: int) -> type[np.unsignedinteger]:
    """Returns the narrowest type that holds codes of so many bits."""
    return np.uint8 if bits <= 8 else np.uint16
