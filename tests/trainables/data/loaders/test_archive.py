import contextlib
import hashlib
import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainables.data.loaders.archive import Archive, unpack
from trainables.errors import ConfigError

FILES = {"set/data": b"pixels", "set/meta": b"names"}


def write_archive(path: Path, files: dict[str, bytes], *, link: str = "") -> Archive:
    """A .tar.gz with these files, and a symbolic link `set/link` to `link`."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo("set/link")
            member.type, member.linkname = tarfile.SYMTYPE, link
            tar.addfile(member)
    return Archive(path.name, "set", hashlib.md5(path.read_bytes()).hexdigest())


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("by_file", [True, False])
def test_an_archive_is_unpacked_beside_itself(by_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "set.tar.gz"
    archive = write_archive(path, FILES)
    assert unpack(archive, path if by_file else tmp_path) == tmp_path
    assert content(tmp_path / "set") == {"data": b"pixels", "meta": b"names"}
    assert {p.name for p in tmp_path.iterdir()} == {"set", "set.tar.gz"}


def test_an_archive_with_another_name_can_be_given_as_a_file(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "set.tar.gz", FILES)
    moved = (tmp_path / "set.tar.gz").rename(tmp_path / "copy (1).tgz")
    unpack(archive, moved)
    assert (tmp_path / "set/data").is_file()


def test_what_is_there_already_is_left_alone(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "set.tar.gz", FILES)
    unpack(archive, tmp_path)
    (tmp_path / "set/data").write_bytes(b"changed")
    (tmp_path / "set.tar.gz").write_bytes(b"not even read")
    unpack(archive, tmp_path)
    assert (tmp_path / "set/data").read_bytes() == b"changed"


def test_a_folder_without_an_archive_is_left_alone(tmp_path: Path) -> None:
    archive = Archive("set.tar.gz", "set", "0")
    assert unpack(archive, tmp_path) == tmp_path
    assert unpack(archive, tmp_path / "missing") == tmp_path / "missing"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"<html>", None])
def test_other_bytes_are_not_unpacked(damage: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "set.tar.gz"
    archive = write_archive(path, FILES)
    path.write_bytes(path.read_bytes()[:-1] if damage is None else damage)
    with pytest.raises(ConfigError, match=rf"set.tar.gz has MD5 .*, but set.tar.gz has {archive.md5}: fetch"):
        unpack(archive, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["set.tar.gz"]


@pytest.mark.parametrize("member", ["../outside", "/tmp/outside-of-the-archive", "set/../../outside"])
def test_nothing_is_written_outside_the_folder(member: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    archive = write_archive(home / "set.tar.gz", {**FILES, member: b"bad"})
    with contextlib.suppress(ConfigError):
        unpack(archive, home)
    assert not Path("/tmp/outside-of-the-archive").exists()
    assert set(content(tmp_path)) <= {"home/set.tar.gz", "home/set/data", "home/set/meta"}


def test_a_link_to_the_outside_is_refused(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "set.tar.gz", FILES, link="/etc/passwd")
    with pytest.raises(ConfigError, match=r"cannot unpack set\.tar\.gz"):
        unpack(archive, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["set.tar.gz"]


@pytest.mark.parametrize("files", [{"other/data": b""}, {}])
def test_an_archive_without_its_folder_is_refused(files: dict[str, bytes], tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "set.tar.gz", files)
    with pytest.raises(ConfigError, match="cannot unpack"):
        unpack(archive, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["set.tar.gz"]


def test_what_is_no_archive_is_refused_even_if_its_md5_is_right(tmp_path: Path) -> None:
    (tmp_path / "set.tar.gz").write_bytes(b"no archive")
    archive = Archive("set.tar.gz", "set", hashlib.md5(b"no archive").hexdigest())
    with pytest.raises(ConfigError, match="cannot unpack"):
        unpack(archive, tmp_path)


def test_several_may_unpack_at_once(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "set.tar.gz", {"set/data": bytes(3_000_000)})
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: unpack(archive, tmp_path), range(8))) == [tmp_path] * 8
    assert (tmp_path / "set/data").stat().st_size == 3_000_000
    assert {p.name for p in tmp_path.iterdir()} == {"set", "set.tar.gz"}
