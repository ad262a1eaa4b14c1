"""What is promised of files, on a disk and in an object store."""

import json
from typing import Any

import pytest

from tests.stored import content, lines
from tests.together import Together
from trainables.storage import (
    FileInfo,
    StoragePath,
    append_line,
    create_once,
    exists,
    files_by_folder,
    is_published,
    move,
    names,
    publish_folder,
    published,
    read_bytes,
    read_many,
    read_start,
    remove,
    remove_folder,
    remove_tree,
    replace,
    replace_json,
    require_create_once,
    storage_path,
    subfolders,
)


def test_create_once_writes_once(storage: StoragePath) -> None:
    path = storage / "new" / "folder" / "file"
    assert create_once(path, b"first") is True
    assert create_once(path, b"second") is False
    assert create_once(path, b"first") is False
    assert content(path.parent) == {"file": b"first"}
    require_create_once(path, b"third")


def test_replace_replaces(storage: StoragePath) -> None:
    path = storage / "new" / "file"
    replace(path, b"first")
    replace(path, b"second", durable=False)
    assert content(path.parent) == {"file": b"second"}
    replace_json(path, {"a": [1, 2.5]})
    assert json.loads(read_bytes(path)) == {"a": [1, 2.5]}


def test_an_empty_file_is_a_file(storage: StoragePath) -> None:
    create_once(storage / "a", b"")
    replace(storage / "b", b"")
    assert content(storage) == {"a": b"", "b": b""}


def test_publish_folder_appears_once_with_all_files(storage: StoragePath) -> None:
    target = storage / "stages" / "key"
    assert not is_published(target, ["b"])
    assert publish_folder({"b": b"2", "a": b"1"}, target, marker="b") is True
    assert publish_folder({"b": b"3"}, target, marker="b") is False
    assert content(target) == {"a": b"1", "b": b"2"}
    assert is_published(target, ["other", "b"])


def test_of_several_folders_the_published_are_told(storage: StoragePath) -> None:
    folders = [storage / f"{i}" for i in range(4)]
    publish_folder({"a": b"1", "done": b"2"}, folders[1], marker="done")
    publish_folder({"failed": b"3"}, folders[3], marker="failed")
    assert published(folders, ["done", "failed"]) == [folders[1], folders[3]]
    assert published([], ["done"]) == []


def test_a_removed_folder_can_be_published_again(storage: StoragePath) -> None:
    target = storage / "key"
    publish_folder({"a": b"1", "b": b"2"}, target, marker="b")
    remove_folder(target, markers=["b"])
    assert not is_published(target, ["b"])
    assert not exists(target)
    assert publish_folder({"b": b"3"}, target, marker="b") is True
    assert content(target) == {"b": b"3"}
    remove_folder(storage / "absent", markers=["b"])


def test_the_start_of_a_file_is_read_alone(storage: StoragePath) -> None:
    replace(storage / "a", b"0123456789")
    replace(storage / "empty", b"")
    assert [read_start(storage / "a", n) for n in (1, 4, 10, 99)] == [b"0", b"0123", b"0123456789", b"0123456789"]
    assert read_start(storage / "empty", 4) == b""
    with pytest.raises(FileNotFoundError):
        read_start(storage / "absent", 4)


def test_what_is_not_there_has_its_own_error(storage: StoragePath) -> None:
    replace(storage / "folder" / "a", b"1")
    with pytest.raises(FileNotFoundError):
        read_bytes(storage / "absent")
    with pytest.raises((FileNotFoundError, IsADirectoryError)):
        read_bytes(storage / "folder")
    found = list(read_many(storage / name for name in ("absent", "folder/a", "folder")))
    assert isinstance(found[0], FileNotFoundError)
    assert found[1] == b"1"
    assert isinstance(found[2], OSError)


def test_many_files_are_read_in_the_order_of_their_paths(storage: StoragePath) -> None:
    for i in range(60):
        replace(storage / f"{i}", f"{i}".encode(), durable=False)
    order = [f"{i * 7 % 60}" for i in range(60)]
    assert list(read_many(storage / name for name in order)) == [name.encode() for name in order]
    assert list(read_many([])) == []


SPECIAL = ("a b;c", "a#b", "a%25b", "a+b", "copy [1]", "why?", "all*", "ü")


def test_names_with_special_characters_are_names_like_others(storage: StoragePath) -> None:
    for name in SPECIAL:
        replace(storage / "in" / name, name.encode())
    assert names(storage / "in", "*") == sorted(SPECIAL)
    assert list(read_many(storage / "in" / name for name in SPECIAL)) == [name.encode() for name in SPECIAL]
    for name in SPECIAL:
        move(storage / "in" / name, storage / "out" / name)
        assert read_bytes(storage / "out" / name) == name.encode()
        remove(storage / "out" / name)
    assert names(storage, "*/*") == []


def test_a_file_or_folder_exists_when_something_is_in_it(storage: StoragePath) -> None:
    replace(storage / "folder" / "a", b"")
    assert exists(storage / "folder" / "a")
    assert exists(storage / "folder")
    assert not exists(storage / "fold")
    assert not exists(storage / "folder" / "a" / "b")


def test_names_are_those_that_match(storage: StoragePath) -> None:
    for name in ("b.json", "a.json", "c.txt", "x/t.json", "y/t.json", "y/u.json", "y/z/t.json", "[0].json"):
        replace(storage / name, b"")
    assert names(storage, "*.json") == ["[0].json", "a.json", "b.json"]
    assert names(storage, "[ab].*") == ["a.json", "b.json"]
    assert names(storage, "*/t.json") == ["x/t.json", "y/t.json"]
    assert names(storage, "y/[tu].json") == ["y/t.json", "y/u.json"]
    assert names(storage, "*/*/*") == ["y/z/t.json"]
    assert names(storage / "absent", "*") == names(storage / "a.json", "*") == []
    assert subfolders(storage) == ["x", "y"]
    assert subfolders(storage / "absent") == subfolders(storage / "a.json") == []


def test_a_name_that_begins_like_another_is_another(storage: StoragePath) -> None:
    for name in ("key/a", "key2/b", "key.json"):
        replace(storage / name, b"")
    assert names(storage / "key", "*") == ["a"]
    remove_tree(storage / "key")
    assert content(storage / "key2") == {"b": b""}
    assert names(storage, "*.json") == ["key.json"]


def test_a_new_file_is_in_the_next_listing(storage: StoragePath) -> None:
    for i in range(3):
        assert len(names(storage / "folder", "*")) == len(files_by_folder(storage).get("folder", [])) == i
        replace(storage / "folder" / f"{i}", b"")
    remove(storage / "folder" / "1")
    assert names(storage / "folder", "*") == ["0", "2"]


def test_files_are_told_by_folder_with_size_and_time(storage: StoragePath) -> None:
    replace(storage / "x" / "a", b"12345")
    replace(storage / "x" / "b", b"")
    replace(storage / "y" / "z" / "deeper", b"1")
    replace(storage / "file", b"1")
    found = files_by_folder(storage)
    assert sorted((f.name, f.size_bytes) for f in found["x"]) == [("a", 5), ("b", 0)]
    assert all(isinstance(f, FileInfo) and f.modified > 1.6e9 for f in found["x"])
    assert found.get("y", []) == []
    assert "file" not in found
    assert files_by_folder(storage / "absent") == {}


def test_what_is_removed_is_gone(storage: StoragePath) -> None:
    for name in ("a", "x/a", "x/y/b"):
        replace(storage / name, b"1")
    remove(storage / "a")
    remove(storage / "a")
    assert subfolders(storage) == ["x"]
    remove_tree(storage / "x")
    remove_tree(storage / "x")
    assert not exists(storage / "x")


def test_a_file_is_moved_over_an_older_one(storage: StoragePath) -> None:
    replace(storage / "a", b"new")
    replace(storage / "aside" / "a", b"old")
    move(storage / "a", storage / "aside" / "a")
    move(storage / "a", storage / "aside" / "a")
    assert not exists(storage / "a")
    assert content(storage / "aside") == {"a": b"new"}


def test_a_folder_is_moved_whole(storage: StoragePath) -> None:
    publish_folder({"a": b"1", "marker": b"2"}, storage / "key", marker="marker")
    move(storage / "key", storage / "aside" / "key", markers=["marker"])
    move(storage / "key", storage / "aside" / "key", markers=["marker"])
    assert not exists(storage / "key")
    assert content(storage / "aside" / "key") == {"a": b"1", "marker": b"2"}


def test_append_line_appends(storage: StoragePath) -> None:
    for i in range(3):
        append_line(storage / "new" / "log.jsonl", {"i": i})
    assert [line["i"] for line in lines(storage / "new" / "log.jsonl")] == [0, 1, 2]


def create_many(folder: str, me: int, barrier: Any) -> list[int]:
    """Tries to create every file; returns those that were new."""
    root = storage_path(folder)
    return [i for i in range(40) if create_once(root / f"{i}", f"{me}".encode() * 1000)]


def publish_many(folder: str, me: int, barrier: Any) -> list[int]:
    """Tries to publish every folder; returns those that were new."""
    root = storage_path(folder)
    return [i for i in range(20) if publish_folder({"marker": f"{me}".encode()}, root / f"{i}", marker="marker")]


def append_many(path: str, me: int, barrier: Any) -> list[int]:
    """Appends lines of its own."""
    log = storage_path(path)
    for i in range(40):
        append_line(log, [me] * 500 + [i])
    return []


def test_of_several_processes_one_creates_a_file(storage: StoragePath, together: Together) -> None:
    won = together(create_many, str(storage))
    assert sorted(i for wins in won for i in wins) == list(range(40))
    for me, wins in enumerate(won):
        assert all(read_bytes(storage / f"{i}") == f"{me}".encode() * 1000 for i in wins)
    assert len(names(storage, "*")) == 40


def test_of_several_processes_one_publishes_a_folder(storage: StoragePath, together: Together) -> None:
    won = together(publish_many, str(storage))
    assert sorted(i for wins in won for i in wins) == list(range(20))
    for me, wins in enumerate(won):
        assert all(content(storage / f"{i}") == {"marker": f"{me}".encode()} for i in wins)


def test_lines_of_several_processes_do_not_mix(storage: StoragePath, together: Together) -> None:
    together(append_many, str(storage / "log.jsonl"))
    found = lines(storage / "log.jsonl")
    assert sorted((line[0], line[-1]) for line in found) == [(me, i) for me in range(3) for i in range(40)]
    assert all(set(line[:-1]) == {line[0]} for line in found)
