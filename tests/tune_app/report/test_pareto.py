"""Where trials lie, and what they are compared with."""

import re
from pathlib import Path

import pytest

from tests.tune_app.factories import make_record, make_records, make_untrained
from tests.tune_app.report.factories import point, rich_experiment, small
from trainables.config import DataConfig
from tune_app.drawing.frontier_info import Mark, plane_of
from tune_app.report.contents import read_contents
from tune_app.report.pareto import pareto_info, published_points
from tune_app.report.pareto_figure import CROWD, draw_pareto


def test_the_data_of_a_small_search(tmp_path: Path) -> None:
    info = pareto_info(small(tmp_path))
    assert info.frontier == (
        Mark("p50_w4_a8", 60_000, 0.88, 3),
        Mark("p30_w4_a8", 90_000, 0.93, 1),
        Mark("p0_w8_a8", 250_000, 0.95, 0),
    )
    assert info.dominated == (Mark("p50_w8_a8", 120_000, 0.90, 2), Mark("p30_w8_a8", 175_000, 0.93, 5))
    assert (info.infeasible, info.bounds, info.published) == ((), (), {})
    assert info.baseline == Mark("baseline", 1_000_000, 0.96)
    assert (info.x.metric, info.x.log, info.y.metric, info.y.log) == ("size_bytes", True, "accuracy", False)
    assert info.stepped


def test_the_figure_names_the_row_of_every_trial(tmp_path: Path) -> None:
    figure = draw_pareto(pareto_info(small(tmp_path)))
    traces = {trace.get("name"): trace for trace in figure.data}
    assert (traces["frontier"]["x"], traces["frontier"]["y"]) == ([60, 90, 250], [88, 93, 95])
    assert (traces["frontier"]["customdata"], traces["dominated"]["customdata"]) == ([3, 1, 0], [2, 5])
    assert "customdata" not in traces["baseline, fp32"]
    assert traces[None]["line"]["shape"] == "hv"
    assert figure.words == (
        "3 of 5 points on the frontier: from 88.00 % at 60.0 KB to 95.00 % at 250 KB. The baseline in fp32 has 96.00 %."
    )


def test_a_placeholder_is_called_untrained(tmp_path: Path) -> None:
    figure = draw_pareto(pareto_info(read_contents(make_untrained(tmp_path))))
    assert "untrained baseline, fp32" in [trace.get("name") for trace in figure.data]
    assert figure.words.endswith("The untrained baseline in fp32 has 95.00 %.")


def test_a_point_that_ran_several_times_lies_at_the_mean_of_its_runs(tmp_path: Path) -> None:
    runs = [make_record(i, point(0.3, 4), accuracy, 90_000, repeat=i) for i, accuracy in enumerate((0.90, 0.92, 0.94))]
    info = pareto_info(small(tmp_path, runs))
    [mark] = info.frontier
    assert (mark.label, mark.y, mark.y_sd, mark.x_sd) == ("p30_w4_a8", pytest.approx(0.92), pytest.approx(0.02), None)
    [trace] = [trace for trace in draw_pareto(info).data if trace["name"] == "frontier"]
    assert trace["error_y"]["array"] == [pytest.approx(2)]
    assert "error_x" not in trace


def test_what_breaks_a_constraint_lies_outside_and_the_bound_is_a_line(tmp_path: Path) -> None:
    info = pareto_info(small(tmp_path, constraints=["accuracy >= 0.9", "size_bytes <= 200000", "macs <= 1e12"]))
    assert [mark.label for mark in info.infeasible] == ["p0_w8_a8", "p50_w4_a8"]
    assert info.bounds == (("accuracy", 0.9), ("size_bytes", 200_000.0))
    across, upright = draw_pareto(info).layout["shapes"]
    assert (across["y0"], across["y1"], across["xref"]) == (90, 90, "paper")
    assert (upright["x0"], upright["x1"], upright["yref"]) == (200, 200, "paper")


@pytest.mark.parametrize(
    ("objectives", "axes", "stepped"),
    [
        ({"accuracy": "maximize"}, ("size_bytes", "accuracy"), False),
        ({"size_bytes": "minimize"}, ("size_bytes", "accuracy"), False),
        ({"size_bytes": "minimize", "accuracy": "maximize"}, ("size_bytes", "accuracy"), True),
        ({"accuracy": "maximize", "macs": "minimize", "size_bytes": "minimize"}, ("macs", "accuracy"), False),
        ({"macs": "minimize", "bops": "minimize"}, ("macs", "bops"), True),
    ],
)
def test_the_first_two_objectives_are_the_axes(
    objectives: dict[str, str], axes: tuple[str, str], stepped: bool, tmp_path: Path
) -> None:
    contents = small(tmp_path, objectives=objectives)
    assert plane_of(contents.spec) == axes
    info = pareto_info(contents)
    assert info.stepped == stepped
    lines = [trace for trace in draw_pareto(info).data if trace["mode"] == "lines"]
    assert len(lines) == (stepped and len(info.frontier) > 1)


def test_earlier_systems_are_marks_on_the_same_data_alone(tmp_path: Path) -> None:
    info = pareto_info(read_contents(rich_experiment(tmp_path)))
    assert list(info.published) == ["seed_000", "seed_001", "seed_002", "seed_003", "seed_004"]
    first = info.published["seed_000"][0]
    assert (first.y, first.x, first.row) == (0.9416, 200_000, None)  # a fifth of the baseline's bytes
    figure = draw_pareto(info)
    [trace] = [trace for trace in figure.data if trace.get("name") == "seed_000"]
    assert trace["text"][0] == "<b>seed_000</b><br>25 % of channels, w8 a8 (5x by its own formula)<br>94.16 %, 200 KB"
    assert "formula of their own" in figure.words
    # What is seen is what we measured: chance accuracies of 2 bits elsewhere would squeeze it.
    assert min(y for trace in figure.data for y in trace["y"]) > 70
    assert re.search(r"\(\d+ of 20: the others lie outside\)", figure.words)


@pytest.mark.parametrize(("dataset", "points"), [("cifar10", 20), ("cifar100", 5), ("digits", 0), ("fashion_mnist", 0)])
def test_published_points_belong_to_a_data_set_that_a_spec_can_name(dataset: str, points: int) -> None:
    found = published_points(DataConfig(name=dataset).name)
    assert len(found) == points
    assert all(0 <= p.accuracy < 1 and p.ratio > 1 for p in found)


def test_no_baseline_leaves_published_points_out(tmp_path: Path) -> None:
    folder = rich_experiment(tmp_path)
    folder.baseline_file.unlink()
    info = pareto_info(read_contents(folder))
    assert (info.published, info.baseline) == ({}, None)


def test_a_crowded_frontier_has_smaller_marks(tmp_path: Path) -> None:
    records = [make_record(i, point(0.0, 8, i), 0.5 + i / 1000, 1000 + i) for i in range(CROWD + 1)]
    sizes = [
        trace["marker"]["size"]
        for found in (records, make_records())
        for trace in draw_pareto(pareto_info(small(tmp_path / str(len(found)), found))).data
        if trace.get("name") == "frontier"
    ]
    assert sizes[0] < sizes[1]


def test_without_a_result_there_are_words_and_no_figure(tmp_path: Path) -> None:
    figure = draw_pareto(pareto_info(small(tmp_path, [make_record(0, point(0.3, 2), state="failed")])))
    assert (figure.data, figure.words) == ([], "No trial of the full schedule has a result yet.")


def test_a_constraint_far_from_all_points_is_no_line(tmp_path: Path) -> None:
    """It would press them together; and a logarithmic axis has no 0."""
    for i, bounds in enumerate((["size_bytes <= 1e9"], ["size_bytes >= 0", "accuracy >= 0.01"])):
        figure = draw_pareto(pareto_info(small(tmp_path / str(i), constraints=bounds)))
        assert (figure.layout["shapes"], "Dashed" in figure.words) == ([], False)
