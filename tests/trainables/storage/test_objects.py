"""Files in an object store: the order of writes, answers that went wrong, and what people are told."""

import contextlib
import socket
from collections.abc import Callable

import pytest
from upath import UPath

import trainables.storage.objects as objects
from tests.s3 import Answer, endpoint, refusal, scripted_s3
from trainables.errors import StorageUnavailable
from trainables.storage import (
    Lock,
    StoragePath,
    append_line,
    create_once,
    exists,
    files_by_folder,
    is_published,
    move,
    names,
    publish_folder,
    read_bytes,
    read_many,
    read_start,
    remove,
    remove_folder,
    replace,
    require_create_once,
    storage_path,
    subfolders,
)
from trainables.storage.explain import explained
from trainables.storage.paths import SCHEMES

FILES = {"a": b"1", "b": b"2", "marker": b"3"}


@pytest.fixture
def root(bucket: str) -> StoragePath:
    return storage_path(bucket)


class Killed(BaseException):
    """The process ends here."""


def killed_at(call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the process dies before this request, counted from 0."""
    ask, asked = objects._call, iter(range(1_000_000))

    def counted(*args: object, **more: object) -> object:
        if next(asked) >= call:
            raise Killed
        return ask(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(objects, "_call", counted)


def test_a_folder_that_was_cut_off_is_absent_at_every_request_and_is_published_again(
    root: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = 0
    for call in range(100):
        target = root / f"{call}"
        with monkeypatch.context() as patch:
            killed_at(call, patch)
            try:
                whole = publish_folder(FILES, target, marker="marker")
            except Killed:
                whole, cuts = False, cuts + 1
        assert is_published(target, ["marker"]) is whole
        if whole:
            break
        assert publish_folder({**FILES, "a": b"new"}, target, marker="marker") is True
        assert read_bytes(target / "a") == b"new"
    assert cuts == 4  # a look, two files and the marker


def test_a_folder_that_was_half_removed_or_moved_is_absent(root: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def take(path: StoragePath) -> None:
        remove_folder(path, markers=["marker"])

    def put_aside(path: StoragePath) -> None:
        move(path, root / "aside", markers=["marker"])

    for name, act in (("take", take), ("put_aside", put_aside)):
        states = []
        for call in range(100):
            target = root / f"{name}{call}"
            publish_folder(FILES, target, marker="marker")
            with monkeypatch.context() as patch:
                killed_at(call, patch)
                with contextlib.suppress(Killed):
                    act(target)
                    break
            states.append((is_published(target, ["marker"]), names(target, "*")))
        whole = [state for state in states if state[0]]
        assert all(found == sorted(FILES) for _, found in whole)
        assert states == [*whole, (False, ["a", "b"]), (False, ["b"])]
        assert not exists(target)


def test_a_later_writer_leaves_a_published_folder_alone(root: StoragePath) -> None:
    publish_folder(FILES, root / "key", marker="marker")
    assert publish_folder({**FILES, "a": b"other"}, root / "key", marker="marker") is False
    assert read_bytes(root / "key" / "a") == b"1"


def test_an_empty_folder_as_consoles_create_it_is_nothing(root: StoragePath) -> None:
    root.fs.pipe_file(f"{(root / 'folder').path}/", b"")  # type: ignore[union-attr]
    assert names(root / "folder", "*") == []
    assert files_by_folder(root) == {}


def test_names_beyond_the_first_page_are_listed(root: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [f"{i:02d}" for i in range(11)]
    for name in expected:
        replace(root / "many" / name, b"")
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    assert names(root / "many", "*") == expected


def test_what_another_process_writes_is_in_the_next_listing(root: StoragePath) -> None:
    from s3fs import S3FileSystem

    other = S3FileSystem(skip_instance_cache=True)
    for i in range(3):
        assert len(names(root, "*/x")) == len(subfolders(root)) == i
        assert not exists(root / f"{i}" / "x")
        other.pipe_file((root / f"{i}" / "x").path, b"")  # type: ignore[union-attr]
        assert exists(root / f"{i}" / "x")
    S3FileSystem.close_session(other.loop, other._s3creator)


def test_a_conflict_with_a_write_in_flight_is_asked_again() -> None:
    conflict = Answer(409, refusal("ConditionalRequestConflict"))
    with scripted_s3(conflict, conflict, Answer(200)) as requests:
        assert create_once(storage_path("s3://bucket/x"), b"1") is True
    assert requests == ["PUT *"] * 3
    with scripted_s3(conflict, Answer(412, refusal("PreconditionFailed"))):
        assert create_once(storage_path("s3://bucket/x"), b"1") is False
    with scripted_s3(conflict), pytest.raises(StorageUnavailable, match="others write it at the same time"):
        create_once(storage_path("s3://bucket/x"), b"1")


def test_a_store_without_conditional_writes_is_refused() -> None:
    with scripted_s3(Answer(200)), pytest.raises(StorageUnavailable, match="ignores If-None-Match"):
        require_create_once(storage_path("s3://bucket/x"), b"1")


@pytest.mark.parametrize(
    "read", [read_bytes, lambda path: next(read_many([path])), lambda path: read_start(path, len(b"halves"))]
)
def test_an_answer_that_broke_off_is_asked_for_as_often_as_one_that_did_not_come(
    read: Callable[[StoragePath], bytes],
) -> None:
    half, busy, attempts = Answer(200, b"hal", length=6), Answer(503, refusal("SlowDown")), 3
    with scripted_s3(half, half, Answer(200, b"halves")) as requests:
        assert read(storage_path("s3://bucket/x")) == b"halves"
    assert requests == ["GET"] * attempts
    for fault in (half, busy):
        with scripted_s3(fault) as requests:
            refused(read, "s3://bucket/x")
        assert requests == ["GET"] * attempts


def test_a_read_is_one_request_and_many_reads_are_one_each() -> None:
    with scripted_s3(Answer(200, b"1")) as requests:
        read_bytes(storage_path("s3://bucket/x"))
        list(read_many(storage_path(f"s3://bucket/{i}") for i in range(5)))
    assert requests == ["GET"] * 6


ASKING: dict[str, Callable[[StoragePath], object]] = {
    "append_line": lambda path: append_line(path / "log.jsonl", {}),
    "create_once": lambda path: create_once(path, b""),
    "exists": exists,
    "files_by_folder": files_by_folder,
    "is_published": lambda path: is_published(path, ["marker"]),
    "lock": lambda path: Lock(path).try_acquire(),
    "move": lambda path: move(path, path / "aside"),
    "names": lambda path: names(path, "*"),
    "publish_folder": lambda path: publish_folder(FILES, path, marker="marker"),
    "read_bytes": read_bytes,
    "read_many": lambda path: list(read_many([path])),
    "remove": remove,
    "replace": lambda path: replace(path, b""),
    "subfolders": subfolders,
}


def refused(ask: Callable[[StoragePath], object], path: str) -> str:
    """The one line of a refusal."""
    with pytest.raises(StorageUnavailable, match=r"^cannot ") as caught:
        ask(storage_path(path))
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ASKING)
def test_a_missing_bucket_is_no_empty_folder(name: str, s3_address: str) -> None:
    line = refused(ASKING[name], "s3://no-such-bucket/x")
    assert "there is no bucket 'no-such-bucket'. Create it, or name another storage." in line


@pytest.mark.parametrize("name", ASKING)
def test_credentials_without_rights_are_told_so(name: str) -> None:
    with scripted_s3(Answer(403, refusal("AccessDenied", "Access Denied"))):
        line = refused(ASKING[name], "s3://bucket/x")
    assert line.endswith("Let these credentials list, read, write and delete there.")


@pytest.mark.parametrize("name", ["create_once", "lock", "names", "read_bytes"])
def test_missing_credentials_are_asked_for(name: str, s3_address: str) -> None:
    with endpoint(s3_address, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None):
        line = refused(ASKING[name], "s3://bucket/x")
    assert line.endswith("Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.")


@pytest.mark.parametrize("name", ["create_once", "lock", "read_many"])
def test_an_endpoint_where_nobody_listens_is_named(name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with endpoint(address):
            line = refused(ASKING[name], "s3://bucket/x")
    assert f'Could not connect to the endpoint URL: "{address}/bucket' in line
    assert line.endswith("Check the network and AWS_ENDPOINT_URL; the same command then goes on.")


def test_a_write_that_is_never_answered_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "WRITE_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, endpoint(f"http://127.0.0.1:{silent.getsockname()[1]}"):
        line = refused(ASKING["create_once"], "s3://bucket/x")
    assert line.startswith("cannot write s3://bucket/x: no answer in time. Check the network")


def test_a_store_that_is_silent_is_given_up_within_half_a_minute() -> None:
    config = SCHEMES["s3"].options["config_kwargs"]
    attempts, backoff_s = config["retries"]["total_max_attempts"], 1 + 2  # at most, between three attempts
    assert attempts * max(config["connect_timeout"], config["read_timeout"]) + backoff_s <= 30
    assert objects.WRITE_S <= 30
    assert SCHEMES["gs"].limit_s is not None
    assert SCHEMES["gs"].limit_s <= 30


class HttpError(Exception):
    """As gcsfs raises it, which is no OSError."""

    __module__ = "gcsfs.retry"


@pytest.mark.parametrize(
    ("err", "words"),
    [
        (OSError("Forbidden: b/bucket/o\nno access"), "Forbidden: b/bucket/o no access. Let these credentials list"),
        (
            HttpError("Invalid Credentials, 401"),
            "Invalid Credentials, 401. Check the network and STORAGE_EMULATOR_HOST",
        ),
        (FileNotFoundError("b/bucket/o"), "there is no bucket 'bucket'. Create it"),
        (TimeoutError(), "no answer in time. Check the network"),
    ],
)
def test_what_the_driver_of_gcs_raises_is_one_line_too(err: Exception, words: str) -> None:
    path = UPath("gs://bucket/x")
    with pytest.raises(StorageUnavailable) as caught, explained("write", path):
        raise err
    assert str(caught.value).startswith(f"cannot write gs://bucket/x: {words}")
    assert "\n" not in str(caught.value)


def test_a_fault_of_the_store_is_tried_three_times() -> None:
    with scripted_s3(Answer(500, refusal("InternalError", "We encountered an internal error."))) as requests:
        assert "We encountered an internal error. Check" in refused(read_bytes, "s3://bucket/x")
    assert requests == ["GET"] * 3
    with scripted_s3(Answer(503, refusal("SlowDown")), Answer(200, b"1")) as requests:
        assert read_bytes(storage_path("s3://bucket/x")) == b"1"
    assert requests == ["GET"] * 2


def test_a_bug_stays_a_bug(root: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(objects, "_call", broken)
    with pytest.raises(ZeroDivisionError):
        replace(root / "x", b"")
