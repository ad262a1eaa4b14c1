"""Each machine has the images of a large set in its own files; one that lacks them makes them, or ends the search."""

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.specs import tiny_spec
from tests.trainables.data.files import draw, encoded, write_folder
from trainables.data import data_sets
from trainables.data.decoding import decode_once
from trainables.errors import ConfigError
from tune_app.engine.images import images_here, load_images
from tune_app.engine.live_view import LiveView, Status
from tune_app.engine.trial import workplace_of
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ExperimentSpec:
    """A set of 60 images of 8x8 that counts as large, ten in a file."""
    monkeypatch.setattr(decode_once, "SHARD_BYTES", 10 * 192)
    monkeypatch.setattr(data_sets, "IN_MEMORY_BYTES", 0)
    root = write_folder(tmp_path / "images", *draw(60))
    data = {"name": "image_folder", "root": str(root), "cache": str(tmp_path / "cache"), "image_size": 8}
    made = tiny_spec(tmp_path / "runs")
    changed = made.model_dump(mode="json")
    changed["base"]["data"] = {**data, "augment": {"crop_padding": 0}}
    return ExperimentSpec.model_validate(changed)


def test_another_machine_makes_its_own_files(spec: ExperimentSpec, tmp_path: Path) -> None:
    data = load_images(spec)
    content = pickle.dumps(data)  # as Ray carries it
    assert images_here(spec, data) is data
    shutil.rmtree(tmp_path / "cache")
    arrived = pickle.loads(content)
    assert not arrived.here
    place = workplace_of(spec, arrived, gpu=0)
    assert place.data.here
    assert place.data.fingerprint == data.fingerprint
    assert len(place.train) + len(place.val) == 48


def test_a_machine_with_other_images_ends_the_search(spec: ExperimentSpec, tmp_path: Path) -> None:
    data = load_images(spec)
    shutil.rmtree(tmp_path / "cache")
    for file in (tmp_path / "images").rglob("*.png"):
        file.write_bytes(encoded(np.zeros((8, 8, 3), np.uint8)))
    with pytest.raises(ConfigError, match=r"'image_folder' is not the same on all machines: .* Copy the files"):
        images_here(spec, data)


def test_the_view_shows_how_many_images_are_decoded(spec: ExperimentSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ExperimentFolder(spec.folder)
    seen = []
    write = decode_once.write_shard

    def watched(*args: object) -> None:
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=True, width=100, color_system=None)
        console.print(LiveView(Status(spec), console=console)._render())
        seen.append((json.loads(Path(folder.decoding_file).read_text()), "decoded of 48" in stream.getvalue()))
        write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(decode_once, "write_shard", watched)
    load_images(spec)
    assert seen == [({"done": done, "total": 48}, True) for done in range(0, 48, 10)]
    assert not Path(folder.decoding_file).exists()
