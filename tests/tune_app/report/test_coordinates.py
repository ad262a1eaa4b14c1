"""Parallel coordinates: heights, ticks, and one line for each point."""

import dataclasses
from pathlib import Path

import pytest

from tests.tune_app.factories import make_record
from tests.tune_app.report.factories import small
from tune_app.report.coordinates import ABSENT, coordinates_info, draw_coordinates


def test_the_data_of_a_small_search(tmp_path: Path) -> None:
    info = coordinates_info(small(tmp_path))
    assert [d.column for d in info.dimensions] == [
        "prune_frac", "w_bits", "a_bits", "accuracy", "size_bytes", "compression_ratio"
    ]  # fmt: skip
    assert info.rows == (0, 1, 2, 3, 4, 5)
    assert info.kinds == ("frontier", "frontier", "dominated", "frontier", "invalid", "dominated")
    prune_frac, w_bits, a_bits, accuracy, *_ = info.dimensions
    assert prune_frac.heights == (0, 0.6, 1, 1, 1, 0.6)
    assert prune_frac.ticks == ((0, "0"), (0.6, "0.3"), (1, "0.5"))
    assert w_bits.heights == pytest.approx((1, 1 / 3, 1, 1 / 3, 0, 1), abs=1e-5)
    assert a_bits.heights == (0.5,) * 6  # one value, in the middle
    assert accuracy.heights[4] is None  # it diverged
    assert (accuracy.low, accuracy.high, accuracy.ticks[0][1], accuracy.ticks[-1][1]) == (
        0.88, 0.95, "88.00 %", "95.00 %"
    )  # fmt: skip


def test_a_line_names_its_row_at_each_of_its_corners_and_ends_in_a_gap(tmp_path: Path) -> None:
    figure = draw_coordinates(coordinates_info(small(tmp_path)))
    traces = {trace["name"]: trace for trace in figure.data}
    assert list(traces) == ["dominated", "invalid", "frontier"]
    assert traces["dominated"]["customdata"] == [2] * 7 + [5] * 7
    assert traces["dominated"]["x"] == [0, 1, 2, 3, 4, 5, None] * 2
    assert traces["frontier"]["y"][:3] == [0, 1, 0.5]
    assert traces["frontier"]["y"][6] is None


def test_a_span_of_sizes_beyond_a_decade_is_logarithmic(tmp_path: Path) -> None:
    records = [
        make_record(i, {"prune_frac": 0.0, "w_bits": w, "a_bits": 8}, 0.9, 1000 * 10**i)
        for i, w in enumerate((2, 4, 8))
    ]
    [size] = [d for d in coordinates_info(small(tmp_path, records)).dimensions if d.column == "size_bytes"]
    assert size.log
    assert size.heights == (0, 0.5, 1)
    assert [text for _, text in size.ticks] == ["1.00 KB", "3.16 KB", "10.0 KB", "31.6 KB", "100 KB"]


def test_a_logarithmic_axis_says_so_both_ways(tmp_path: Path) -> None:
    records = [make_record(i, {"prune_frac": 0.0, "w_bits": 2**i, "a_bits": 8}, 0.9, 10 ** (3 + i)) for i in (1, 2, 3)]
    figure = draw_coordinates(coordinates_info(small(tmp_path, records)))
    assert figure.upright is not None
    assert "<b>size</b><br>(log scale)" in figure.layout["xaxis"]["ticktext"]
    assert "<b>accuracy</b>" in figure.layout["xaxis"]["ticktext"]
    assert "<b>size</b> (log scale)" in [note["text"] for note in figure.upright["annotations"]]


def test_ticks_that_would_cover_one_another_are_left_out_but_for_the_ends(tmp_path: Path) -> None:
    values = [0.1, 0.101, 0.102, 0.3, 0.5]
    records = [make_record(i, {"prune_frac": v, "w_bits": 4, "a_bits": 8}, 0.9, 1000 + i) for i, v in enumerate(values)]
    space = {"prune_frac": values, "w_bits": [4], "a_bits": [8]}
    figure = draw_coordinates(coordinates_info(small(tmp_path, records, space=space)))
    shown = [note["text"] for note in figure.layout["annotations"] if note["x"] == 0]
    assert shown == ["0.1", "0.3", "0.5"]


def test_an_image_with_little_room_is_drawn_upright(tmp_path: Path) -> None:
    figure = draw_coordinates(coordinates_info(small(tmp_path)))
    beside, below = figure.spec(figure.least_width), figure.spec(figure.least_width - 1)
    assert (beside["data"][0]["x"], beside["layout"]["height"]) == (figure.data[0]["x"], figure.height)
    assert below["data"][0]["y"] == figure.data[0]["x"]
    assert below["layout"]["yaxis"]["range"][0] > below["layout"]["yaxis"]["range"][1]  # the first axis on top


def test_names_and_conditional_parameters_have_a_place_too(tmp_path: Path) -> None:
    space = {"w_bits": [4, 8], "importance": {"of": ["l2", "l1"], "when": {"w_bits": [4]}}}
    records = [
        make_record(0, {"w_bits": 4, "importance": "l1"}, 0.9, 1000),
        make_record(1, {"w_bits": 4, "importance": "l2"}, 0.8, 1000),
        make_record(2, {"w_bits": 8}, 0.95, 2000),
    ]
    info = coordinates_info(small(tmp_path, records, space=space))
    importance = info.dimensions[1]
    assert (importance.names, importance.heights) == (("l1", "l2"), (0, 1, None))
    figure = draw_coordinates(info)
    [trace] = [trace for trace in figure.data if trace["name"] == "frontier"]
    assert ABSENT in trace["y"]
    assert "–" in [note["text"] for note in figure.layout["annotations"]]


def test_a_tick_between_values_has_three_digits(tmp_path: Path) -> None:
    records = [make_record(i, {"prune_frac": i * 0.0833, "w_bits": 4, "a_bits": 8}, 0.9, 1000 + i) for i in range(11)]
    space = {"prune_frac": {"low": 0.0, "high": 0.8331, "step": 0.0833}, "w_bits": [4], "a_bits": [8]}
    prune_frac = coordinates_info(small(tmp_path, records, space=space)).dimensions[0]
    assert [text for _, text in prune_frac.ticks] == ["0", "0.208", "0.416", "0.625", "0.833"]


def test_a_long_name_is_cut_where_it_would_cover_another(tmp_path: Path) -> None:
    name = "a_parameter_with_a_long_name"
    info = coordinates_info(small(tmp_path))
    first = dataclasses.replace(info.dimensions[0], title=name)
    figure = draw_coordinates(dataclasses.replace(info, dimensions=(first, *info.dimensions[1:])))
    [shown, *_] = figure.layout["xaxis"]["ticktext"]
    assert shown == "<b>a_param…ng_name</b>"
    assert name in figure.words


def test_without_a_result_there_are_words_and_no_figure(tmp_path: Path) -> None:
    figure = draw_coordinates(coordinates_info(small(tmp_path, [])))
    assert (figure.data, figure.words) == ([], "No trial of the full schedule has a result yet.")


@pytest.mark.parametrize("objective", ["macs", "sparsity_achieved", "compression_ratio"])
def test_every_objective_has_an_axis_once(objective: str, tmp_path: Path) -> None:
    contents = small(tmp_path, objectives=["accuracy", objective])
    names = [d.column for d in coordinates_info(contents).dimensions]
    assert names.count(objective) == 1
