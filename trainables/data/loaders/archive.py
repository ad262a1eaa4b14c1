"""Archive: a data set as the one file that its authors publish, unpacked beside itself once."""

import hashlib
import shutil
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from trainables.errors import ConfigError


@dataclass(frozen=True)
class Archive:
    """The name of a .tar.gz, the folder it holds, and the MD5 that its authors publish."""

    name: str
    folder: str
    md5: str


def unpack(archive: Archive, place: Path) -> Path:
    """Unpacks an archive if its folder is not there yet, and returns the path that holds this folder.

    `place` is that path, or the archive itself. Several processes may try at once: the folder appears whole.

    Raises:
        ConfigError: the archive is damaged or another one, or nothing can be written beside it.
    """
    try:
        file, home = (place, place.parent) if place.is_file() else (place / archive.name, place)
        if file.is_file() and not (home / archive.folder).exists():
            _check(archive, file)
            _extract(archive, file, home)
    except (OSError, EOFError, tarfile.TarError, zlib.error) as err:
        raise ConfigError(
            f"cannot unpack {archive.name} at {place}: {err}. "
            "Fetch it again, or unpack it yourself to where it can be read and written."
        ) from err
    return home


def _check(archive: Archive, file: Path) -> None:
    """Refuses all but the published bytes: what torchvision reads from them afterwards is a pickle."""
    with file.open("rb") as content:
        found = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != archive.md5:
        raise ConfigError(f"{file} has MD5 {found}, but {archive.name} has {archive.md5}: fetch the archive again.")


def _extract(archive: Archive, file: Path, home: Path) -> None:
    """Unpacks to a draft folder, then renames it; an equal folder of a faster process is as good."""
    draft = Path(tempfile.mkdtemp(prefix=f".{archive.folder}-", dir=home))
    try:
        with tarfile.open(file, "r:gz") as content:
            content.extractall(draft, filter="data")
        (draft / archive.folder).rename(home / archive.folder)
    except OSError:
        if not (home / archive.folder).is_dir():  # nobody else was faster
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
