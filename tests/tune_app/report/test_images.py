"""Figures as files, drawn by the system's Chromium."""

import os
import re
import struct
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.browser import needs_chromium
from tests.tune_app.factories import make_untrained
from tests.tune_app.report.factories import small
from trainables.errors import ConfigError
from tune_app.report import build, images
from tune_app.report.build import write_figures
from tune_app.report.figure import Figure
from tune_app.report.images import PNG_SCALE, WIDTH, find_browser, write_images
from tune_app.report.pareto import pareto_info
from tune_app.report.pareto_figure import draw_pareto
from tune_app.report.sections import explore, search


def test_png_and_svg_of_the_same_figure(tmp_path: Path) -> None:
    needs_chromium()
    contents = small(tmp_path)
    figures = [draw_pareto(pareto_info(contents)), *search(contents).figures[:1]]
    assert write_images(figures, tmp_path / "png", "png") == ["pareto.png", "hypervolume-trials.png"]
    content = (tmp_path / "png" / "pareto.png").read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) == (PNG_SCALE * WIDTH, PNG_SCALE * (figures[0].height + 64))
    write_images(figures[:1], tmp_path / "svg", "svg")
    svg = tmp_path / "svg" / "pareto.svg"
    text = "".join(ElementTree.parse(svg).getroot().itertext())
    assert "Accuracy against size" in text
    assert "baseline, fp32" in text


def test_rows_of_names_have_their_room_below_the_title(tmp_path: Path) -> None:
    """Nine long names stand in three rows, and in an image too they cover no other text."""
    needs_chromium()
    names = [f"p{i}0_sparsity=0.7_w2_a8_importance=l1" for i in range(9)]
    lines = [{"type": "scatter", "name": name, "x": [1, 2], "y": [i, i]} for i, name in enumerate(names)]
    figure = Figure("many", "Many names", "", lines, {})
    write_images([figure], tmp_path, "svg")
    root = ElementTree.parse(tmp_path / "many.svg").getroot()
    assert float(root.attrib["height"]) == figure.height + images.HEAD_PX + 4 * images.ROW_PX
    [legend] = [e for e in root.iter() if e.get("class") == "legend"]
    [title] = [e for e in root.iter() if e.get("class") == "gtitle"]
    top = float(re.findall(r"[\d.]+", legend.attrib["transform"])[1])
    assert top > float(title.attrib["y"]) + 4


def test_every_image_of_a_placeholder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_chromium()
    monkeypatch.setattr(build, "sections_of", lambda contents, advance: [explore(contents)])
    names = write_figures(make_untrained(tmp_path), tmp_path / "svg", "svg")
    assert names == ["pareto.svg", "parallel.svg"]
    for name in names:
        text = "".join(ElementTree.parse(tmp_path / "svg" / name).getroot().itertext())
        assert "(untrained baseline: accuracies mean nothing)" in text


def test_figures_that_show_nothing_need_no_browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER_PATH", "/no/such/browser")
    figures = search(small(tmp_path, [])).figures
    assert figures
    assert write_images(figures, tmp_path / "none", "png") == []


def test_a_file_is_no_folder_for_figures(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        write_images([], tmp_path / "file", "png")


def test_no_browser_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr(images, "BROWSERS", ("no-such-browser",))
    with pytest.raises(ConfigError, match=r"apt-get install chromium.*BROWSER_PATH") as found:
        find_browser()
    assert "\n" not in str(found.value)


def test_a_browser_path_that_is_no_program_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for named in (tmp_path, tmp_path / "missing"):
        monkeypatch.setenv("BROWSER_PATH", str(named))
        with pytest.raises(ConfigError, match="BROWSER_PATH must name"):
            find_browser()


def test_a_browser_that_does_not_draw_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", os.fspath(broken))
    monkeypatch.setattr(images, "LIMIT_S", 5.0)
    contents = small(tmp_path)
    with pytest.raises(ConfigError, match="does not draw"):
        write_images([draw_pareto(pareto_info(contents))], tmp_path / "png", "png")
    assert not (tmp_path / "png").exists()


def test_without_kaleido_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needs_chromium()
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(ConfigError, match=r"pip install 'tune-app\[figures\]'"):
        write_images([draw_pareto(pareto_info(small(tmp_path)))], tmp_path / "png", "png")
