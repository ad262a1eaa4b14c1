"""Files of a storage, as tests look at them."""

import json
from pathlib import Path
from typing import Any

from trainables.storage import StoragePath, exists, names, read_bytes


def content(folder: StoragePath) -> dict[str, bytes]:
    """The files directly in a folder."""
    return {name: read_bytes(folder / name) for name in names(folder, "*")}


def lines(path: StoragePath) -> list[Any]:
    """What was appended: lines of a file, or objects in the order of their names."""
    folder = path.with_name(path.stem)
    found = [read_bytes(path)] if exists(path) else [read_bytes(folder / name) for name in names(folder, "*.json")]
    return [json.loads(line) for part in found for line in part.splitlines()]


def tree(folder: StoragePath) -> dict[str, bytes]:
    """Every file below a folder, by its name from there."""
    if isinstance(folder, Path):
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found: list[str] = folder.fs.find(folder.path)
    return {name.removeprefix(folder.path.rstrip("/") + "/"): folder.fs.cat_file(name) for name in sorted(found)}
