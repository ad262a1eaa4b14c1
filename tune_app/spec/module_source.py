"""The source of a module of one's own: the digest of its files, found without running any of them."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

from trainables.config import digest, file_sha256

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of packages that nobody edits."""


def source_sha256(module: str) -> str:
    """Returns the digest of a module's file and of all files that it imports from the same folder or package.

    Of an installed module only its own file counts. The digest is empty where there is no such file, which capturing
    the network will say.
    """
    place = _place(module)
    if place is None:
        return ""
    root, file = place
    if INSTALLED & set(root.parts):
        return file_sha256(file)
    found: dict[str, str] = {}
    left = [file]
    while left:
        path = left.pop()
        name = path.relative_to(root).as_posix()
        if name not in found:
            found[name] = file_sha256(path)
            left += [beside for imported in _imported(path, root) for beside in _files(root, imported)]
    return next(iter(found.values())) if len(found) == 1 else digest(sorted(found.items()))


def _place(module: str) -> tuple[Path, Path] | None:
    """Returns the folder from which a module is imported, and its file."""
    top = module.partition(".")[0]
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    finally:
        sys.path.pop(0)
    if found is None:
        return None
    folders = list(found.submodule_search_locations or ())  # a namespace package has no file of its own
    inside = Path(folders[0]) if folders else Path(found.origin or "")
    files = _files(inside.parent, module)
    wanted = inside.parent.joinpath(*module.split("."))
    own = [file for file in files if file in (wanted.with_suffix(".py"), wanted / "__init__.py")]
    return (inside.parent, own[0]) if own else None


def _files(root: Path, module: str) -> list[Path]:
    """Returns the files that an import of a name runs, below a folder: those of all that it begins with."""
    parts = module.split(".")
    stems = [root.joinpath(*parts[: n + 1]) for n in range(len(parts))]
    return [path for stem in stems for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()]


def _imported(file: Path, root: Path) -> Iterator[str]:
    """Yields the names of what a file imports: of modules, or of what is in them."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # importing it will say so
        return
    package = file.relative_to(root).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            outer = package[: len(package) - node.level + 1] if node.level else ()
            module = [*outer, *([node.module] if node.module else [])]
            yield from (".".join([*module, alias.name]) for alias in node.names)
