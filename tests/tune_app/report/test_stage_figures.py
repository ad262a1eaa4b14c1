"""What the stages left: bytes, epochs, rungs, time."""

import json
import re
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from search_spaces.rungs import FULL
from tests.tune_app.factories import make_record, make_records
from tests.tune_app.report.factories import STARTED, at, point, rich_experiment, small, write_stage
from trainables.config import digest
from trainables.results import Completed, StageRun
from trainables.storage import replace_json
from tune_app.ledger.ledger import TrialRecord
from tune_app.report import chosen, timeline
from tune_app.report.chosen import ChosenInfo, chosen_info, draw_chosen
from tune_app.report.contents import read_contents
from tune_app.report.curves import curves_info, draw_curves
from tune_app.report.overview import BALANCED, cards
from tune_app.report.page import render
from tune_app.report.rungs import draw_rungs, rung_pairs
from tune_app.report.sections import rungs, training
from tune_app.report.sizes import MOST, OTHER, SizesInfo, draw_sizes, sizes_info, spread
from tune_app.report.timeline import REST, draw_timeline, pack, timeline_info


def with_breakdown(record: TrialRecord, **parts: int) -> TrialRecord:
    assert isinstance(record.result, Completed)
    measured = record.result.measurement.model_copy(update={"size_breakdown": parts, "size_bytes": sum(parts.values())})
    return record.model_copy(update={"result": record.result.model_copy(update={"measurement": measured})})


def test_times_with_and_without_a_zone_lie_on_one_axis(tmp_path: Path) -> None:
    times = ("2025-01-02T05:00:00+02:00", "2025-01-02T04:00:00", "2025-01-02T05:00:00+00:00")
    records = [make_record(i, point(0.3, 4 + i)).model_copy(update={"started_at": t}) for i, t in enumerate(times)]
    starts = {piece.row: piece.start.hour for piece in timeline_info(small(tmp_path, records)).pieces}
    assert starts == {0: 3, 1: 4, 2: 5}


def test_the_bytes_of_frontier_points_by_part(tmp_path: Path) -> None:
    info = sizes_info(small(tmp_path))
    assert info.labels == ("p50_w4_a8", "p30_w4_a8", "p0_w8_a8")
    assert info.parts == {"weights": (59_900, 89_900, 249_900), "header": (100, 100, 100)}
    figure = draw_sizes(info)
    assert (figure.data[0]["x"], figure.data[0]["text"][0]) == ([59.9, 89.9, 249.9], "59.9 KB, 99.8 %")
    assert figure.words == "All frontier points, by parts of the packed file. Weights are 100 % of a file."


def test_long_names_leave_room_for_the_bars(tmp_path: Path) -> None:
    label = "p50_w4_a8_importance=bn_taylor_batch_norm=fold"
    figure = draw_sizes(SizesInfo((label,), {"weights": (100,)}, 1))
    assert figure.data[0]["y"] == [label]  # what a hovered bar says
    [shown] = figure.layout["yaxis"]["ticktext"]
    assert shown.strip() == "p50_w4_a8_impo…tch_norm=fold"
    host = "gpu-worker-0123456789.eu-central.example.internal"
    [lane] = draw_timeline(timeline_info(small(tmp_path, [at(make_record(0, point(0.3, 4)), 0, host=host)]))).layout[
        "yaxis"
    ]["ticktext"]
    assert (len(lane.strip()), lane.strip()[-3:]) == (24, "· 1")


def test_parts_beyond_the_colors_are_one(tmp_path: Path) -> None:
    record = with_breakdown(make_record(0, point(0.3, 4)), **{f"part{i}": 100 - i for i in range(9)})
    parts = sizes_info(small(tmp_path, [record])).parts
    assert list(parts) == [*(f"part{i}" for i in range(6)), OTHER]
    assert parts[OTHER] == (94 + 93 + 92,)


def test_a_file_whose_parts_nobody_named_is_one_part(tmp_path: Path) -> None:
    parts = dict.fromkeys(["other", *(f"part{i}" for i in range(7))], 10)
    first, second = (with_breakdown(record, **parts) for record in make_records()[:2])
    assert isinstance(second.result, Completed)
    unnamed = second.result.measurement.model_copy(update={"size_breakdown": {}, "size_bytes": 70})
    second = second.model_copy(update={"result": second.result.model_copy(update={"measurement": unnamed})})
    contents = small(tmp_path, [first, second])
    info = sizes_info(contents)
    assert [sum(sizes) for sizes in zip(*info.parts.values(), strict=True)] == [70, 80]
    assert info.parts[OTHER] == (70, 20)
    alone = draw_sizes(sizes_info(small(tmp_path / "alone", [second])))
    assert (alone.data[0]["name"], alone.data[0]["x"]) == (OTHER, [0.07])
    assert alone.words == "All frontier points, by parts of the packed file."


def test_a_choice_of_many_is_even_and_holds_both_ends() -> None:
    assert spread(range(100), 4) == [0, 33, 66, 99]
    assert spread(range(3), 4) == [0, 1, 2]
    assert len(set(spread(range(1000), MOST))) == MOST


def test_curves_of_each_kind_with_shared_stages_once(tmp_path: Path) -> None:
    contents = read_contents(rich_experiment(tmp_path))
    info = curves_info(contents)
    assert list(info.kinds) == ["train", "qat"]  # the pruning stages were removed: they are absent
    [baseline] = info.kinds["train"]
    assert (baseline.accuracy, len(baseline.labels)) == ((40, 70, 90, 96), len(contents.frontier))
    assert [len(curve.labels) for curve in info.kinds["qat"]] == [1] * len(contents.frontier)
    train, qat = draw_curves(info)
    validation, training, loss = train.data
    assert (validation["y"], training["y"]) == ([40, 70, 90, 96], [30, 60, 80, 86])
    assert loss["y"] == pytest.approx([0.6, 0.3, 0.1, 0.04])
    assert [(trace["yaxis"], trace["opacity"]) for trace in train.data] == [("y", 1), ("y", 0.45), ("y2", 1)]
    assert len(qat.data) == 3 * len(contents.frontier)
    assert [trace["showlegend"] for trace in qat.data[:6]] == [True, False, False] * 2
    assert train.words == (
        "One stage of 8 of 8 frontier points. It ends at 96.00 %. Strong lines: validation; faint ones: training."
    )


def test_the_loss_on_validation_images_stands_before_that_of_training(tmp_path: Path) -> None:
    folder = rich_experiment(tmp_path)
    history = [
        {"epoch": e, "loss": 1 / e, "train_accuracy": 0.5, "val_accuracy": 0.6, "val_loss": 2 / e} for e in (1, 2)
    ]
    body = {"kind": "train", "history": history}
    replace_json(folder.stages / ("0" * 64) / "stage.json", {**body, "sha256": digest(body)})
    contents = read_contents(folder)
    train = draw_curves(curves_info(contents))[0]
    assert [(t["yaxis"], t["opacity"]) for t in train.data] == [("y", 1), ("y", 0.45), ("y2", 0.45), ("y2", 1)]
    assert [t["y"] for t in train.data[2:]] == [[1, 0.5], [2, 1]]
    figure = draw_chosen(chosen_info(contents))
    assert figure is not None
    assert (figure.data[3]["name"], figure.data[3]["y"][:2]) == ("validation loss", [2, 1])


def test_stages_that_points_share_are_named_by_what_only_these_have(tmp_path: Path) -> None:
    folder = rich_experiment(tmp_path)
    for prune_frac in (0.0, 0.3, 0.5, 0.7):
        write_stage(folder, digest(["prune", prune_frac]), "channel_prune", [0.5, 0.6])
    contents = read_contents(folder)
    pruned = curves_info(contents).kinds["channel_prune"]
    shared = [curve.name for curve in pruned if len(curve.labels) > 1]
    assert shared
    assert all(re.fullmatch(r"p\d+ \(\d points\)", name) for name in shared)
    [figure] = [figure for figure in draw_curves(curves_info(contents)) if figure.name == "curves-channel-prune"]
    names = [trace["name"] for trace in figure.data if trace["showlegend"]]
    assert len(names) == len(set(names)) == len(pruned)


def test_the_stages_of_the_chosen_trial_follow_one_another(tmp_path: Path) -> None:
    contents = read_contents(rich_experiment(tmp_path))
    info = chosen_info(contents)
    assert info.start is not None
    assert contents.label(info.start) == next(c.detail for c in cards(contents) if c.name == BALANCED).split(" · ")[1]
    figure = draw_chosen(info)
    assert figure is not None
    validation, training, loss, unknown = figure.data
    assert set(unknown["y"]) == {None}  # of stages of older versions
    last = contents.rows[info.start]["accuracy"]
    assert (validation["y"][:4], validation["y"][-1]) == ([40, 70, 90, 96], pytest.approx(100 * last))
    assert training["y"][-1] == pytest.approx(100 * last - 10)
    assert loss["y"][-1] == pytest.approx(1 - last)
    assert [note["text"] for note in figure.layout["annotations"]] == ["train", "qat"]
    assert [shape["x0"] for shape in figure.layout["shapes"]] == [4.5]
    assert len(info.kinds) == 1 + sum(r.assignment.rung == FULL and r.state == "complete" for r in contents.records)
    assert set(info.rows) == set(range(len(contents.records)))  # the baseline at least


def test_names_of_stages_lie_between_the_curves_each_on_a_line_of_its_own(tmp_path: Path) -> None:
    """Two stages of one epoch at the end are narrower than their names."""
    info = ChosenInfo(
        kinds=("train", "channel_prune", "sparsify", "qat"),
        epochs=tuple(
            dict.fromkeys(("val_accuracy", "train_accuracy", "loss", "val_loss"), (1.0,) * n) for n in (9, 1, 1, 1)
        ),
        rows={0: [0, 1, 2, 3]},
        total=1,
        start=0,
        label="p50",
    )
    figure = draw_chosen(info)
    assert figure is not None
    layout, names = figure.layout, figure.layout["annotations"]
    below, above = layout["yaxis2"]["domain"][1], layout["yaxis"]["domain"][0]
    line = 14 / (figure.height - 60)  # of its letters, in parts of the height inside the margins
    heights = [name["y"] for name in names]
    assert all(below < y - line < y < above for y in heights)
    assert all(a - b >= line for a, b in pairwise(heights))
    assert [(name["x"], name["xanchor"]) for name in names] == [
        (0.5, "left"), (10.5, "right"), (11.5, "right"), (12.5, "right")
    ]  # fmt: skip
    assert figure.title == "The chosen trial: p50"


def test_of_many_trials_the_page_has_the_frontier_and_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = read_contents(rich_experiment(tmp_path))
    front = [contents.row_of(group) for group in contents.frontier]
    monkeypatch.setattr(chosen, "MOST_TRIALS", len(front) + 1)
    info = chosen_info(contents)
    assert set(info.rows) == {*front, len(contents.records) - 1}
    figure = draw_chosen(info)
    assert figure is not None
    assert "the epochs of 9 of 52 trials" in figure.words
    monkeypatch.setattr(chosen, "MOST_EPOCHS", 4 + 3)
    assert len(chosen_info(contents).rows) == 1
    assert draw_chosen(chosen_info(small(tmp_path / "none"))) is None


def test_a_damaged_description_is_an_absent_one(tmp_path: Path) -> None:
    folder = rich_experiment(tmp_path)
    path = folder.stages / ("0" * 64) / "stage.json"
    assert isinstance(path, Path)
    path.write_text(path.read_text().replace("0.96", "0.99"))
    assert list(curves_info(read_contents(folder)).kinds) == ["qat"]


def test_epochs_without_a_loss_have_accuracies_alone(tmp_path: Path) -> None:
    """As the rows of a stage that only removes weights."""
    folder = rich_experiment(tmp_path)
    body = {"kind": "train", "history": [{"val_accuracy": 0.5}, {"val_accuracy": 0.75}]}
    replace_json(folder.stages / ("0" * 64) / "stage.json", {**body, "sha256": digest(body)})
    train = draw_curves(curves_info(read_contents(folder)))[0]
    assert [(trace["y"], trace["yaxis"]) for trace in train.data] == [([50, 75], "y")]


def test_stages_and_rungs_of_any_name_have_figures_of_their_own(tmp_path: Path) -> None:
    """Stages of other packages have the names that these give them."""
    kinds = ("chosen", "a_b", "a-b", 'A/"b"')
    stages = [StageRun(kind=kind, key=digest(kind), seconds=1.0, cached=False) for kind in kinds]
    record = make_record(0, point(0.3, 4))
    result = record.result.model_copy(update={"stages": stages})
    contents = small(tmp_path, [record.model_copy(update={"result": result})])
    for kind in kinds:
        write_stage(contents.folder, digest(kind), kind, [0.5, 0.6])
    section = training(contents)
    assert section is not None
    names = ["curves-chosen", "curves-a-b-", "curves-a-b", "curves-a-b-2", "curves-chosen-2"]
    assert [figure.name for figure in section.figures] == names
    assert [figure.title for figure in section.figures[1:]] == sorted(kinds)
    assert json.dumps(names[3]) in render(contents, [section], now=STARTED)

    base = read_contents(rich_experiment(tmp_path / "rungs")).spec.base
    search = {"rungs": [{"name": "p", "qat_epochs": 0}, {"name": "p_balanced", "qat_epochs": 1}]}
    two = small(
        tmp_path / "two",
        [],
        base=base,
        fidelity=search,
        objectives=["accuracy", "balanced_accuracy"],
    )
    section = rungs(two)
    assert section is not None
    assert len({figure.name for figure in section.figures}) == len(section.figures) == 4


def test_pairs_of_rungs_and_their_rank_correlation(tmp_path: Path) -> None:
    contents = read_contents(rich_experiment(tmp_path))
    accuracy, size = rung_pairs(contents)
    assert (accuracy.rung, accuracy.above, accuracy.axis.metric, size.axis.metric) == (
        "ptq", FULL, "accuracy", "size_bytes"
    )  # fmt: skip
    assert len(accuracy.low) == 20
    assert accuracy.correlation is not None
    assert 0.8 < accuracy.correlation < 1
    assert size.correlation == pytest.approx(1)
    for low, high, row in zip(accuracy.low, accuracy.high, accuracy.rows, strict=True):
        assert contents.rows[row]["accuracy"] == high > low
    figure = draw_rungs(accuracy)
    assert (figure.name, figure.data[1]["customdata"]) == ("rungs-ptq-accuracy", list(accuracy.rows))
    assert figure.words == "20 points ran at both; rank correlation 0.96."


def test_a_search_without_rungs_has_no_pairs(tmp_path: Path) -> None:
    assert rung_pairs(small(tmp_path)) == []


def test_stages_follow_one_another_and_hits_are_marked(tmp_path: Path) -> None:
    contents = small(tmp_path, [at(record, 10.0 * i) for i, record in enumerate(make_records()[:2])])
    info = timeline_info(contents)
    assert [(p.row, p.kind, p.start, p.seconds, p.cached) for p in info.pieces[:3]] == [
        (0, "train", STARTED, 0.25, True),
        (0, "ptq", STARTED + timedelta(seconds=0.25), 1.5, False),
        (0, REST, STARTED + timedelta(seconds=1.75), 0.25, False),
    ]
    assert (info.lanes, info.hits, info.stages) == (("h · 1",), 2, 4)
    bars = {trace["name"]: trace for trace in draw_timeline(info).data}
    assert bars["ptq"]["base"] == ["2025-01-02T03:04:05.250", "2025-01-02T03:04:15.250"]
    assert bars["ptq"]["x"] == [1500, 1500]
    assert bars["cache hit"]["meta"]["what"] == ["train from the cache"] * 2


def test_trials_that_overlap_lie_in_lanes_of_their_host() -> None:
    spans = [(0, 10, "a"), (1, 2, "a"), (2, 10, "b"), (5, 10, "a"), (11, 1, "a")]
    lanes = pack([(STARTED + timedelta(seconds=start), seconds, host) for start, seconds, host in spans])
    assert lanes == [("a", 0), ("a", 1), ("b", 0), ("a", 1), ("a", 0)]


def test_of_many_trials_the_newest_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "MOST", 2)
    contents = small(tmp_path, [at(record, -10.0 * i) for i, record in enumerate(make_records())])
    info = timeline_info(contents)
    assert {piece.row for piece in info.pieces} == {0, 1}
    assert "The newest 2 of 6 trials" in draw_timeline(info).words


def test_a_trial_whose_start_nobody_knows_is_left_out(tmp_path: Path) -> None:
    record = make_record(0, point(0.3, 4)).model_copy(update={"started_at": "yesterday"})
    info = timeline_info(small(tmp_path, [record]))
    assert info.pieces == ()
    assert draw_timeline(info).data == []


def test_a_stage_longer_than_its_trial_leaves_no_rest(tmp_path: Path) -> None:
    record = make_record(0, point(0.3, 4))
    stages = [StageRun(kind="qat", key="a", seconds=5.0, cached=False)]
    result = record.result.model_copy(update={"stages": stages})
    info = timeline_info(small(tmp_path, [record.model_copy(update={"result": result})]))
    assert [piece.kind for piece in info.pieces] == ["qat"]
