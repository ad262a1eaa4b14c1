"""Figures: golden data of what they show, and that every kind of analysis can be drawn."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.tune_app.failures.factories import make_analysis, make_perfect
from tune_app.failures.analysis import Analysis
from tune_app.failures.calibration_figure import confidence_shares
from tune_app.failures.class_figures import CLASSES, accuracy_info, change_info
from tune_app.failures.figures import FIGURES, figures
from tune_app.failures.ink import picture, short, text_colour
from tune_app.failures.matrix_figures import OTHERS, cell_colours, matrix_info

OF_ERRORS = {"top_confusions", "confident_errors"}
OF_CHANGES = {"class_changes", "newly_wrong", "newly_right"}


def drawn(analysis: Analysis) -> set[str]:
    told: list[int] = []
    found = figures(analysis, advance=told.append)
    assert sum(told) == len(FIGURES)
    for figure in found:
        image = Image.open(io.BytesIO(figure.png))
        assert min(image.size) > 150, figure.name
        assert image.convert("RGB").getpixel((2, image.height - 3)) == (255, 255, 255), "a light background"
    return {figure.name for figure in found}


def test_everything_is_drawn_of_a_network_with_errors_and_a_baseline() -> None:
    assert drawn(make_analysis()) == set(FIGURES)


def test_without_a_baseline_nothing_is_said_of_changes() -> None:
    assert drawn(make_analysis(baseline=None, channels=1)) == set(FIGURES) - OF_CHANGES


def test_a_network_without_errors_has_no_figures_of_them() -> None:
    assert drawn(make_perfect()) == set(FIGURES) - OF_ERRORS - OF_CHANGES


@pytest.mark.parametrize("names", [("$x$", "_^{\\frac"), ("a" * 60, "<b>&")])
def test_two_classes_with_any_names_are_drawn(names: tuple[str, str]) -> None:
    assert {"confusion_counts", "confusion_images", "class_accuracy"} <= drawn(make_analysis(2, names=names))


def test_a_hundred_classes_are_drawn() -> None:
    assert drawn(make_analysis(100, 900, channels=2)) == set(FIGURES)


def test_the_same_analysis_gives_the_same_bytes() -> None:
    first, second = (figures(make_analysis(3, 60)) for _ in range(2))
    assert [f.png for f in first] == [f.png for f in second]


def test_of_many_classes_the_matrix_shows_the_hardest_and_the_others_together() -> None:
    analysis = make_analysis(100, 900)
    info = matrix_info(analysis, limit=20)
    matrix = analysis.outcome.matrix
    assert info.counts.shape == info.shares.shape == (20, 21)
    assert info.columns == (*info.rows, OTHERS)
    np.testing.assert_array_equal(info.counts.sum(1), matrix[info.classes].sum(1))
    np.testing.assert_allclose(info.shares.sum(1), 1)
    assert "the 20 of 100 classes with most errors" in info.title


def test_of_few_classes_the_matrix_shows_all() -> None:
    analysis = make_analysis()
    info = matrix_info(analysis, limit=20)
    np.testing.assert_array_equal(info.counts, analysis.outcome.matrix)
    assert info.rows == info.columns == analysis.names
    assert "classes" not in info.title


def test_colours_grow_with_errors_and_leave_the_diagonal_and_the_others_out() -> None:
    counts = np.array([[90, 1, 9, 50], [0, 100, 3, 70], [0, 0, 99, 0]])
    colours = cell_colours(counts, counts / counts.sum(1, keepdims=True))
    darkness = 1 - colours.mean(-1)
    assert darkness[0, 1] < darkness[1, 2] < darkness[0, 2]
    assert not darkness[:, 3].any()
    assert darkness[1, 0] == 0
    assert darkness[1, 1] < darkness[0, 0] < darkness[2, 2]
    assert np.isfinite(cell_colours(np.diag([3, 4]), np.eye(2))).all()


def test_classes_are_shown_the_worst_first_and_not_without_images() -> None:
    analysis = make_analysis(100, 150)
    info = accuracy_info(analysis)
    known = int((analysis.outcome.scores.images > 0).sum())
    assert known < 100
    assert len(info.names) == CLASSES
    assert (np.diff(info.accuracy) >= 0).all()
    assert f"the {CLASSES} of {known} classes" in info.title
    assert info.images.min() > 0


def test_changes_are_shown_what_lost_most_first() -> None:
    info = change_info(make_analysis())
    assert info is not None
    lost = info.broken - info.repaired
    assert (np.diff(lost) <= 0).all()
    assert ((info.broken + info.repaired) > 0).all()
    np.testing.assert_allclose(info.change, -lost / info.images)


def test_shares_of_confidence_sum_to_one_or_to_nothing() -> None:
    assert confidence_shares(np.array([0.0, 0.5, 1.0, 1.0])).sum() == 1
    assert confidence_shares(np.array([])).sum() == 0


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_an_image_of_any_channels_becomes_a_picture(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 5, 5), dtype=np.uint8)
    found = picture(pixels)
    assert (found.shape, found.dtype) == ((5, 5, 3), np.uint8)
    if channels == 3:
        np.testing.assert_array_equal(found[..., 1], pixels[1])
    else:
        np.testing.assert_array_equal(found[..., 0], found[..., 2])
        np.testing.assert_allclose(found[..., 0], pixels.mean(0), atol=0.5)


def test_text_can_be_read_on_light_and_on_dark() -> None:
    assert text_colour((1.0, 1.0, 1.0)) != "white"
    assert text_colour((0.1, 0.1, 0.4)) == "white"


def test_a_long_name_is_cut() -> None:
    assert short("aquarium_fish") == "aquarium_fish"
    assert short("a" * 40) == "a" * 15 + "…"
