"""The digest of a module of one's own changes with every file of its own that it imports, and with no other."""

import sys
from pathlib import Path

import pydantic.fields
import pytest

from trainables.config import file_sha256
from tune_app.spec.module_source import source_sha256

LONE = {"lone_net.py": "import torch\nfrom lone_parts import Block\n", "lone_parts.py": "class Block: ...\n"}
PACKAGE = {
    "own_nets/__init__.py": "",
    "own_nets/small.py": "from .parts.blocks import Block\nfrom . import extras\n",
    "own_nets/parts/__init__.py": "",
    "own_nets/parts/blocks.py": "from ..deepest import x\n",
    "own_nets/deepest.py": "x = 1\n",
    "own_nets/extras.py": "import json\n",
}
NAMESPACE = {"own_space/net.py": "from own_space import helper\n", "own_space/helper.py": ""}


@pytest.mark.parametrize(
    ("module", "files"),
    [("lone_net", LONE), ("own_nets.small", PACKAGE), ("own_space.net", NAMESPACE)],
    ids=["modules in a folder", "a package", "a package without __init__"],
)
def test_every_file_that_a_module_imports_counts(
    module: str, files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in {**files, "unrelated.py": "", "torch_is_elsewhere.py": ""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    first = source_sha256(module)
    assert first
    for name in files:
        path = tmp_path / name
        before = path.read_text()
        path.write_text(before + "# changed\n")
        assert source_sha256(module) != first, name
        path.write_text(before)
    (tmp_path / "unrelated.py").write_text("# changed\n")
    assert source_sha256(module) == first
    assert not {"lone_net", "own_nets", "own_space"} & set(sys.modules)


def test_a_module_that_is_not_there_has_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def (:\n")
    assert source_sha256("no_such_module_here") == source_sha256("broken.part") == ""
    assert source_sha256("broken") == file_sha256(tmp_path / "broken.py")


def test_of_an_installed_module_its_own_file_counts() -> None:
    assert source_sha256("pydantic.fields") == file_sha256(Path(pydantic.fields.__file__))
