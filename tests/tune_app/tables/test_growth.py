from pathlib import Path

import pytest

from tests.tune_app.factories import REFERENCE, make_experiment, make_record, make_spec
from trainables.errors import ConfigError
from tune_app.tables.growth import hypervolume_rows, trace_frame


def test_the_volume_grows_with_trials_and_training(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, constraints=["accuracy >= 0.5"])
    records = [
        make_record(3, {"w_bits": 2}, 0.9, 400_000),
        make_record(0, {"w_bits": 8}, 0.6, 500_000),
        make_record(1, {"w_bits": 8}, 0.99, 10, rung="ptq"),
        make_record(2, {"w_bits": 4}, 0.4, 100_000),  # outside its bound
        make_record(4, {"w_bits": 3}, state="failed").model_copy(update={"seconds": 7.0}),
    ]
    rows = hypervolume_rows(records, spec, REFERENCE)
    assert [row["number"] for row in rows] == [0, 2, 3, 4]
    assert [row["trials"] for row in rows] == [1, 2, 3, 4]
    assert [row["training_s"] for row in rows] == pytest.approx([1.5, 4.5, 6.0, 7.5])
    assert [row["hypervolume"] for row in rows] == pytest.approx([3e5, 3e5, 5.4e5, 5.4e5])


def test_no_trials_make_no_rows(tmp_path: Path) -> None:
    assert hypervolume_rows([], make_spec(tmp_path), REFERENCE) == []


def test_an_experiment_without_a_baseline_has_no_volume(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, [make_record(0, {"w_bits": 4})])
    if folder.baseline_file.exists():
        folder.baseline_file.unlink()
    with pytest.raises(ConfigError, match="has no baseline yet"):
        trace_frame(folder.path)
