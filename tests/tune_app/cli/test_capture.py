"""`tune-app capture`, and specs that name a network of one's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Result
from tests.specs import tiny_spec
from tests.trainables.graph.networks import ResNet8
from trainables.errors import ConfigError
from trainables.graph.network_file import read_network_file
from tune_app.spec.yaml_file import dump_spec, load_spec

Cli = Callable[..., Result]
NETWORK = "tests.trainables.graph.networks:ResNet8"


@pytest.mark.parametrize("image", [(3, 16, 16), (3, 16, 24)])
def test_a_network_becomes_a_file_and_is_checked(image: tuple[int, int, int], cli: Cli, tmp_path: Path) -> None:
    torch.save(ResNet8().state_dict(), tmp_path / "weights.pt")
    place = tmp_path / "eight.safetensors"
    options = ("--checkpoint", tmp_path / "weights.pt", "--output", place, "--check")
    done = cli("capture", NETWORK, "--input", "x".join(map(str, image)), *options)
    assert done.code == 0, done
    assert f"{place}: " in done.out
    assert f"matched: {len(ResNet8().state_dict())}" in done.out
    assert done.out.count("ok  ") == 6
    found = read_network_file(place)
    assert found.graph.image == image
    assert found.about["network"] == NETWORK


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((NETWORK, "--input", "3x16"), "--input must be channels x height x width, such as 3x32x32, but is '3x16'"),
        ((NETWORK, "--input", "3x16x\N{SUPERSCRIPT TWO}"), "must be channels x height x width, such as 3x32x32"),
        ((NETWORK, "--input", "3x99999999x99999999"), "torch.export cannot follow ResNet8 on images of 3x99999999x99"),
        ((NETWORK, "--input", "3x999999999x999999999"), "torch.export cannot follow ResNet8 on images of 3x999999999"),
        ((NETWORK, "--input", "3x16x16", "--arguments", "[1]"), "--arguments must be a JSON object, but is [1]"),
        ((NETWORK, "--input", "3x16x16", "--arguments", "{depth}"), "--arguments must be a JSON object, such as"),
        ((NETWORK, "--input", "3x16x16", "--arguments", '{"depth": 3}'), "cannot be made with {'depth': 3}"),
        ((NETWORK, "--input", "4x16x16"), "torch.export cannot follow ResNet8 on images of 4x16x16"),
        ((NETWORK, "--input", "3x16x16", "--checkpoint", "nowhere.pt"), "cannot read nowhere.pt"),
        (("nowhere:Net", "--input", "3x16x16"), "network nowhere:Net is not there"),
        (("tests.trainables.graph.networks:Sorting", "--input", "3x16x16"), "the operator sort is not supported"),
    ],
)
def test_what_cannot_be_captured_is_one_line_and_no_file(
    arguments: tuple[str, ...], says: str, cli: Cli, tmp_path: Path
) -> None:
    done = cli("capture", *arguments, "--output", tmp_path / "out.safetensors")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert says in done.err
    assert done.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_place_of_the_file_is_refused(cli: Cli, tmp_path: Path) -> None:
    done = cli("capture", NETWORK, "--input", "3x16x16", "--output", tmp_path)
    assert (done.code, "is a folder: give the name of a file, such as network.safetensors" in done.err) == (2, True)


def spec_with(tmp_path: Path, **baseline: object) -> Path:
    base = tiny_spec(tmp_path / "runs").base.model_dump()
    base["baseline"].pop("model")
    base["baseline"] |= baseline
    path = tmp_path / "spec.yaml"
    path.write_text(dump_spec(tiny_spec(tmp_path / "runs", base=base)))
    return path


def test_a_spec_captures_its_network_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gray_nets.py").write_text(
        "from torch import nn\n\n\ndef net(width):\n"
        "    body = [nn.Conv2d(1, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]\n"
        "    return nn.Sequential(*body, nn.Linear(width, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    path = spec_with(tmp_path, network="gray_nets:net", arguments={"width": 6})
    first = load_spec(path).base.baseline
    assert load_spec(path).base.baseline == first
    [file] = (tmp_path / "runs/networks").iterdir()
    assert first.network == str(file)
    assert first.arguments == {}
    (tmp_path / "gray_nets.py").unlink()
    assert load_spec(path).base.baseline == first, "the code is not needed any more"
    assert load_spec(spec_with(tmp_path, network=str(file))).base.baseline.network_sha256 == first.network_sha256


def test_two_sources_of_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").touch()
    (tmp_path / "x.pt").touch()
    path = tmp_path / "spec.yaml"
    base = tiny_spec(tmp_path / "runs").base.model_dump()
    base["baseline"] = {
        "kind": "import",
        "network": str(tmp_path / "x.safetensors"),
        "checkpoint": str(tmp_path / "x.pt"),
    }
    path.write_text(dump_spec(tiny_spec(tmp_path / "runs", base=base)))
    with pytest.raises(ConfigError, match="brings its own weights: leave checkpoint out"):
        load_spec(path)
    with pytest.raises(ConfigError, match="there is no such file"):
        load_spec(spec_with(tmp_path, network=str(tmp_path / "missing.safetensors")))
