"""`tune-app init` writes a spec, `tune-app compress` runs it: from images and a network to a file."""

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Result

Cli = Callable[..., Result]
NETWORK = "tests.trainables.graph.networks:ResNet8"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A hundred color images of ten classes, dark to bright, in the working directory."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for i in range(100):
        place = tmp_path / "photos" / str(i % 10)
        place.mkdir(parents=True, exist_ok=True)
        values = draw.integers(0, 20, (16, 16, 3)) + 23 * (i % 10)
        Image.fromarray(values.astype(np.uint8)).save(place / f"{i}.png")
    return "photos"


def test_from_images_and_a_network_to_a_file(photos: str, cli: Cli, tmp_path: Path) -> None:
    options = ("--data", photos, "--max-bytes", "40KB", "--image-size", "16", "--in-process")
    done = cli("compress", NETWORK, *options)
    assert done.code == 0, done.err
    [file] = (tmp_path / "compressed").glob("*/model.mbq")
    assert file.stat().st_size <= 40_000
    assert f"{file.relative_to(tmp_path)}: {file.stat().st_size:,} bytes" in done.out
    assert "95 % interval) on 20 test images" in done.out
    card = json.loads((file.parent / "card.json").read_text())
    assert card["result"]["measurement"]["size_bytes"] == file.stat().st_size
    assert "compressed/spec.yaml is the spec of the search" in done.out
    assert cli("compress", NETWORK, *options).out == done.out  # there is nothing left to do
    other = cli("compress", NETWORK, *options, "--max-bytes", "30KB")
    assert (other.code, "spec.yaml is that of another search: go on with" in other.err) == (2, True)


def test_a_bound_that_no_file_keeps_names_what_comes_nearest(photos: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("compress", NETWORK, "--data", photos, "--max-bytes", "1KB", "--image-size", "16", "--in-process")
    assert done.code in (2, 4), done
    assert not list((tmp_path / "compressed").glob("*/model.mbq"))


def test_a_bound_that_nothing_keeps_is_refused_before_anything_runs(photos: str, cli: Cli, tmp_path: Path) -> None:
    for size, said in (("0", "--max-bytes 0 leaves no byte"), ("10B", "no file of this network has 10 bytes")):
        for command in ("compress", "init"):
            done = cli(command, NETWORK, "--data", photos, "--max-bytes", size, "--image-size", "16")
            assert (done.code, said in done.err) == (2, True), done
    assert [place.name for place in tmp_path.iterdir()] == ["photos"]


def test_images_of_ones_own_keep_their_size(photos: str, cli: Cli, tmp_path: Path) -> None:
    assert cli("init", NETWORK, "--data", photos).code == 0
    assert "    image_size: 16\n" in (tmp_path / "search.yaml").read_text()


def test_a_bound_may_change_while_nothing_has_finished(photos: str, cli: Cli, tmp_path: Path) -> None:
    options = ("--data", photos, "--image-size", "16", "--in-process")
    (tmp_path / "compressed").mkdir()
    (tmp_path / "compressed/spec.yaml").write_text("name: another\n")
    assert cli("compress", NETWORK, *options, "--max-bytes", "40KB").code == 0
    assert "another" not in (tmp_path / "compressed/spec.yaml").read_text()


@pytest.mark.parametrize("folder", [True, False])
def test_what_is_no_spec_is_not_overwritten_or_replaced(photos: str, folder: bool, cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "compressed" / "spec.yaml"
    if folder:
        place.mkdir(parents=True)
    else:
        (tmp_path / "compressed/x/trials").mkdir(parents=True)
        (tmp_path / "compressed/x/trials/1.json").write_text("{}")
        place.write_bytes(b"\xff")
    done = cli("compress", NETWORK, "--data", photos, "--max-bytes", "40KB", "--image-size", "16", "--in-process")
    said = "is a folder, and would be the spec" if folder else "is that of another search"
    assert (done.code, said in done.err) == (2, True), done


def test_init_writes_a_spec_once(photos: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("init", NETWORK, "--data", photos, "--image-size", "16", "--output", "first.yaml")
    assert (done.code, "first.yaml written" in done.out) == (0, True), done.err
    assert "tune-app plan first.yaml" in done.out
    text = (tmp_path / "first.yaml").read_text()
    assert text.startswith("# A first search for the whole frontier")
    assert cli("validate", "first.yaml").code == 0
    again = cli("init", NETWORK, "--data", photos, "--output", "first.yaml")
    assert (again.code, "first.yaml is there already" in again.err) == (2, True)
    assert (tmp_path / "first.yaml").read_text() == text


def test_init_writes_no_file_that_would_be_read_as_standard_input(photos: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("init", NETWORK, "--data", photos, "--output", "-")
    assert (done.code, "- is standard input to what reads it" in done.err) == (2, True), done
    assert [place.name for place in tmp_path.iterdir()] == ["photos"]


def test_init_asks_at_a_terminal_alone(photos: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = cli("init", NETWORK)
    assert (refused.code, "init takes a network and --data, or asks" in refused.err) == (2, True)
    answers = io.StringIO(f"{NETWORK}\n{photos}\n30KB\n")
    answers.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", answers)
    done = cli("init", "--image-size", "16")
    assert done.code == 0, done
    assert "budget_bytes: 29400" in (tmp_path / "search.yaml").read_text()
