"""What a destination was shown is remembered, and a damaged memory is none."""

import pytest

from trainables.storage import StoragePath, read_bytes, replace
from tune_app.tracking.memory import Memory


def test_what_was_noted_is_known_to_the_next_process(storage: StoragePath) -> None:
    first = Memory(storage / "m.json", "here")
    first.note("a", 3)
    first.note("b", 7, done=True)
    first.save()
    again = Memory(storage / "m.json", "here")
    assert (again.step("a"), again.step("b"), again.step("c"), again.done()) == (3, 7, 0, {"b"})


def test_destinations_are_kept_apart(storage: StoragePath) -> None:
    for place, step in (("here", 1), ("there", 2)):
        memory = Memory(storage / "m.json", place)
        memory.note("a", step)
        memory.save()
    assert [Memory(storage / "m.json", place).step("a") for place in ("here", "there")] == [1, 2]
    Memory(storage / "m.json", "here", again=True).save()
    assert [Memory(storage / "m.json", place).step("a") for place in ("here", "there")] == [0, 2]


def test_nothing_new_is_not_written(storage: StoragePath) -> None:
    memory = Memory(storage / "m.json", "here")
    memory.note("a", 1)
    memory.save()
    replace(storage / "m.json", b"mine")
    memory.note("a", 1)
    memory.save()
    assert read_bytes(storage / "m.json") == b"mine"


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"here": 3}', b'{"here": {"a": 3}}', b'{"here": {"a": ["x", 1]}}']
)
def test_a_damaged_memory_counts_as_none(tmp_path: StoragePath, content: bytes) -> None:
    replace(tmp_path / "m.json", content)
    assert Memory(tmp_path / "m.json", "here").step("a") == 0
