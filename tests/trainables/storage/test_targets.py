from pathlib import Path

import pytest

from trainables.errors import ConfigError
from trainables.storage import StoragePath, refuse_file, refuse_folder, replace

LONG = "n" * 300


def test_what_is_not_there_yet_is_fine(storage: StoragePath) -> None:
    refuse_folder(storage / "new" / "file.png", such_as="file.png")
    refuse_file(storage / "new" / "folder")


def test_a_file_is_no_folder_and_a_folder_no_file(tmp_path: Path) -> None:
    replace(tmp_path / "file", b"x")
    refuse_folder(tmp_path / "file", such_as="x.png")
    refuse_file(tmp_path)
    with pytest.raises(ConfigError, match=r"is a folder: give the name of a file, such as x\.png\.$"):
        refuse_folder(tmp_path, such_as="x.png")
    with pytest.raises(ConfigError, match=r"file is a file: give a folder\.$"):
        refuse_file(tmp_path / "file")


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    for refuse in (lambda: refuse_folder(tmp_path / LONG, such_as="x"), lambda: refuse_file(tmp_path / LONG)):
        with pytest.raises(ConfigError, match=r"File name too long\. Give a shorter name\.$"):
            refuse()
    with pytest.raises(ConfigError, match=r"File name too long\. Give a shorter name\.$"):
        replace(tmp_path / LONG, b"")
