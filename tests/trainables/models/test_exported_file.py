"""Weights of an archive of torch.export.save, read without torch's loader; anything odd is refused by name."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainables.errors import ConfigError
from trainables.models.checkpoint_file import read_checkpoint, read_fitted, reported_accuracy
from trainables.models.exported_file import INDEX


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    torch.export.save(torch.export.export(module, (torch.randn(2, 3, 8, 8),)), path)
    return module, path


def test_parameters_and_buffers_are_those_of_the_module(exported: tuple[nn.Module, Path]) -> None:
    module, path = exported
    found = read_checkpoint(path)
    expected = module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert read_fitted(path, expected).renamed == {}
    assert reported_accuracy(path) == {}


def changed(path: Path, target: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The archive with another index."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(INDEX):
                index = json.loads(content)
                change(index["config"])
                content = json.dumps(index).encode()
            new.writestr(name, content)
    return target


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda index: index["0.weight"].update(use_pickle=True), "0.weight is pickled"),
        (lambda index: index["0.weight"]["tensor_meta"].update(dtype=99), "0.weight is pickled, or has no floating"),
        (lambda index: index["0.bias"]["tensor_meta"].update(sizes=[{"as_int": 3}]), "0.bias has 16 bytes, not those"),
        (lambda index: index["0.weight"]["tensor_meta"]["strides"].reverse(), "0.weight does not lie row by row"),
        (lambda index: index["0.weight"].update(path_name="../../../secret"), "There is no item named"),
        (lambda index: index["0.weight"].pop("tensor_meta"), "tensor_meta"),
    ],
)
def test_an_odd_index_is_refused(
    exported: tuple[nn.Module, Path], tmp_path: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_checkpoint(changed(exported[1], tmp_path / "odd.pt2", change))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"no archive at all"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pt2"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is no archive of plain weights"):
        read_checkpoint(path)


def test_weights_that_unfold_are_refused(exported: tuple[nn.Module, Path], tmp_path: Path) -> None:
    target = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(exported[1]) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, bytes(10**6) if name.endswith("weight_0") else old.read(name))
    with pytest.raises(ConfigError, match="weight_0 unfolds to more than the archive"):
        read_checkpoint(target)
