"""Figures: golden data of what they show, and that every kind of analysis can be drawn."""

import io
import re
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from tests.tune_app.mistakes.factories import make_analysis, make_perfect
from tune_app.drawing.inline_svg import to_svg
from tune_app.drawing.palette import PALETTES
from tune_app.drawing.sheet import BLUE, MOST_PIXELS, ORANGE, picture, short, tint, to_png
from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.calibration_figure import confidence_shares
from tune_app.mistakes.class_figures import CLASSES, accuracy_info, change_info
from tune_app.mistakes.figures import FIGURES, figures
from tune_app.mistakes.matrix_figures import OTHERS, STRONGEST, cell_colors, matrix_info

OF_ERRORS = {"top_confusions", "confident_errors"}
OF_CHANGES = {"class_changes", "newly_wrong", "newly_right"}


def drawn(analysis: Analysis) -> set[str]:
    found = figures(analysis)
    for figure in found:
        image = Image.open(io.BytesIO(to_png(figure.drawing)))
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
    for one, other in zip(first, second, strict=True):
        assert to_png(one.drawing) == to_png(other.drawing)
        assert to_svg(one.drawing, text="") == to_svg(other.drawing, text="")


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


def test_colors_grow_with_errors_and_leave_the_diagonal_and_the_others_out() -> None:
    counts = np.array([[90, 1, 9, 50], [0, 100, 3, 70], [0, 0, 99, 0]])
    colors = cell_colors(counts, counts / counts.sum(1, keepdims=True))
    darkness = colors[..., 3]
    assert darkness[0, 1] < darkness[1, 2] < darkness[0, 2]
    assert not darkness[:, 3].any()
    assert darkness[1, 0] == 0
    assert darkness[1, 1] < darkness[0, 0] < darkness[2, 2]
    assert np.isfinite(cell_colors(np.diag([3, 4]), np.eye(2))).all()


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


@pytest.mark.parametrize("theme", PALETTES)
@pytest.mark.parametrize("color", [BLUE, ORANGE])
def test_text_can_be_read_on_every_cell(theme: Any, color: str) -> None:
    ink, paper = (np.array(to_rgb(PALETTES[theme][name])) for name in ("ink", "surface"))
    for strength in np.linspace(0, STRONGEST, 9):
        *mixed, alpha = tint(color, strength)
        assert contrast(ink, alpha * np.array(mixed) + (1 - alpha) * paper) >= 4.5


def contrast(*colors: np.ndarray) -> float:
    """WCAG 2.2, of two colors."""
    linear = [np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in colors]
    low, high = sorted(float(c @ [0.2126, 0.7152, 0.0722]) for c in linear)
    return (high + 0.05) / (low + 0.05)


def test_a_long_name_is_cut() -> None:
    assert short("aquarium_fish") == "aquarium_fish"
    assert short("a" * 40) == "a" * 15 + "…"


def test_a_large_image_is_shown_smaller() -> None:
    assert picture(np.zeros((3, 224, 224), np.uint8)).shape == (MOST_PIXELS, MOST_PIXELS, 3)


def test_a_figure_in_a_page_has_the_pages_colors_and_names_of_its_own() -> None:
    svgs = [to_svg(figure.drawing, text="What it shows") for figure in figures(make_analysis())]
    for svg in svgs:
        assert svg.startswith('<svg role="img" aria-label="What it shows" ')
        assert "var(--ink, #222222)" in svg
        assert not re.search(r"(?:fill|stroke): (#222222|#ffffff|black|white)", svg)
        assert not re.search(r"<style|<metadata|<!--|http", svg)
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) == set(re.findall(r' id="([^"]+)"', svg))
    names = [name for svg in svgs for name in re.findall(r' id="([^"]+)"', svg)]
    assert len(set(names)) == len(names) > 0


def test_names_that_look_like_markup_are_written_as_they_are() -> None:
    names = ("#222222", ' id="own"', "url(#own)", "font-family: x; y")
    svg = to_svg(figures(make_analysis(len(names), names=names))[0].drawing, text="")
    assert set(re.findall(r">([^<>]+)</text>", svg)) >= set(map(short, names))


def test_letters_that_no_font_here_has_are_still_text_in_a_page() -> None:
    analysis = make_analysis(2, names=("数据", "größe & <b>"))
    svg = to_svg(figures(analysis)[0].drawing, text="")
    assert ">数据<" in svg
    assert "größe &amp; &lt;b&gt;" in svg
    assert "font-family" not in svg
    assert drawn(analysis)
