"""What a search reads back of its own folder is what was written, or is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tune_app.factories import make_baseline_info, make_record, make_spec
from trainables.config import sealed
from trainables.errors import CorruptFile
from trainables.storage import create_once
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import SEALED, ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.test_results import HeldOut, read_held_out, store_held_out
from tune_app.spec.yaml_file import dump_spec

POINT = {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}


def folder_of(place: Path) -> ExperimentFolder:
    folder = ExperimentFolder(place / "toy")
    folder.claim(make_spec(place))
    create_once(folder.baseline_file, sealed(make_baseline_info()))
    store_held_out(folder.baseline_file.parent, HeldOut(accuracy=0.9, n=100))
    with Lease(folder) as lease:
        lease.save_in_flight([make_record(0, POINT).assignment])
    return folder


FILES: dict[str, tuple[Callable[[ExperimentFolder], Path], Callable[[ExperimentFolder], Any]]] = {
    "baseline": (lambda f: f.baseline_file, read_baseline),
    "test results": (lambda f: f.baseline_file.parent / "test.json", lambda f: read_held_out(f.baseline_file.parent)),
    "in flight": (lambda f: f.in_flight_file, lambda f: Lease(f).in_flight() or None),
    "spec": (lambda f: f.spec_file, lambda f: f.read_spec()),
}


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_or_changes_nothing(name: str, tmp_path: Path) -> None:
    path_of, read = FILES[name]
    folder = folder_of(tmp_path)
    path, written = path_of(folder), read(folder)
    content = path.read_bytes()
    assert written
    places = range(0, len(content), 1 if len(content) < 1_000 else 7)
    refused = []
    for place in places:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        found = None
        try:
            found = read(folder)
        except CorruptFile as err:
            refused.append(str(err))
        assert found in (None, written)
    assert all(str(path) in said or str(path.parent) in said for said in refused)
    path.unlink()
    assert name == "in flight" or len(refused) > 0.9 * len(places)


def test_files_of_older_versions_have_no_checksum_and_are_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    spec, baseline = folder.read_spec(), read_baseline(folder)
    assert baseline is not None
    folder.spec_file.write_text(dump_spec(spec))
    folder.baseline_file.write_text(baseline.model_dump_json(indent=1))
    (folder.baseline_file.parent / "test.json").write_text('{"accuracy": 0.9, "n": 100}')
    assert (folder.read_spec(), read_baseline(folder)) == (spec, baseline)
    assert read_held_out(folder.baseline_file.parent) == HeldOut(accuracy=0.9, n=100)
    assert folder.claim(spec.model_copy(update={"worker_retries": 1})) == ["worker_retries: 3 → 1"]
    assert SEALED in folder.spec_file.read_text()


def test_a_spec_that_was_edited_in_its_folder_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    text = folder.spec_file.read_text()
    folder.spec_file.write_text(text.replace("worker_retries: 3", "worker_retries: 4"))
    with pytest.raises(CorruptFile, match=r"experiment.yaml is not what was written: its checksum does not match"):
        folder.read_spec()
