"""How the search went: hypervolume and importances."""

import math
from pathlib import Path

import numpy as np
import pytest

from tests.tune_app.factories import make_record
from tests.tune_app.report.factories import point, rich_experiment, small
from tune_app.frontier.objectives import costs_of
from tune_app.frontier.pareto import hypervolume
from tune_app.ledger.training_cost import training_seconds
from tune_app.report import importance
from tune_app.report.contents import read_contents
from tune_app.report.importance import FEWEST, draw_importance, importance_info
from tune_app.report.volume import draw_volume, volume_info
from tune_app.terminal.quantities import show_number


def test_the_volume_after_each_trial(tmp_path: Path) -> None:
    contents = small(tmp_path)
    info = volume_info(contents)
    assert info.trials == (1, 2, 3, 4, 5, 6)
    assert info.training_s == (1.5, 3.0, 4.5, 6.0, 7.5, 9.0)  # the failed one counts too
    reference = contents.reference
    assert reference is not None
    corner = costs_of(reference, contents.spec)
    found = [costs_of(r.metrics(), contents.spec) for r in contents.records if r.state == "complete"]
    assert info.volume[-1] == pytest.approx(hypervolume(np.array(found), corner))
    assert sum(map(training_seconds, contents.records)) == info.training_s[-1]
    by_trials, by_training = draw_volume(info)
    # Trials 3, 5 and 6 changed nothing; the last one is drawn all the same.
    assert (by_trials.data[0]["x"], by_training.data[0]["x"]) == ([1, 2, 4, 6], [1.5, 3.0, 6.0, 9.0])
    assert by_training.layout["xaxis"]["title"]["text"] == "training of all trials, seconds"


def test_the_axis_of_the_volume_begins_where_the_volumes_are(tmp_path: Path) -> None:
    """So that gains of a percent are seen; before the first point that counts there is nothing."""
    first = make_record(0, point(0.3, 8), state="failed")
    others = [make_record(i, point(0.3, i), 0.9 + i / 1000, 90_000 - i) for i in range(1, 5)]
    info = volume_info(small(tmp_path, [first, *others]))
    assert info.volume[0] == 0
    for figure in draw_volume(info):
        [trace] = figure.data
        low, high = figure.layout["yaxis"]["range"]
        drawn = max(trace["y"]) - min(trace["y"])
        assert 0 < low < min(trace["y"])
        assert drawn > 0.8 * (high - low)
        assert "fill" not in trace
        assert len(trace["x"]) == 4
    assert draw_volume(info)[0].layout["yaxis"]["title"]["text"] == "hypervolume (accuracy · size, thousands)"
    assert draw_volume(info)[0].data[0]["text"][-1] == f"{show_number(info.volume[-1])} after 5 trials"


@pytest.mark.parametrize(("seconds", "unit"), [(50.0, "seconds"), (500.0, "minutes"), (5e4, "hours"), (5e5, "days")])
def test_the_axis_of_time_has_the_largest_unit_that_is_reached(seconds: float, unit: str, tmp_path: Path) -> None:
    lost = make_record(0, point(0.3, 2), state="failed")
    nobody_noted = lost.result.model_copy(update={"stages": []})
    failed = lost.model_copy(update={"seconds": seconds, "result": nobody_noted})
    figure = draw_volume(volume_info(small(tmp_path, [failed, make_record(1, point(0.3, 4))])))[1]
    assert figure.layout["xaxis"]["title"]["text"].endswith(unit)


def test_a_volume_of_nothing_is_words(tmp_path: Path) -> None:
    failed = small(tmp_path / "failed", [make_record(0, point(0.3, 2), state="failed")])
    unmade = read_contents(small(tmp_path / "unmade").folder)
    unmade.folder.baseline_file.unlink()  # type: ignore[union-attr]
    for contents, words in ((failed, "hypervolume is 0"), (read_contents(unmade.folder), "once there are a baseline")):
        figure = draw_volume(volume_info(contents))[0]
        assert not figure.data
        assert words in figure.words


def test_the_parameter_that_decides_has_the_largest_share(tmp_path: Path) -> None:
    """Accuracy follows from w_bits alone, size from prune_frac alone."""
    space = {"prune_frac": [0.0, 0.3, 0.5, 0.7], "w_bits": [2, 4, 8], "a_bits": [4, 8]}
    records = [
        make_record(i, point(p, w, a), {2: 0.5, 4: 0.8, 8: 0.9}[w], int(1e6 * (1 - p)))
        for i, (p, w, a) in enumerate((p, w, a) for p in space["prune_frac"] for w in (2, 4, 8) for a in (4, 8))
    ]
    info = importance_info(small(tmp_path, records, space=space))
    assert info.shares["accuracy"]["w_bits"] > 0.99
    assert info.shares["size_bytes"]["prune_frac"] > 0.99
    assert sum(info.shares["accuracy"].values()) == pytest.approx(1)
    assert (info.points, info.of, info.why_not) == (24, 24, "")
    figure = draw_importance(info)
    assert "w_bits for accuracy, prune_frac for size" in figure.words
    assert list(figure.data[0]["hovertext"]) == figure.data[0]["y"]  # ticks end in spaces, which a hover repeats
    assert [trace["name"] for trace in figure.data] == ["accuracy", "size"]


def test_importances_are_the_same_each_time(tmp_path: Path) -> None:
    contents = read_contents(rich_experiment(tmp_path))
    assert importance_info(contents) == importance_info(contents)


def test_of_many_points_a_seeded_sample_is_used_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importance, "MOST", 12)
    contents = read_contents(rich_experiment(tmp_path))
    info = importance_info(contents)
    assert (info.points, info.of) == (12, 20)
    assert info == importance_info(contents)
    assert "over 12 points (a seeded sample of 20)" in draw_importance(info).words


def test_too_few_points_say_so(tmp_path: Path) -> None:
    figure = draw_importance(importance_info(small(tmp_path)))
    assert (figure.data, figure.words) == ([], f"No importances. It takes {FEWEST} points with a result; there are 5.")


def test_one_varying_parameter_decides_nothing(tmp_path: Path) -> None:
    space = {"prune_frac": [i / 20 for i in range(10)], "w_bits": [4], "a_bits": [8]}
    records = [make_record(i, point(i / 20, 4), 0.9 - i / 100, 1000 - i) for i in range(10)]
    info = importance_info(small(tmp_path, records, space=space))
    assert (info.shares, info.why_not) == ({}, "Fewer than two parameters vary over all points.")


def test_an_objective_that_never_varies_is_left_out_and_named(tmp_path: Path) -> None:
    space = {"prune_frac": [0.0, 0.3, 0.5], "w_bits": [2, 4, 8], "a_bits": [8]}
    records = [
        make_record(3 * i + j, point(p, w), 0.9, 1000 * w + i)
        for i, p in enumerate((0.0, 0.3, 0.5))
        for j, w in enumerate((2, 4, 8))
    ]
    info = importance_info(small(tmp_path, records, space=space))
    assert (list(info.shares), info.why_not) == (["size_bytes"], "All points have the same accuracy.")


def test_an_objective_that_varies_by_rounding_alone_does_not_vary(tmp_path: Path) -> None:
    """The mean of three equal accuracies is not always one of them."""
    space = {"prune_frac": [0.0, 0.3, 0.5], "w_bits": [2, 4, 8], "a_bits": [8]}
    points = [point(p, w) for p in (0.0, 0.3, 0.5) for w in (2, 4, 8)]
    records = [make_record(i, params, 0.9, 1000 * (i + 1)) for i, params in enumerate(points)]
    records[0] = make_record(0, points[0], math.nextafter(0.9, 1), 1000)
    info = importance_info(small(tmp_path, records, space=space))
    assert (list(info.shares), info.why_not) == (["size_bytes"], "All points have the same accuracy.")


def test_an_objective_of_tiny_numbers_has_importances(tmp_path: Path) -> None:
    space = {"prune_frac": [0.0, 0.3, 0.5], "w_bits": [2, 4, 8], "a_bits": [8]}
    points = [point(p, w) for p in (0.0, 0.3, 0.5) for w in (2, 4, 8)]
    records = [make_record(i, params, 1 - 1e-9 * (8 - int(params["w_bits"]))) for i, params in enumerate(points)]
    info = importance_info(small(tmp_path, records, space=space, objectives=["cross_entropy", "size_bytes"]))
    assert info.shares["cross_entropy"]["w_bits"] > 0.99
