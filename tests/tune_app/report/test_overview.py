"""What stands at the top, why trials failed, how numbers are written, and the columns of the table."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tune_app.factories import make_record
from tests.tune_app.report.factories import EVIL, point, rich_experiment, small, wide_experiment
from trainables.results import METRICS
from trainables.storage import Lock, replace
from tune_app.drawing.axis import axis_of
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.reading import find_trial
from tune_app.report.contents import read_contents
from tune_app.report.failed import Suspect, draw_failed, failed_info
from tune_app.report.overview import cards, environments, key_findings, status
from tune_app.report.trial_table import trial_columns
from tune_app.tables.columns import show


def test_the_cards_of_a_small_search(tmp_path: Path) -> None:
    found = {card.name: card for card in cards(small(tmp_path))}
    assert (found["Best accuracy"].value, found["Best accuracy"].row) == ("95.00 % (-1.00 pp)", 0)
    assert found["Best balanced"].detail == "90.0 KB, 11.1x · p30_w4_a8"
    assert found["Smallest"].detail == "60.0 KB, 16.7x · p50_w4_a8"
    assert found["Baseline"].detail == "1.00 MB in fp32"
    assert found["Trials"].value == "6 of 10 trials"
    assert found["Trials"].detail == "5 complete, 1 invalid; 3 on the frontier"
    assert found["Training"].value == "9 s"


def test_trials_beyond_the_budget_are_told_what_they_are(tmp_path: Path) -> None:
    """A budget counts first runs of the full schedule: the other complete ones are no riddle."""
    [trials] = [card for card in cards(read_contents(rich_experiment(tmp_path))) if card.name == "Trials"]
    assert trials.value == "24 of 40 trials"
    assert trials.detail == "48 complete, 4 invalid with rungs and repeats; 8 on the frontier"


def test_findings_stand_at_the_top_and_call_trials_as_the_table_does(tmp_path: Path) -> None:
    near, knee, precision = key_findings(small(tmp_path))
    words = "smallest within 1 pp of the baseline: p0_w8_a8, 95.00 % (-1.00 pp, within the noise), 250 KB, 4.00x"
    assert near.startswith(words)
    assert "p30_w4_a8 (93.00 %, 90.0 KB)" in knee
    assert precision == "accuracies are of 179 validation images: one image is 0.56 pp"
    wide = read_contents(wide_experiment(tmp_path / "wide"))
    names = [wide.label(row) for row in range(len(wide.records))]
    assert any(name in key_findings(wide)[0] for name in names)
    assert key_findings(small(tmp_path / "empty", [])) == []


def test_the_test_accuracy_of_the_baseline_is_told_when_it_is_known(tmp_path: Path) -> None:
    folder = small(tmp_path).folder
    replace(folder.baseline_file.parent / "test.json", b'{"accuracy": 0.951, "n": 100}')
    [card] = [card for card in cards(read_contents(folder)) if card.name == "Baseline"]
    assert card.detail == "1.00 MB in fp32, test 95.10 %"


def test_a_placeholder_is_called_untrained(tmp_path: Path) -> None:
    contents = small(tmp_path)
    assert contents.baseline is not None
    untrained = contents.baseline.model_copy(update={"untrained": True})
    names = [card.name for card in cards(dataclasses.replace(contents, baseline=untrained))]
    assert "Untrained baseline" in names
    assert "Baseline" not in names


def test_the_status_says_whether_a_search_works_on_it(tmp_path: Path) -> None:
    contents = small(tmp_path)
    assert status(contents) == "No search works on it now; 6 of 10 trials have finished."
    lock = Lock(contents.folder.lease)
    assert lock.try_acquire()
    replace(contents.folder.heartbeat("a-full-a1"), b"{}")
    try:
        running = status(read_contents(contents.folder))
    finally:
        lock.release()
    assert running.startswith("A search works on it (process ")
    assert running.endswith("6 of 10 trials have finished, 1 is running.")
    assert status(small(tmp_path / "done", budget={"trials": 6})) == "All 6 trials have finished."
    one = small(tmp_path / "one", [make_record(0, point(0.3, 4))], budget={"trials": 1})
    assert status(one) == "The only trial has finished."


@pytest.mark.parametrize("make", [rich_experiment, wide_experiment, lambda path: small(path).folder])
def test_a_command_finds_the_trial_that_a_row_means(make: Callable[[Path], ExperimentFolder], tmp_path: Path) -> None:
    contents = read_contents(make(tmp_path))
    labels = [contents.label(row) for row in range(len(contents.records))]
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= 40
    for row, record in enumerate(contents.records):
        if record.state == "complete":
            assert find_trial(contents.folder, contents.handle(row)) == record


def test_environments_are_counted(tmp_path: Path) -> None:
    records = [
        make_record(i, point(0.3, w), environment={"torch": v})
        for i, (w, v) in enumerate([(2, "a"), (4, "b"), (8, "b")])
    ]
    assert dict(environments(small(tmp_path, records)))["torch"] == [("b", 2), ("a", 1)]


def test_reasons_are_counted_with_their_newest_message(tmp_path: Path) -> None:
    info = failed_info(read_contents(rich_experiment(tmp_path)))
    [reason] = info.reasons
    assert (reason.kind, reason.stage, reason.state, len(reason.rows), reason.example) == (
        "Diverged", "ptq", "invalid", 4, EVIL
    )  # fmt: skip
    assert (info.failed, info.trials) == (4, 52)
    assert draw_failed(info).words == "4 of 52 trials (8 %) without a usable result; most often Diverged (4)."


def test_a_value_that_nearly_always_fails_is_a_suspect_and_chance_is_none(tmp_path: Path) -> None:
    space = {"prune_frac": [i / 20 for i in range(12)], "w_bits": [2, 4, 8], "a_bits": [8]}
    records = [
        make_record(3 * i + j, point(i / 20, w), state="invalid" if w == 2 and i > 1 else "complete")
        for i in range(12)
        for j, w in enumerate((2, 4, 8))
    ]
    assert failed_info(small(tmp_path, records, space=space)).suspects == (Suspect("w_bits", "2", 10, 12),)
    every = [make_record(i, point(i / 20, 2), state="invalid") for i in range(12)]
    assert failed_info(small(tmp_path / "every", every, space=space)).suspects == ()


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_an_axis_and_a_way_to_be_written(metric: str, tmp_path: Path) -> None:
    axis = axis_of(metric, small(tmp_path).spec, [0.25, 0.5])
    assert axis.title
    assert axis.direction == METRICS[metric].better
    assert show(metric, 0.5)


def test_axes_choose_a_unit_and_a_scale(tmp_path: Path) -> None:
    spec = small(tmp_path).spec
    axis = axis_of("size_bytes", spec, [5e4, 2.5e7])
    assert (axis.title, axis.scaled(5e6), axis.log) == ("size of the packed file in MB (log scale)", 5.0, True)
    assert axis_of("size_bytes", spec, [5e4, 9e4]).title.endswith("(KB)")
    assert axis_of("macs", spec, [5e8]).title == "multiply-accumulates (millions)"
    assert not axis_of("accuracy", spec, [0.01, 0.9]).log
    assert not axis_of("size_bytes", spec, []).log


def test_the_table_has_a_row_for_every_record(tmp_path: Path) -> None:
    contents = small(tmp_path)
    found = {column.name: column for column in trial_columns(contents)}
    assert all(len(column.values) == 6 for column in found.values())
    assert found["label"].values[1] == "p30_w4_a8"
    assert (found["state"].names, found["state"].values) == (("complete", "invalid"), (0, 0, 0, 0, 1, 0))
    assert found["on_frontier"].values == (1, 1, 0, 1, 0, 0)
    assert found["size_bytes"].values == (250_000, 90_000, 120_000, 60_000, None, 175_000)
    assert found["reason"].values[4] == "Diverged: the loss became NaN"
    assert found["started_at"].values[0] == "2025-01-02 03:04:05"
    assert "test_accuracy" not in found
    assert "repeats" not in found


def test_the_table_says_more_of_a_search_with_rungs_and_repeats(tmp_path: Path) -> None:
    found = {column.name: column for column in trial_columns(read_contents(rich_experiment(tmp_path)))}
    shown = [column.name for column in found.values() if column.shown]
    assert {"rung", "repeats", "accuracy_mean", "accuracy_sd", "feasible"} <= set(shown)
    assert "p0_w2_a4@ptq" in found["label"].values
    assert "p30_w4_a8#2" in found["label"].values


def test_a_parameter_that_points_are_colored_by_has_places_of_its_names(tmp_path: Path) -> None:
    """Colors of more values than a palette has are those of places: text has none between two ends."""
    records = [make_record(i, {"importance": f"own_{i}"}) for i in range(9)]
    contents = small(tmp_path, records, space={"importance": ["l1"]})
    [column] = [column for column in trial_columns(contents) if column.name == "importance"]
    assert (column.values, column.names[-1]) == (tuple(range(9)), "own_8")
