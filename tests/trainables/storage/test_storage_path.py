"""Where files lie, by what people write."""

import importlib.util
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from trainables.errors import ConfigError
from trainables.storage import redact, storage_path


@pytest.mark.parametrize("text", ["runs", "/a/b", "../x", "s3:/x", "C:/x", "a:b//c", "a?b*"])
def test_a_path_of_this_machine_is_a_path(text: str) -> None:
    path = storage_path(text)
    assert isinstance(path, Path)
    assert path == Path(text)
    assert storage_path(path) is path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("S3://bucket/a", "s3://bucket/a"),
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/runs@2", "s3://bucket/runs@2"),
        ("s3://my.bucket-1/a b/ü", "s3://my.bucket-1/a b/ü"),
    ],
)
def test_a_uri_is_a_path_that_shows_as_it_was_written(text: str, shown: str) -> None:
    path = storage_path(text)
    assert not isinstance(path, Path)
    assert str(path) == shown
    assert (path / "x" / "y.json").name == "y.json"
    assert str(path / "x") == f"{shown.rstrip('/')}/x"
    assert (path / "x").parent == path
    assert storage_path(str(path)) == path
    assert hash(storage_path(str(path))) == hash(path)
    assert pickle.loads(pickle.dumps(path / "x")) == path / "x"


@pytest.mark.parametrize("text", ["http://host/x", "file:///runs", "memory://x", "hdfs://a/b", "gcs://bucket/x"])
def test_another_kind_of_uri_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="storage is a folder, s3://bucket/prefix or gs://bucket/prefix, but got"):
        storage_path(text)


@pytest.mark.parametrize(
    "text",
    ["s3://", "s3:///x", "s3://b//x", "s3://b/../x", "s3://b/./x", "s3://b/a*", "s3://b/a?versionId=1", "s3://b/#"],
)
def test_a_uri_that_names_no_place_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"names no place: write it like s3://bucket/prefix"):
        storage_path(text)


@pytest.mark.parametrize("text", ["s3://key:QX7@bucket/x", "s3://key:Q/X7@bucket", "gs://QX7@b", "http://a:QX7@h"])
def test_credentials_in_a_uri_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        storage_path(text)
    assert "X7" not in str(caught.value)
    assert "://***@" in str(caught.value)
    if not text.startswith("http"):
        assert "leave them out and set" in str(caught.value)


def test_a_text_is_redacted_wherever_credentials_stand_in_it() -> None:
    text = "cannot reach 'https://me:pass@host:9000/x@2' nor \"http://you:word@h\" from s3://bucket/a@2"
    assert redact(text) == "cannot reach 'https://***@host:9000/x@2' nor \"http://***@h\" from s3://bucket/a@2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:Q@X7@host/runs", "postgresql://***@host/runs"),
        ("postgresql://me:Q/X7@host/runs", "postgresql://***@host/runs"),
        ("postgresql://host/runs?user=me&password=QX7&ssl=1", "postgresql://host/runs?user=me&password=***&ssl=1"),
        ("'https://b.s3.host/x?X-Amz-Signature=QX7'", "'https://b.s3.host/x?X-Amz-Signature=***'"),
        ("http://host:9000/x@2?page=7", "http://host:9000/x@2?page=7"),
    ],
)
def test_no_part_of_a_password_is_left(text: str, shown: str) -> None:
    assert redact(text) == shown


def without(package: str) -> Callable[[str], object]:
    find = importlib.util.find_spec
    return lambda name: None if name == package else find(name)


@pytest.mark.parametrize(("uri", "driver", "extra"), [("s3://b/x", "s3fs", "s3"), ("gs://b/x", "gcsfs", "gcs")])
def test_a_missing_driver_names_what_to_install(
    uri: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", without(driver))
    with pytest.raises(ConfigError, match=rf"needs the package {driver}.*pip install 'tune-app\[{extra}\]'"):
        storage_path(uri)
