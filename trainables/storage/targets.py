"""Places that somebody named for output, looked at before the work that fills them."""

import errno
from pathlib import Path

import trainables.storage.posix as posix
from trainables.errors import ConfigError
from trainables.storage.paths import StoragePath


def refuse_folder(path: StoragePath, *, such_as: str) -> None:
    """Raises ConfigError where a file is to be written and a folder is there, or its name is too long for the disk."""
    if _is_folder(path):
        raise ConfigError(f"{path} is a folder: give the name of a file, such as {such_as}.")


def refuse_file(path: StoragePath) -> None:
    """Raises ConfigError where a folder is to be filled and a file is there, or its name is too long for the disk."""
    if _is_folder(path) is False:
        raise ConfigError(f"{path} is a file: give a folder.")


def _is_folder(path: StoragePath) -> bool | None:
    """Whether there is a folder; None where there is nothing yet, as in an object store, which has no folders."""
    if not isinstance(path, Path):
        return None
    try:
        path.lstat()
    except OSError as err:
        if err.errno == errno.ENAMETOOLONG:
            raise ConfigError(f"cannot write {path}: {err.strerror}. Give a shorter name.") from err
    return posix.is_folder(path) if posix.exists(path) else None
