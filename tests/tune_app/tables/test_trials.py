import contextlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from search_spaces.space import FIELDS
from tests.tune_app.factories import (
    REFERENCE,
    make_experiment,
    make_record,
    make_records,
    make_spec,
    store_baseline,
    tabulate,
)
from trainables.errors import CorruptFile, StorageUnavailable
from trainables.results import StageRun
from trainables.storage import StoragePath, exists, read_bytes, remove, remove_tree, replace
from tune_app.errors import LeaseHeld
from tune_app.frontier.pareto import non_dominated
from tune_app.frontier.points import frontier, frontier_ids, group_runs
from tune_app.ledger.baseline import require_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Ledger, TrialRecord
from tune_app.ledger.test_results import HeldOut, store_held_out
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec
from tune_app.tables.at_rest import current_table, known_trials
from tune_app.tables.columns import CATALOG, COLUMNS
from tune_app.tables.trial_rows import trial_rows
from tune_app.tables.trials import load_trials, read_table, write_tables


def made_rows(records: list[TrialRecord], spec: ExperimentSpec, **known: Any) -> list[dict[str, Any]]:
    groups = group_runs(records, spec)
    return trial_rows(records, groups, frontier(groups, spec), spec, **known)


def labels(table: pa.Table) -> list[str]:
    return table["label"].to_pylist()


def test_a_row_holds_what_the_record_says(tmp_path: Path) -> None:
    record = make_record(7, {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}, 0.93, 90_000)
    [row] = made_rows(
        [record],
        make_spec(tmp_path),
        tested={record.assignment.trial_id: HeldOut(accuracy=0.91, balanced_accuracy=0.9, n=100)},
    )
    assert list(row.items()) == [
        ("trial_id", record.assignment.trial_id),
        ("number", 7),
        ("label", "p30_w4_a8"),
        ("rung", "full"),
        ("state", "complete"),
        ("reason", ""),
        ("attempt", 1),
        ("repeat", 0),
        ("seed", 7),
        ("on_frontier", True),
        ("feasible", True),
        ("prune_frac", 0.3),
        ("w_bits", 4),
        ("a_bits", 8),
        ("accuracy", 0.93),
        ("top5_accuracy", pytest.approx(0.965)),
        ("balanced_accuracy", pytest.approx(0.92)),
        ("macro_f1", pytest.approx(0.91)),
        ("cross_entropy", pytest.approx(0.14)),
        ("accuracy_drop", None),
        ("accuracy_trained", 0.93),
        ("test_accuracy", 0.91),
        ("test_top5_accuracy", None),
        ("test_balanced_accuracy", 0.9),
        ("test_macro_f1", None),
        ("test_cross_entropy", None),
        ("n", 179),
        ("size_bytes", 90_000),
        ("compression_ratio", pytest.approx(100 / 9)),
        ("pruned_compression_ratio", 8),  # the factory has two parameters for each byte
        ("parameters", 180_000),
        ("prune_frac_achieved", 0.3),
        ("sparsity_achieved", 0.25),
        ("macs", 900_000),
        ("bops", 57_600_000),
        ("activation_bytes", 40_000),
        ("peak_activation_bytes", 8_000),
        ("onnx_size_bytes", None),
        ("onnx_accuracy", None),
        ("onnx_failure", None),
        ("accuracy_pruned", None),
        ("accuracy_fine_tuned", None),
        ("accuracy_sparsified", None),
        ("prune_frac_requested", None),
        ("sparsity_requested", None),
        ("sparsity_reached", None),
        ("stopped_early", None),
        ("accuracy_mean", 0.93),
        ("accuracy_sd", None),
        ("size_bytes_mean", 90_000.0),
        ("size_bytes_sd", None),
        ("repeats", 1),
        ("test_accuracy_mean", 0.91),
        ("test_accuracy_sd", None),
        ("p_non_dominated", 1.0),
        ("hypervolume_contribution", None),
        ("size_header", 100),
        ("size_weights", 89_900),
        ("formula_a_bytes", 45_000),
        ("formula_kalkura_bytes", 180_000),
        ("seconds", 2.0),
        ("seconds_train", 0.25),
        ("seconds_ptq", 1.5),
        ("stages_cached", 1),
        ("config_key", record.assignment.config_key),
        ("artifact_sha256", "f" * 64),
        ("started_at", "2025-01-02T03:04:05+00:00"),
        ("code_version", "0.1.0"),
        ("host", "h"),
        ("device", "cpu"),
        ("gpu_share", 0.0),
        ("gpu_peak_share", None),
        ("out_of_memory", 0),
        ("taken_from", None),
    ]


def test_a_row_says_what_a_trial_took_of_a_gpu_and_who_ran_it(tmp_path: Path) -> None:
    took = {"gpu_share": 0.5, "gpu_peak_share": 0.375, "out_of_memory": 1, "taken_from": "demo"}
    folder = make_experiment(tmp_path, [make_record(0, {"w_bits": 4}).model_copy(update=took), make_records()[2]])
    [row, other] = read_table(folder.trials_table).select(list(took)).to_pylist()
    assert row == took
    assert other == {"gpu_share": 0.0, "gpu_peak_share": None, "out_of_memory": 0, "taken_from": None}


def test_a_failed_trial_has_nulls_and_its_reason(tmp_path: Path) -> None:
    [row] = made_rows([make_record(0, {"w_bits": 2}, state="invalid", message="bad \udcff byte")], make_spec(tmp_path))
    assert row["reason"] == r"Diverged: bad \udcff byte"
    assert (row["state"], row["on_frontier"], row["feasible"]) == ("invalid", False, False)
    assert row["accuracy"] is row["size_bytes"] is row["artifact_sha256"] is row["prune_frac"] is None


STAGES = [
    StageRun(kind="train", key="a", seconds=1.0, cached=True, metrics={"val_accuracy": 0.95}),
    StageRun(
        kind="channel_prune",
        key="b",
        seconds=1.0,
        cached=False,
        metrics={
            "val_accuracy": 0.94,
            "val_accuracy_pruned": 0.5,
            "prune_frac_requested": 0.3,
            "prune_frac_achieved": 0.28,
        },
    ),
    StageRun(
        kind="sparsify",
        key="c",
        seconds=1.0,
        cached=False,
        metrics={"val_accuracy": 0.92, "sparsity_requested": 0.7, "sparsity_achieved": 0.405, "stopped_early": 1.0},
    ),
    StageRun(kind="ptq", key="d", seconds=1.0, cached=False, metrics={"val_accuracy": 0.9}),
]


def test_a_row_says_how_each_stage_ended(tmp_path: Path) -> None:
    record = make_record(0, {"w_bits": 4}, 0.9)
    found = record.model_copy(update={"result": record.result.model_copy(update={"stages": STAGES})})
    folder = make_experiment(tmp_path, [found], tables=False)
    store_baseline(folder, accuracy=0.95)
    tabulate(folder, [found])
    for table in (read_table(folder.trials_table), load_trials(folder, [found])):
        ended = [column.name for column in CATALOG["stages"] if not column.word]
        [row] = table.select([*ended, "accuracy_drop", "accuracy_trained"]).to_pylist()
        assert row == {
            "accuracy_pruned": 0.5,
            "accuracy_fine_tuned": 0.94,
            "accuracy_sparsified": 0.92,
            "prune_frac_requested": 0.3,
            "sparsity_requested": 0.7,
            "sparsity_reached": 0.405,
            "stopped_early": True,
            "accuracy_drop": pytest.approx(0.05),
            "accuracy_trained": 0.9,
        }


def test_a_failed_trial_says_how_its_finished_stages_ended(tmp_path: Path) -> None:
    record = make_record(0, {"w_bits": 4}, state="failed")
    found = record.model_copy(update={"result": record.result.model_copy(update={"stages": STAGES[:2]})})
    [row] = made_rows([found], make_spec(tmp_path), baseline_accuracy=0.95)
    assert (row["accuracy_pruned"], row["accuracy_fine_tuned"]) == (0.5, 0.94)
    assert row["accuracy"] is row["accuracy_drop"] is row["stopped_early"] is None


def test_a_trial_that_was_refused_after_its_measurement_shows_it(tmp_path: Path) -> None:
    collapsed = make_record(
        0, {"w_bits": 2}, 0.1, 60_000, state="invalid", kind="Collapsed", message="at chance", measured=True
    )
    [row] = made_rows([collapsed], make_spec(tmp_path), baseline_accuracy=0.95)
    assert (row["accuracy"], row["size_bytes"], row["size_header"]) == (0.1, 60_000, 100)
    assert (row["accuracy_drop"], row["compression_ratio"]) == (pytest.approx(0.85), pytest.approx(100 / 6))
    assert (row["state"], row["reason"]) == ("invalid", "Collapsed: at chance")
    assert (row["on_frontier"], row["feasible"], row["accuracy_mean"]) == (False, False, None)


def test_the_frontier_is_full_complete_feasible_and_rises_in_size(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, constraints=["accuracy >= 0.9"])
    records = [*make_records(), make_record(6, {"w_bits": 8}, 0.99, 10, rung="r0")]
    by_id = {r.assignment.trial_id: r.assignment.number for r in records}
    assert [by_id[i] for i in frontier_ids(records, spec)] == [1, 0]
    assert [by_id[i] for i in frontier_ids(records, make_spec(tmp_path))] == [3, 1, 0]
    accuracy_alone = make_spec(tmp_path, objectives={"accuracy": "maximize"})
    assert [by_id[i] for i in frontier_ids(records, accuracy_alone)] == [0]
    feasible = {r["number"] for r in made_rows(records, spec) if r["feasible"]}
    assert feasible == {0, 1, 2, 5, 6}


def test_every_row_of_a_point_says_what_its_runs_say_together(tmp_path: Path) -> None:
    params, below = {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}, {"prune_frac": 0.3, "w_bits": 4, "a_bits": 4}
    records = [
        make_record(0, params, 0.92, 90_000),
        make_record(1, params, 0.94, 90_200, repeat=1),
        make_record(2, params, state="failed", repeat=2),
        make_record(3, params, 0.5, 90_000, rung="ptq"),
        make_record(4, below, state="invalid"),
    ]
    found = made_rows(records, make_spec(tmp_path))
    assert [row["repeat"] for row in found] == [0, 1, 2, 0, 0]
    names = ["accuracy_mean", "accuracy_sd", "size_bytes_mean", "size_bytes_sd", "repeats", "p_non_dominated"]
    together = [0.93, 0.02 / 2**0.5, 90_100, 200 / 2**0.5, 2, 1.0]
    for row in found[:3]:
        assert [row[name] for name in names] == pytest.approx(together)
    for row in found[3:]:
        assert [row[name] for name in names] == [None] * 6
    assert [row["feasible"] for row in found] == [True, True, False, True, False]


def test_each_point_of_the_frontier_says_what_it_adds(tmp_path: Path) -> None:
    def point(bits: int) -> dict[str, float | int | str]:
        return {"prune_frac": 0.3, "w_bits": 4, "a_bits": bits}

    records = [
        make_record(0, point(4), 0.5, 400_000),
        make_record(1, point(8), 0.8, 900_000),
        make_record(2, {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}, 0.4, 500_000),
    ]
    found = made_rows(records, make_spec(tmp_path), reference=REFERENCE)
    gains = [row["hypervolume_contribution"] for row in found]
    assert gains[:2] == pytest.approx([0.5 * 500_000, 0.3 * 100_000])
    assert gains[2] is None


def test_the_frontier_is_of_means_and_its_row_is_the_first_run(tmp_path: Path) -> None:
    lucky, steady = ({"prune_frac": 0.3, "w_bits": 4, "a_bits": bits} for bits in (4, 8))
    records = [
        make_record(0, lucky, 0.95, 90_000),
        make_record(1, steady, 0.93, 90_000),
        make_record(2, lucky, 0.85, 90_000, repeat=1),
        make_record(3, steady, 0.93, 90_000, repeat=1),
    ]
    assert frontier_ids(records[:2], make_spec(tmp_path)) == [records[0].assignment.trial_id]
    folder = make_experiment(tmp_path, records)
    assert read_table(folder.frontier_table)["number"].to_pylist() == [1]
    table = read_table(folder.trials_table)
    assert table["on_frontier"].to_pylist() == [False, True, False, False]
    assert table["p_non_dominated"].to_pylist() == pytest.approx([0.274, 0.726] * 2, abs=0.05)
    volume = float(read_table(folder.frontier_table).schema.metadata[b"tune_app.hypervolume"])
    assert volume == pytest.approx(0.93 * 910_000)


def test_bounds_are_kept_by_the_means(tmp_path: Path) -> None:
    params = {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}
    records = [make_record(0, params, 0.89), make_record(1, params, 0.95, repeat=1)]
    found = made_rows(records, make_spec(tmp_path, constraints=["accuracy >= 0.9"]))
    assert [(row["feasible"], row["on_frontier"]) for row in found] == [(True, True), (True, False)]
    found = made_rows(records, make_spec(tmp_path, constraints=["accuracy >= 0.93"]))
    assert [(row["feasible"], row["p_non_dominated"]) for row in found] == [(False, 0.0), (False, 0.0)]


def test_no_parameter_is_named_like_another_column() -> None:
    assert not set(FIELDS) & set(COLUMNS)


def test_pandas_and_duckdb_read_the_files(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    frame = pd.read_parquet(folder.trials_table)
    assert frame["label"].tolist() == [r.assignment.label for r in make_records()]
    assert frame["on_frontier"].tolist() == [True, True, False, True, False, False]
    query = f"SELECT label FROM '{folder.frontier_table}'"
    assert [row[0] for row in duckdb.sql(query).fetchall()] == ["p50_w4_a8", "p30_w4_a8", "p0_w8_a8"]


def test_the_metadata_say_what_the_table_is(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    metadata = read_table(folder.frontier_table).schema.metadata
    assert metadata[b"tune_app.schema"] == b"10"
    assert metadata[b"tune_app.experiment"] == b"toy"
    assert json.loads(metadata[b"tune_app.objectives"]) == {"accuracy": "maximize", "size_bytes": "minimize"}
    assert json.loads(metadata[b"tune_app.reference"]) == REFERENCE
    # Three steps up to 1,000,000 bytes: 0.88 from 60,000 bytes on, 0.05 more from 90,000, 0.02 from 250,000.
    volume = 0.88 * 940_000 + 0.05 * 910_000 + 0.02 * 750_000
    assert float(metadata[b"tune_app.hypervolume"]) == pytest.approx(volume)
    assert b"tune_app.hypervolume" not in read_table(folder.trials_table).schema.metadata


def test_types_do_not_depend_on_values(tmp_path: Path) -> None:
    full = read_table(make_experiment(tmp_path / "full").trials_table).schema
    types = {f.name: f.type for f in full if not f.name.startswith(("size_h", "size_w", "formula_"))}
    failed = [make_record(0, {"prune_frac": 0, "w_bits": 2, "a_bits": 4}, state="failed")]
    for records in (failed, []):
        bare = read_table(make_experiment(tmp_path / f"bare{len(records)}", records).trials_table).schema
        assert {f.name: f.type for f in bare} == types
    assert (types["prune_frac"], types["w_bits"], types["label"]) == (pa.float64(), pa.int64(), pa.string())


def test_a_parameter_with_numbers_and_names_is_text(tmp_path: Path) -> None:
    records = [make_record(0, {"w_bits": 4}), make_record(1, {"w_bits": "mixed"}), make_record(2, {"extra": 0.5})]
    table = known_trials(make_experiment(tmp_path, records))
    assert table["w_bits"].to_pylist() == ["4", "mixed", None]
    assert table["extra"].to_pylist() == [None, None, 0.5]


@pytest.mark.parametrize("name", ["trials.parquet", "frontier.parquet"])
def test_a_flipped_bit_never_changes_what_is_read(tmp_path: Path, name: str) -> None:
    path = make_experiment(tmp_path).path / name
    content, intact = path.read_bytes(), read_table(path)
    caught = 0
    for place in range(0, len(content), 97):
        for bit in (0, 6):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                table = read_table(path)
            except CorruptFile:
                caught += 1
            else:
                assert table.equals(intact, check_metadata=True)
    assert caught > len(content) / 97


def test_a_changed_footer_is_caught_although_every_page_is_intact(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    volume = read_table(folder.frontier_table).schema.metadata[b"tune_app.hypervolume"]
    content = folder.frontier_table.read_bytes()
    assert content.count(volume) >= 1
    folder.frontier_table.write_bytes(content.replace(volume, volume[:-1] + (b"1" if volume[-1:] != b"1" else b"2")))
    with pytest.raises(CorruptFile):
        read_table(folder.frontier_table)


@pytest.mark.parametrize("length", [0, 1, 4, 100, -1, -8])
def test_a_truncated_file_is_corrupt(tmp_path: Path, length: int) -> None:
    path = make_experiment(tmp_path).trials_table
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CorruptFile, match=r"trials\.parquet"):
        read_table(path)


def test_foreign_and_older_tables_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"accuracy": [1.0]})
    pq.write_table(table, path)
    with pytest.raises(CorruptFile, match="table schema none, this version reads 10"):
        read_table(path)
    pq.write_table(table.replace_schema_metadata({"tune_app.schema": "1"}), path)
    with pytest.raises(CorruptFile, match="table schema 1, this version reads 10"):
        read_table(path)
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "absent.parquet")
    with pytest.raises(StorageUnavailable):
        read_table(tmp_path)


def is_from_the_file(table: pa.Table) -> bool:
    """Only the writer of the file was told a reference, without which no trial has a share of the hypervolume."""
    return table["hypervolume_contribution"].null_count < len(table)


def test_an_intact_table_is_used_and_a_missing_or_damaged_one_rebuilt(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    intact = read_table(folder.trials_table)
    assert is_from_the_file(known_trials(folder))
    for damage in (lambda: replace(folder.trials_table, b"PAR1"), lambda: remove(folder.trials_table)):
        damage()
        rebuilt = known_trials(folder)
        assert not is_from_the_file(rebuilt)
        unknown = ["hypervolume_contribution"]  # there is no baseline to measure it from
        assert rebuilt.drop_columns(unknown).equals(intact.drop_columns(unknown))
        assert rebuilt[unknown[0]].null_count == len(rebuilt)
    assert not exists(folder.trials_table)


def test_a_table_behind_the_ledger_is_rebuilt_in_memory(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    tested = make_records()[0].assignment.trial_id
    store_held_out(folder.artifacts / tested, HeldOut(accuracy=0.94, n=100))
    tabulate(folder, make_records())
    before = read_bytes(folder.trials_table)
    Ledger(folder.trials).add(make_record(6, {"prune_frac": 0.5, "w_bits": 2, "a_bits": 4}, 0.96, 50_000))
    table = known_trials(folder)
    assert labels(table)[-1] == "p50_w2_a4"
    assert table["on_frontier"].to_pylist() == [False] * 6 + [True]
    assert table["test_accuracy"].to_pylist() == [0.94, *[None] * 6]
    assert read_bytes(folder.trials_table) == before


def test_a_mean_over_the_test_split_waits_for_all_runs(tmp_path: Path) -> None:
    runs = [make_record(i, {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}, 0.9, 50_000, repeat=i) for i in range(2)]
    tested = [HeldOut(accuracy=accuracy, n=100) for accuracy in (0.87, 0.89)]
    known = {run.assignment.trial_id: result for run, result in zip(runs, tested, strict=True)}
    first = dict([next(iter(known.items()))])
    found = [made_rows(runs, make_spec(tmp_path), tested=results) for results in (first, known)]
    assert [[row["test_accuracy"] for row in rows] for rows in found] == [[0.87, None], [0.87, 0.89]]
    assert [[row["test_accuracy_mean"] for row in rows] for rows in found] == [[None, None], [pytest.approx(0.88)] * 2]


def test_a_second_attempt_replaces_the_first(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    params = {"prune_frac": 0.5, "w_bits": 2, "a_bits": 8}
    Ledger(folder.trials).add(make_record(6, params, 0.7, 50_000, attempt=2))
    expected = ["complete"] * 6
    assert known_trials(folder)["state"].to_pylist() == expected
    tabulate(folder)
    table = known_trials(folder)
    assert is_from_the_file(table)  # the older attempt in the ledger does not make it stale
    assert table["state"].to_pylist() == expected


def test_a_table_of_another_spec_or_experiment_is_not_believed(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    replace(folder.spec_file, dump_spec(make_spec(storage, constraints=["accuracy >= 0.9"])).encode())
    assert known_trials(folder)["feasible"].to_pylist() == [True, True, True, False, False, True]
    other = make_experiment(storage, [make_record(0, {"w_bits": 4})], name="other")
    replace(other.trials_table, read_bytes(folder.trials_table))
    assert labels(known_trials(other)) == ["w4"]


def test_a_damaged_record_does_not_hide_the_others(storage: StoragePath) -> None:
    folder = make_experiment(storage, tables=False)
    replace(folder.trials / f"{make_records()[2].assignment.trial_id}.json", b"{")
    assert len(known_trials(ExperimentFolder(folder.path))) == 5


def test_a_file_is_current_while_ledger_and_spec_are_as_they_were(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    file = current_table(folder)
    assert file is not None
    assert file.path == folder.trials_table
    assert file.columns == known_trials(folder).column_names
    file.check()
    Ledger(folder.trials).add(make_record(6, {"prune_frac": 0.5, "w_bits": 2, "a_bits": 4}, 0.96, 50_000))
    assert current_table(folder) is None
    tabulate(folder)
    assert current_table(folder) is not None
    replace(folder.spec_file, dump_spec(make_spec(tmp_path, constraints=["accuracy >= 0.9"])).encode())
    assert current_table(folder) is None


def test_a_table_that_misses_a_record_never_counts_as_current(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    tabulate(folder, make_records()[:-1])
    assert current_table(folder) is None
    assert len(known_trials(folder)) == 6


def test_only_a_disk_tells_when_its_ledger_changed(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    if isinstance(storage, Path):
        tabulate(folder)
    assert (current_table(folder) is not None) == isinstance(storage, Path)
    remove(folder.trials_table)
    assert current_table(folder) is None


def test_a_write_finds_the_frontier_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows, its members and its volume are of one frontier."""
    folder, found = make_experiment(tmp_path, tables=False), []

    def spy(costs: np.ndarray) -> np.ndarray:
        found.append(len(costs))
        return non_dominated(costs)

    monkeypatch.setattr("tune_app.frontier.points.non_dominated", spy)
    tabulate(folder, make_records())
    assert found == [5]
    assert len(read_table(folder.frontier_table)) == 3


@pytest.mark.parametrize("paused_at", ["trials.parquet", "frontier.parquet"])
def test_a_driver_that_wakes_behind_another_one_leaves_no_old_table(
    paused_at: str, storage: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, newer = (
        make_experiment(storage, tables=False),
        make_record(6, {"prune_frac": 0.5, "w_bits": 2}, 0.96, 5_000),
    )
    store_baseline(folder)
    reference = require_baseline(folder).reference(folder.read_spec())

    def write(lease: Lease, records: list[TrialRecord]) -> None:
        write_tables(lease, records, folder.read_spec(), reference=reference)

    def asleep(path: StoragePath, content: bytes) -> None:
        """Sleeps between the look at the lease and the rename, while another driver runs a trial and ends."""
        if path.name == paused_at:
            monkeypatch.setattr("tune_app.tables.trials.replace", replace)
            replace(folder.lease / "00000002.json", b"{}")  # another one had it and gave it back
            with Lease(folder) as other:
                assert Ledger(folder.trials).add(newer)
                write(other, [*make_records(), newer])
        replace(path, content)

    monkeypatch.setattr("tune_app.tables.trials.replace", asleep)
    with Lease(folder) as first, pytest.raises(LeaseHeld, match="took over"):
        write(first, make_records())
    tables = [pq.read_table(pa.BufferReader(read_bytes(p))) for p in (folder.trials_table, folder.frontier_table)]
    assert labels(tables[0])[-1] == "p50_w2"
    assert labels(tables[1]) == ["p50_w2"]
    assert is_from_the_file(known_trials(folder))
    assert {table.schema.metadata[b"tune_app.generation"] for table in tables} == {b"1"}  # of who wrote last


def test_who_lost_the_lease_leaves_the_tables_to_a_driver_that_works(
    storage: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of whose records makes them old again."""
    folder = make_experiment(storage, tables=False)
    store_baseline(folder)
    writes, numbers, others = [], itertools.count(6), contextlib.ExitStack()

    def asleep(path: StoragePath, content: bytes) -> None:
        if not writes:
            replace(folder.lease / "00000002.json", b"{}")
            others.enter_context(Lease(folder))
        writes.append(path.name)
        assert len(writes) < 100, "it never ends"
        assert Ledger(folder.trials).add(make_record(next(numbers), {"w_bits": next(numbers)}, 0.5, 5_000))
        replace(path, content)

    monkeypatch.setattr("tune_app.tables.trials.replace", asleep)
    with others, Lease(folder) as first, pytest.raises(LeaseHeld, match="took over"):
        write_tables(first, make_records(), folder.read_spec(), reference=REFERENCE)


def test_the_footers_name_the_driver_that_wrote_the_tables(storage: StoragePath) -> None:
    folder = make_experiment(storage)
    for generation in (b"1", b"2"):
        for path in (folder.trials_table, folder.frontier_table):
            assert read_table(path).schema.metadata[b"tune_app.generation"] == generation
        tabulate(folder)


def test_who_lost_the_lease_writes_nothing(storage: StoragePath) -> None:
    folder = make_experiment(storage, tables=False)
    with Lease(folder) as lease:
        remove_tree(folder.lease)
        with pytest.raises(LeaseHeld):
            write_tables(lease, make_records(), folder.read_spec(), reference=REFERENCE)
    assert not exists(folder.trials_table)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in Linux's /proc")
def test_a_table_is_read_without_other_threads(tmp_path: Path) -> None:
    """One that still held the content while the interpreter ended would abort the process."""
    folder = make_experiment(tmp_path)
    tabulate(folder)
    (tmp_path / "copy.parquet").write_bytes(read_bytes(folder.trials_table))
    script = (
        "import os, pathlib, sys\n"
        "from tune_app.tables.trials import decode_table\n"
        "def count(): return len(os.listdir('/proc/self/task'))\n"
        "before = count()\n"
        "decode_table(pathlib.Path(sys.argv[1]).read_bytes(), name='copy')\n"
        "print(count() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "copy.parquet"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"
