import csv
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from tests.tune_app.factories import make_experiment, make_record, store_baseline
from trainables.errors import ConfigError
from trainables.results import METRICS
from tune_app.cli.frames import write_frame
from tune_app.tables.query import frontier_frame


def cells(line: str) -> list[str]:
    """The cells of a row; a number and its unit are one."""
    return re.split(r"(?<!±) +(?!%|pp|±)", line.strip())


@pytest.fixture
def frame(tmp_path: Path) -> pd.DataFrame:
    """Six trials, the last one without a result."""
    return frontier_frame(make_experiment(tmp_path).path, all=True)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Prints a frame at some terminal width; returns what came out."""

    def show(frame: pd.DataFrame, *, columns: int = 80, **options) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        arguments = {"json": False, "csv": False, "parquet": None, "title": "toy", "none": "no rows"}
        write_frame(frame, **{**arguments, **options})
        return capsys.readouterr().out

    return show


def test_every_objective_is_a_column(tmp_path: Path, printed) -> None:
    objectives = {"balanced_accuracy": "maximize", "size_bytes": "minimize", "cross_entropy": "minimize"}
    folder = make_experiment(tmp_path, objectives=objectives)
    head, _, row, *_ = printed(frontier_frame(folder.path), columns=120).split("\n", 1)[1].strip().splitlines()
    assert head.split()[-4:-2] == ["balanced", "loss"]
    assert cells(row)[-3:-1] == ["87.00 %", "0.24"]


@pytest.mark.parametrize("metric", METRICS)
def test_a_narrow_terminal_cuts_no_cell_of_an_objective(metric: str, tmp_path: Path, printed) -> None:
    frame = frontier_frame(make_experiment(tmp_path, objectives=[metric]).path)
    shown = printed(frame, columns=40)
    for row in frame.to_dict("records"):
        assert row["label"] in shown
        assert row["trial_id"] in shown


def test_json_is_a_list_of_records(frame: pd.DataFrame, printed) -> None:
    records = json.loads(printed(frame, json=True))
    assert [r["number"] for r in records] == [3, 1, 2, 5, 0, 4]
    assert records[1]["accuracy"] == 0.93
    assert type(records[1]["size_bytes"]) is int
    assert records[1]["on_frontier"] is True
    assert records[5]["accuracy"] is records[5]["size_bytes"] is records[5]["artifact_sha256"] is None
    assert list(records[0]) == list(frame.columns)


def test_json_keeps_every_digit(printed) -> None:
    values = [0.1 + 0.2, 1 / 3, 2.0**-40]
    shown = json.loads(printed(pd.DataFrame({"accuracy": values}), json=True))
    assert [r["accuracy"] for r in shown] == values


def test_csv_has_a_header_and_whole_counts(frame: pd.DataFrame, printed) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(frame, csv=True))))
    assert list(rows[0]) == list(frame.columns)
    assert (rows[0]["size_bytes"], rows[0]["accuracy"], rows[5]["size_bytes"]) == ("60000", "0.88", "")


def test_parquet_is_written_in_one_step(frame: pd.DataFrame, printed, tmp_path: Path) -> None:
    path = tmp_path / "out" / "rows.parquet"
    assert printed(frame, parquet=path) == f"6 rows written to {path}\n"
    assert printed(frame[:1], parquet=path.with_stem("one")).startswith("1 row written to ")
    path.with_stem("one").unlink()
    assert pd.read_parquet(path)["label"].tolist() == frame["label"].tolist()
    assert [p.name for p in path.parent.iterdir()] == ["rows.parquet"]


def test_parquet_leaves_standard_output_to_json(frame: pd.DataFrame, printed, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    assert len(json.loads(printed(frame, parquet=path, json=True))) == 6
    assert path.exists()


def test_refusals(frame: pd.DataFrame, printed, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of the two"):
        printed(frame, json=True, csv=True)
    with pytest.raises(ConfigError, match=r"--parquet writes parquet, but got 'rows.csv'"):
        printed(frame, parquet=tmp_path / "rows.csv")
    with pytest.raises(ConfigError, match="is a folder"):
        printed(frame, parquet=tmp_path)


def test_the_table_shows_what_people_want(frame: pd.DataFrame, printed) -> None:
    lines = printed(frame[frame["on_frontier"]], columns=100).splitlines()
    assert lines[0].strip() == "toy"
    assert lines[1].split() == ["label", "accuracy", "bytes", "ratio", "to", "pruned", "trial", "id"]
    ids = frame["trial_id"].tolist()
    assert [cells(line) for line in lines[3:]] == [
        ["p50_w4_a8", "88.00 %", "60,000", "16.7x", "8.00x", ids[0]],
        ["p30_w4_a8", "93.00 %", "90,000", "11.1x", "8.00x", ids[1]],
        ["p0_w8_a8", "95.00 %", "250,000", "4.00x", "8.00x", ids[4]],
    ]


def test_a_ratio_to_the_pruned_network_is_left_out_where_nothing_was_pruned(frame: pd.DataFrame, printed) -> None:
    same = frame.assign(pruned_compression_ratio=1.04 * frame["compression_ratio"])
    assert "to pruned" not in printed(same, columns=120)


def test_states_are_shown_when_a_trial_has_no_result(frame: pd.DataFrame, printed) -> None:
    lines = printed(frame, columns=120).splitlines()
    assert lines[1].split() == ["label", "accuracy", "bytes", "ratio", "to", "pruned", "state", "trial", "id"]
    assert "complete" in lines[3]
    assert lines[-1].split("–")[-1].split() == ["Diverged:", "the", "loss", "became", "NaN", frame["trial_id"].iloc[5]]


def test_a_sparsity_that_a_bound_ended_stands_beside_the_one_asked_for(frame: pd.DataFrame, printed) -> None:
    frontier = frame[frame["on_frontier"]].reset_index(drop=True)
    reached = frontier.assign(sparsity_requested=0.7, sparsity_reached=[0.7, 0.405, None], stopped_early=False)
    assert "reached" not in printed(reached, columns=120)
    reached["stopped_early"] = [False, True, None]
    lines = printed(reached, columns=120).splitlines()
    assert "sparsity reached" in lines[1]
    assert " 70.00 % of 70.00 % " in lines[3]
    assert " 40.50 % of 70.00 % " in lines[4]
    assert " – " in lines[5]


def test_test_accuracy_is_shown_when_it_is_known(frame: pd.DataFrame, printed) -> None:
    frame.loc[0, "test_accuracy"] = 0.8765
    lines = printed(frame[frame["on_frontier"]]).splitlines()
    assert lines[1].split()[2] == "test"
    assert cells(lines[3])[2] == "87.65 %"
    assert cells(lines[4])[2] == "–"


def test_of_several_runs_the_mean_on_the_test_split_is_shown(frame: pd.DataFrame, printed) -> None:
    frame.loc[0, ["test_accuracy", "test_accuracy_mean", "test_accuracy_sd"]] = (0.8765, 0.8812, 0.0034)
    assert cells(printed(frame[frame["on_frontier"]]).splitlines()[3])[2] == "88.12 ± 0.34 %"


def test_the_drop_against_the_baseline_is_shown_when_it_is_known(tmp_path: Path, printed) -> None:
    accuracies = {4: 0.9, 6: 0.95 + 1e-9, 8: 0.97}
    records = [make_record(i, {"w_bits": w}, acc, 50_000 * w) for i, (w, acc) in enumerate(accuracies.items())]
    records.append(make_record(3, {"w_bits": 2}, 0.0, 10**6, state="failed"))
    folder = make_experiment(tmp_path, records, tables=False)
    assert "drop" not in printed(frontier_frame(folder.path, all=True))
    store_baseline(folder, 0.95)
    lines = printed(frontier_frame(folder.path, all=True), columns=120).splitlines()
    assert lines[1].split()[:3] == ["label", "accuracy", "drop"]
    assert [cells(line)[2] for line in lines[3:]] == ["5.00 pp", "0.00 pp", "-2.00 pp", "–"]


def test_two_columns_give_way_on_a_narrow_terminal(tmp_path: Path, printed) -> None:
    params = {"prune_frac": 0.35, "w_bits": 4, "a_bits": 8}
    records = [make_record(i, params, accuracy, 600_000, repeat=i) for i, accuracy in enumerate((0.88, 0.90, 0.92))]
    folder = make_experiment(tmp_path, records, tables=False)
    store_baseline(folder, 0.99)
    wide, narrow = (printed(frontier_frame(folder.path), columns=columns) for columns in (100, 80))
    assert (" drop " in wide, " drop " in narrow) == (True, False)
    assert max(map(len, narrow.splitlines()[1:])) <= 80
    given_way = ("drop", "to", "pruned")
    assert narrow.splitlines()[1].split() == [word for word in wide.splitlines()[1].split() if word not in given_way]
    assert " pruned " in wide


def test_what_ran_several_times_shows_mean_deviation_and_probability(tmp_path: Path, printed) -> None:
    params, other = {"prune_frac": 0.35, "w_bits": 4, "a_bits": 8}, {"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}
    records = [make_record(i, params, accuracy, 60_000, repeat=i) for i, accuracy in enumerate((0.88, 0.90, 0.92))]
    records.append(make_record(3, other, 0.99, 90_000))
    lines = printed(frontier_frame(make_experiment(tmp_path, records).path)).splitlines()
    ids = [r.assignment.trial_id for r in records]
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["label", "accuracy", "mean±sd", "p", "bytes", "ratio", "trial", "id"]
    assert lines[-1].startswith("p: how likely ")
    assert [cells(line) for line in lines[3:-1]] == [
        ["p35_w4_a8", "88.00 %", "90.00 ± 2.00 %", "1.00", "60,000", "16.7x", ids[0]],
        ["p0_w8_a8", "99.00 %", "–", "1.00", "90,000", "11.1x", ids[3]],
    ]


@pytest.mark.parametrize("columns", [20, 40])
def test_a_terminal_that_is_too_narrow_cuts_nothing(columns: int, frame: pd.DataFrame, printed) -> None:
    shown = printed(frame, columns=columns)
    for row in frame[frame["state"] == "complete"].to_dict("records"):
        for text in (row["label"], f"{100 * row['accuracy']:.2f} %", f"{row['size_bytes']:,.0f}", row["trial_id"]):
            assert text in shown


def test_an_empty_table_says_why_it_is_empty(frame: pd.DataFrame, printed) -> None:
    assert printed(frame[:0], none="nothing has finished yet") == "toy: nothing has finished yet.\n"


def test_at_80_columns_no_number_and_no_name_is_cut(tmp_path: Path, printed) -> None:
    params = {"prune_frac": 0.35, "w_bits": 4, "a_bits": 8}
    records = [
        make_record(0, params, 0.87654, 12_345_678),
        make_record(1, {**params, "w_bits": 2}, state="failed", kind="UnexpectedError", message="long " * 100),
    ]
    shown = printed(frontier_frame(make_experiment(tmp_path, records).path, all=True))
    assert max(map(len, shown.splitlines())) <= 80
    for text in ("p35_w4_a8", "87.65 %", "12,345,678", "0.08x", *(r.assignment.trial_id for r in records)):
        assert text in shown
    assert "…" in shown
    assert len(shown.splitlines()) < 20


def test_text_is_printed_as_it_is(tmp_path: Path, printed) -> None:
    records = [make_record(0, {"w_bits": 2}, state="failed", message="[bold]x[/bold] :warning:")]
    shown = printed(frontier_frame(make_experiment(tmp_path, records).path, all=True), columns=200, title="[a]")
    assert "[bold]x[/bold] :warning:" in shown
    assert "[a]" in shown


def test_a_long_name_is_shortened(tmp_path: Path, printed) -> None:
    records = [make_record(0, {"w_bits": "a" * 100}, 0.9, 100_000)]
    shown = printed(frontier_frame(make_experiment(tmp_path, records).path, all=True))
    assert "90.00 %" in shown
    assert "100,000" in shown
    assert "aaa…" in shown


def test_no_rows_is_said_and_is_no_error(frame: pd.DataFrame, printed, tmp_path: Path) -> None:
    empty = frame.iloc[:0]
    assert printed(empty) == "toy: no rows.\n"
    assert json.loads(printed(empty, json=True)) == []
    assert printed(empty, csv=True) == ",".join(frame.columns) + "\n"
    printed(empty, parquet=tmp_path / "empty.parquet")
    assert len(pd.read_parquet(tmp_path / "empty.parquet")) == 0


def test_missing_columns_are_left_out(printed) -> None:
    lines = printed(pd.DataFrame({"label": ["a"], "size_bytes": [1000]})).splitlines()
    assert lines[1].split() == ["label", "bytes"]
