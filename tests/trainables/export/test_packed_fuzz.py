"""Whatever is done to a packed file: an error of ours, or the same weights; never a crash, never another network."""

import functools
import json
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from tests.trainables.packed_files import forged, header_end, packed, parts, resealed, same, sealed
from tests.trainables.packed_golden import FOLDER
from trainables.errors import CorruptFile
from trainables.export.inspect import inspect_file
from trainables.export.packed import PARTS, size_breakdown, unpack

READERS = (unpack, size_breakdown, inspect_file)
CONTENT = (FOLDER / "side8.mbq").read_bytes()
OTHER = (FOLDER / "side16.mbq").read_bytes()
decoded = functools.cache(unpack)


def refused_or_the_same_weights(file: bytes, original: bytes = CONTENT) -> bool:
    """Whether a file is refused; one that is not must hold legal values and the weights of the original."""
    try:
        found = unpack(file)
    except CorruptFile:
        return True
    assert all(np.array_equal(a, b) for a, b in zip(found.codes, decoded(original).codes, strict=True))
    for i in range(len(found.layers)):
        assert all(np.isfinite(values).all() for values in found.scales(i))
    found.network()
    return False


@pytest.mark.parametrize("content", [CONTENT, OTHER], ids=["side8", "side16"])
def test_every_truncation_is_refused(content: bytes) -> None:
    for length in range(len(content)):
        with pytest.raises(CorruptFile):
            unpack(content[:length])


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_a_truncated_and_a_longer_file(reader: Any) -> None:
    for file in (CONTENT[:-1], CONTENT[:500], CONTENT + b"\0", CONTENT + CONTENT):
        with pytest.raises(CorruptFile):
            reader(file)


def test_every_flipped_bit_is_refused() -> None:
    altered = bytearray(CONTENT)
    for place in range(len(CONTENT)):
        for bit in range(8):
            altered[place] ^= 1 << bit
            with pytest.raises(CorruptFile):
                unpack(bytes(altered))
            altered[place] ^= 1 << bit


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("length", [1, 64, 4096])
def test_every_overwritten_run_is_refused(value: int, length: int) -> None:
    for place in range(0, len(CONTENT) - length, max(7, length // 3)):
        altered = CONTENT[:place] + bytes([value]) * length + CONTENT[place + length :]
        if altered != CONTENT:
            with pytest.raises(CorruptFile):
                unpack(altered)


def test_a_file_of_two_halves_is_refused() -> None:
    for place in range(9, len(OTHER), 97):
        both = CONTENT[:place] + OTHER[place:]
        if both not in (CONTENT, OTHER):
            with pytest.raises(CorruptFile):
                unpack(both)


FOREIGN = {
    "empty": b"",
    "short": b"\x01\x02",
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "safetensors": save({"weight": np.zeros(3, np.float32)}),
    "safetensors with our key": save({"weight": np.zeros(3)}, metadata={"tune_app": "{}"}),
    "our key holds a list": save({"weight": np.zeros(3)}, metadata={"tune_app": "[1]"}),
    "our key holds a number": save({"weight": np.zeros(3)}, metadata={"tune_app": "1"}),
    "our key holds no JSON": save({"weight": np.zeros(3)}, metadata={"tune_app": "{"}),
    "our key is nested deep": save({"weight": np.zeros(3)}, metadata={"tune_app": "[" * 100_000}),
    "overlong header": struct.pack("<Q", 1 << 62) + b"{}",
    "header is a list": struct.pack("<Q", 2) + b"[]",
    "header is not text": struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc",
    "a checksum alone": sealed({"format": "mbq", "version": 2, "sha256": "0" * 64}, {"weight": np.zeros(3)}),
    "a checksum that is no text": sealed({"format": "mbq", "version": 2, "sha256": 5}, {}),
    "an empty checksum": sealed({"format": "mbq", "version": 2, "sha256": ""}, {}),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("reader", READERS)
def test_foreign_files_are_refused(name: str, reader: Any) -> None:
    with pytest.raises(CorruptFile) as caught:
        reader(FOREIGN[name])
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=3000))
def test_random_bytes_are_refused(content: bytes) -> None:
    for file in (content, struct.pack("<Q", len(content)) + content, CONTENT[:8] + content):
        with pytest.raises(CorruptFile):
            unpack(file)


@pytest.mark.parametrize(
    ("field", "value"), [("version", 1), ("version", 4), ("version", "2"), ("version", 2.0), ("format", "zip")]
)
def test_another_version_is_named(field: str, value: object) -> None:
    spec, arrays = parts(CONTENT)
    with pytest.raises(CorruptFile, match=r"packed file: format .* version .*, not mbq 2"):
        unpack(forged({**spec, field: value}, arrays))


def test_a_forged_file_with_a_right_checksum_is_read() -> None:
    assert forged(*parts(CONTENT)) == CONTENT
    assert resealed(CONTENT) == CONTENT


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value; of lists the first and the last item."""
    yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list) and value:
        for i in {0, len(value) - 1}:
            yield from places(value[i], (*path, i))


def put(value: Any, path: tuple[Any, ...], new: object) -> Any:
    """A copy with one place changed."""
    if not path:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = put(value[path[0]], path[1:], new)
    return copied


SPEC, ARRAYS = parts(CONTENT)
JUNK: list[Any] = [None, True, -1, 0, 1, 2, 7, 10**12, 10**30, 0.5, 1e300, float("nan"), "", "x", [], [0], {}, {"a": 1}]


@pytest.mark.parametrize("path", list(places(SPEC)), ids=lambda path: ".".join(map(str, path)) or "all")
def test_a_forged_field_is_refused_or_changes_no_weight(path: tuple[Any, ...]) -> None:
    for junk in JUNK:
        spec = put(SPEC, path, junk)
        if isinstance(spec, dict) and spec != SPEC:
            refused_or_the_same_weights(forged(spec, ARRAYS))


@pytest.mark.parametrize("name", [*SPEC, "architecture.widths", "scheme.side_bits", "scheme.w_bits_by_layer"])
def test_a_missing_or_an_unknown_field_is_refused(name: str) -> None:
    outer, _, inner = name.partition(".")
    spec = json.loads(json.dumps(SPEC))
    where = spec[outer] if inner else spec
    kept = where.pop(inner or outer)
    if name != "wide_biases":
        with pytest.raises(CorruptFile):
            unpack(sealed(spec, ARRAYS))
    where[(inner or outer) + "s"] = kept
    with pytest.raises(CorruptFile):
        unpack(sealed(spec, ARRAYS))


@pytest.mark.parametrize("part", [*PARTS, "header"])
@settings(max_examples=60)
@given(data=st.data())
def test_an_altered_part_with_a_right_checksum_changes_no_weight(part: str, data: st.DataObject) -> None:
    if part == "header":
        end = header_end(CONTENT)
        place = data.draw(st.integers(8, end - 2))
        new = data.draw(st.sampled_from([b"0", b"9", b"-", b'"', b"[", b"}", b" ", b"\\", b"\0", b"U8", b"F64"]))
        body = CONTENT[8:place] + new + CONTENT[place + len(new) : end]
        refused_or_the_same_weights(resealed(struct.pack("<Q", len(body)) + body + CONTENT[end:]))
        return
    array = ARRAYS[part].copy()
    raw = array.view(np.uint8)
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
        raw[place] = data.draw(st.integers(0, 255))
    refused_or_the_same_weights(forged(SPEC, {**ARRAYS, part: array}))


@pytest.mark.parametrize("side_bits", [8, 16, 32])
@pytest.mark.parametrize("name", PARTS)
def test_forged_arrays_are_refused(name: str, side_bits: int) -> None:
    spec, arrays = parts((FOLDER / f"side{side_bits}.mbq").read_bytes())
    array = arrays[name]
    longer = np.concatenate([array, array[:1]])
    for wrong in (array[:-1], array[None], longer, array[:0], array.astype(np.float64), array.view(np.int8)[:-3]):
        with pytest.raises(CorruptFile):
            unpack(forged(spec, {**arrays, name: wrong}))
    with pytest.raises(CorruptFile, match="other arrays"):
        unpack(forged(spec, {**arrays, "more": array}))
    with pytest.raises(CorruptFile, match="other arrays"):
        unpack(forged(spec, {key: value for key, value in arrays.items() if key != name}))
    if array.dtype.kind == "f":
        for value in (np.nan, np.inf, -np.inf):
            broken = array.copy()
            broken[-1] = value
            with pytest.raises(CorruptFile):
                unpack(forged(spec, {**arrays, name: broken}))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_step_that_is_not_positive_is_refused(value: float) -> None:
    steps = ARRAYS["steps"].copy()
    steps[0] = value
    with pytest.raises(CorruptFile, match="steps"):
        unpack(forged(SPEC, {**ARRAYS, "steps": steps}))


def test_side_information_that_overflows_is_refused() -> None:
    spec, arrays = parts(OTHER)
    references = np.full_like(arrays["references"], 3e38)
    multipliers = np.full_like(arrays["multipliers"], 60_000)
    with pytest.raises(CorruptFile, match="not finite"):
        unpack(forged(spec, {**arrays, "references": references, "multipliers": multipliers}))


def test_other_weights_are_refused_even_with_both_checksums_but_one() -> None:
    """The digest of the weights is checked against what was decoded, not against the file."""
    changed = put(SPEC, ("weights_sha256",), "0" * 63 + "1")
    with pytest.raises(CorruptFile, match="decoded weights"):
        unpack(forged(changed, ARRAYS))
    swapped = SPEC["kinds"][:]
    swapped[4], swapped[5] = swapped[5], swapped[4]
    assert swapped != SPEC["kinds"]
    with pytest.raises(CorruptFile):
        unpack(forged(put(SPEC, ("kinds",), swapped), ARRAYS))


HUGE: dict[str, dict[str, Any]] = {
    "classes": {"classes": 100_000, "model": {"name": "mobilenet_v2", "width": 4.0}},
    "width": {"model": {"name": "vgg16", "width": 4.0}},
    "widths": {"widths": [10**12] * 12},
    "widths of no machine": {"widths": [10**30] * 12},
}


@pytest.mark.parametrize("name", HUGE)
def test_a_header_that_asks_for_a_huge_network_is_refused_without_its_memory(name: str) -> None:
    architecture = {**SPEC["architecture"], "widths": [], **HUGE[name]}
    spec = {**SPEC, "architecture": architecture, "scheme": {**SPEC["scheme"], "w_bits_by_layer": []}}
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFile):
            unpack(forged(spec, ARRAYS))
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


def test_a_mobilenet_file_is_as_safe() -> None:
    _, content = packed(w_bits=3, a_bits=4, coder="rans")
    random = np.random.default_rng(0)
    for _ in range(300):
        place, bit = int(random.integers(len(content))), int(random.integers(8))
        altered = content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]
        with pytest.raises(CorruptFile):
            unpack(altered)
    for place in random.integers(header_end(content), len(content), 30).tolist():
        altered = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        refused_or_the_same_weights(resealed(altered), content)
    assert same(unpack(content), unpack(resealed(content)))
