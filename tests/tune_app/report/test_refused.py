"""Points without a result, or outside the constraints, are drawn as kinds of their own in every figure of points."""

import dataclasses
from pathlib import Path

import pytest

from tests.tune_app.factories import make_record, store_baseline
from tests.tune_app.report.factories import point, refused_experiment, small
from tune_app.drawing.axis import Axis
from tune_app.drawing.frontier_info import frontier_info
from tune_app.drawing.frontier_plot import save_frontier_plot
from tune_app.report.contents import Contents, read_contents
from tune_app.report.coordinates import BEYOND, coordinates_info, draw_coordinates
from tune_app.report.curves import curves_info, draw_curves
from tune_app.report.figure import Figure
from tune_app.report.pareto import pareto_info
from tune_app.report.pareto_figure import draw_pareto
from tune_app.report.rungs import draw_rungs, rung_pairs


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    return read_contents(refused_experiment(tmp_path))


def kinds(figure: Figure) -> dict[str, int]:
    """The number of rows of each named trace of trials."""
    return {trace["name"]: len(set(trace["customdata"])) for trace in figure.data if "customdata" in trace}


def test_every_measured_point_has_a_mark_in_the_plane(contents: Contents) -> None:
    figure = draw_pareto(pareto_info(contents))
    assert kinds(figure) == {"outside the constraints": 1, "at chance": 2, "frontier": 6}
    assert "2 at chance, at the edge where they lie far outside." in figure.words


def test_far_points_press_no_others_together(contents: Contents) -> None:
    """The others lie between 71 and 88 %, those at chance at 10 and 11 %: these are drawn below, at their sizes."""
    [chance] = [trace for trace in draw_pareto(pareto_info(contents)).data if trace.get("name") == "at chance"]
    assert (chance["x"], chance["y"]) == ([9, 18], [pytest.approx(71 - 1.7)] * 2)


@pytest.mark.parametrize(("values", "expected"), [([0.7], 70), ([0.61], 61), ([0.59], 78), ([1.01], 101), ([1.3], 102)])
def test_a_value_is_put_at_the_edge_where_it_is_farther_than_the_span(values: list[float], expected: float) -> None:
    axis = Axis("accuracy", "maximize", log=False, divisor=0.01)
    assert axis.placed(values, [0.8, 1.0]) == [pytest.approx(expected)]
    assert axis.placed(values, []) == [pytest.approx(100 * values[0])]


def test_an_edge_of_a_logarithmic_axis_is_a_ratio() -> None:
    axis = Axis("size_bytes", "minimize", log=True)
    ends = [100 / 10**0.2, 10_000 * 10**0.2]
    assert axis.placed([0.0, 0.5, 20.0, 1e9], [100, 10_000]) == pytest.approx([*ends[:1] * 2, 20, ends[1]], rel=1e-5)


def test_every_bit_width_has_its_line(contents: Contents) -> None:
    info = coordinates_info(contents)
    figure = draw_coordinates(info)
    assert kinds(figure) == {"outside the constraints": 1, "at chance": 2, "invalid": 1, "frontier": 6}
    [bits] = [d for d in info.dimensions if d.column == "w_bits"]
    assert len(set(bits.heights)) == 8
    [accuracy] = [d for d in info.dimensions if d.column == "accuracy"]
    assert accuracy.low == 0.71  # those at chance do not stretch it
    found = {kind: height for kind, height in zip(info.kinds, accuracy.heights, strict=True)}
    assert (found["chance"], found["invalid"]) == (-BEYOND, None)
    assert "A line that leaves an axis has a value beyond its end." in figure.words


def test_stages_that_only_refused_points_have_are_crosses_named_by_their_kind(contents: Contents) -> None:
    figures = {figure.name: figure for figure in draw_curves(curves_info(contents))}
    qat = figures["curves-qat"]
    crosses = [t["name"] for t in qat.data if t["marker"]["symbol"] == "x" and t["showlegend"]]
    assert [name.partition(" (")[2] for name in crosses].count("at chance)") == 2
    assert "outside the constraints)" in [name.partition(" (")[2] for name in crosses]
    assert "Crosses: " in qat.words
    assert "2 at chance" in qat.words
    assert "6 stages of 6 of 6 frontier points" in qat.words
    # The baseline is a stage of all points: it belongs to those of the frontier.
    assert "Crosses" not in figures["curves-train"].words


def test_points_at_chance_are_marks_between_rungs_and_have_no_part_in_ranks(contents: Contents) -> None:
    accuracy, size = (draw_rungs(pairs) for pairs in rung_pairs(contents))
    assert kinds(accuracy) == kinds(size) == {"complete": 6, "at chance": 2}
    assert accuracy.words.startswith("6 points ran at both; rank correlation 1.00. 2 at chance")
    assert [trace["showlegend"] for trace in accuracy.data] == [False, True, True]


def test_the_image_of_the_frontier_names_them_too(tmp_path: Path) -> None:
    folder = refused_experiment(tmp_path)
    info = frontier_info(folder)
    assert {name: [mark.w_bits for mark in marks] for name, marks in info.refused.items()} == {"chance": [1, 2]}
    save_frontier_plot(info, tmp_path / "frontier.svg")
    assert "<!-- at chance -->" in (tmp_path / "frontier.svg").read_text()


def test_where_all_are_at_chance_they_are_drawn_all_the_same(tmp_path: Path) -> None:
    records = [
        make_record(i, point(0.3, w), 0.1, 10_000 * w, "invalid", kind="Collapsed", message="at chance", measured=True)
        for i, w in enumerate((2, 4))
    ]
    contents = small(tmp_path, records)
    store_baseline(contents.folder, 0.96)
    figure = draw_pareto(pareto_info(contents))
    assert kinds(figure) == {"at chance": 2}
    assert figure.words.startswith("No trial of the full schedule has a result yet. 2 at chance")


def test_an_error_says_nothing_of_its_point_and_is_not_drawn(tmp_path: Path) -> None:
    records = [make_record(0, point(0.3, 4)), make_record(1, point(0.3, 2), state="failed", kind="WorkerLost")]
    assert coordinates_info(small(tmp_path, records)).kinds == ("frontier",)


def test_where_nothing_else_is_the_line_of_equal_values_lies_at_the_refused(tmp_path: Path) -> None:
    contents = read_contents(refused_experiment(tmp_path))
    for pairs in rung_pairs(contents):
        refused = dataclasses.replace(pairs, low=(), high=(), rows=())
        line, *marks = draw_rungs(refused).data
        values = [value for trace in marks for value in (*trace["x"], *trace["y"])]
        assert line["x"] == line["y"] == [min(values), max(values)]
