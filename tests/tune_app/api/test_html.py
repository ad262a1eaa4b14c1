"""The page of an experiment in a notebook: right, self-contained, and safe whatever the records say."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import tune_app
from tests.specs import tiny_spec
from tests.tune_app.factories import make_experiment, make_record, make_records, make_untrained, store_baseline
from trainables.storage import replace
from tune_app.api import html
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.spec.experiment import ExperimentSpec

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>{{ 7 * 7 }}&amp;'
TAGS = {
    *("div", "p", "b", "span", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "ul", "li"),
    *("svg", "path", "text", "circle", "title"),
}


class Page(HTMLParser):
    """What a browser makes of a page: its tags, attributes and text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(content)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.attributes += attrs

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def page(place: "ExperimentFolder | ExperimentSpec") -> Page:
    """The page of an experiment, which must be harmless."""
    opened = tune_app.Experiment(place if isinstance(place, ExperimentSpec) else place.path)
    content = opened._repr_html_()
    found = Page(content)
    assert set(found.tags) <= TAGS
    assert found.open == []
    names = {name for name, _ in found.attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"src", "href", "class", "id"})
    assert "http" not in re.sub(r"<title>.*?</title>", "", content).replace("http://www.w3.org/2000/svg", "")
    return found


def finished(storage: Path, **changes: Any) -> ExperimentFolder:
    folder = make_experiment(storage, **{"budget": {"trials": 6}, **changes})
    store_baseline(folder)
    return folder


def words(found: Page) -> str:
    return " ".join(found.text.split())


def test_a_finished_search(tmp_path: Path) -> None:
    found = page(finished(tmp_path))
    said = words(found)
    assert said.startswith("toy finished 6 of 6 trials, 1 without a result baseline: 95.00 %, 1.00 MB in fp32")
    assert "accuracy p0_w8_a8 95.00 % 250 KB 4.00x +0.00 pp" in said
    assert "compression p50_w4_a8 88.00 % 60.0 KB 16.7x -7.00 pp" in said
    assert "balanced p30_w4_a8 93.00 % 90.0 KB 11.1x -2.00 pp" in said
    assert "p30_w4_a8: 93.00 %, 90.0 KB" in said
    assert found.tags.count("circle") == 5
    assert str(tmp_path) in said


def test_a_search_that_runs(tmp_path: Path) -> None:
    folder = finished(tmp_path, budget={"trials": 10})
    assert words(page(folder)).startswith("toy stopped 6 of 10 trials")
    with Lease(folder):
        assert words(page(folder)).startswith("toy running 6 of 10 trials")


def test_a_point_that_is_best_in_two_ways_has_one_row(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, make_records()[:1])
    said = words(page(folder))
    assert "accuracy, compression, balanced p0_w8_a8 95.00 % 250 KB 4.00x" in said
    assert "baseline" not in said


def test_an_empty_search(tmp_path: Path) -> None:
    found = page(make_experiment(tmp_path, [], tables=False))
    assert words(found).startswith("toy stopped 0 of 10 trials")
    assert not {"svg", "table"} & set(found.tags)


def test_a_search_that_has_not_begun(tmp_path: Path) -> None:
    assert words(page(tiny_spec(tmp_path))).startswith("tiny not started 6 points to search, 6 trials")
    assert list(tmp_path.iterdir()) == []


def test_what_everybody_must_be_told_is_there(tmp_path: Path) -> None:
    assert "untrained baseline: accuracies mean nothing" in words(page(make_untrained(tmp_path)))


def test_further_objectives_have_columns(tmp_path: Path) -> None:
    folder = finished(tmp_path, objectives=["accuracy", "size_bytes", "macs"])
    assert "best point accuracy size ratio MACs against the baseline" in words(page(folder))


def test_names_of_records_are_text(tmp_path: Path) -> None:
    point = {"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}
    folder = finished(
        tmp_path / "<script>",
        records=[
            make_record(0, {**point, "importance": HOSTILE}),
            make_record(1, {**point, "w_bits": 4, "importance": HOSTILE}, 0.8, 50_000),
            make_record(2, {**point, "w_bits": 2}, state="invalid", message=HOSTILE),
        ],
    )
    found = page(folder)
    assert HOSTILE in found.text
    assert str(folder.path) in found.text
    assert "49" not in re.sub(r"[0-9]+\.[0-9]+", "", found.text).replace(str(folder.path), "")


def test_what_cannot_be_read_is_said_in_its_place(tmp_path: Path) -> None:
    folder = finished(tmp_path / "<b>")
    replace(folder.spec_file, b"name: [")
    said = words(page(folder))
    assert "error: stored spec" in said
    assert "<b>" in said


def test_colors_can_be_seen_on_white_and_on_black(tmp_path: Path) -> None:
    found = page(finished(tmp_path))
    written = " ".join(value or "" for name, value in found.attributes if name in {"style", "fill", "stroke"})
    colors = {name.lower() for name in re.findall(r"#[0-9a-fA-F]{3,6}", written)}
    assert colors
    for color in colors:
        assert min(contrast(color, "#ffffff"), contrast(color, "#111111")) >= 3, color


def contrast(color: str, other: str) -> float:
    """The ratio of WCAG 2; 3 is what graphics need."""
    first, second = sorted(map(luminance, (color, other)))
    return (second + 0.05) / (first + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("count", [100, 31])
def test_of_many_trials_some_are_drawn_and_the_rest_is_counted(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html, "MOST", 30)
    best = make_record(0, {"prune_frac": 0.0, "w_bits": 2, "a_bits": 4}, 0.99, 1_000)
    rest = [
        make_record(i, {"prune_frac": i / 10_000, "w_bits": 8, "a_bits": 8}, 0.5, 100_000 + i)
        for i in range(1, count + 1)
    ]
    folder = make_experiment(tmp_path, [best, *rest], budget={"trials": 2_000}, tables=False)
    found = page(folder)
    drawn = found.tags.count("circle") - 1
    assert 10 <= drawn <= 30
    assert f"{count - drawn:,} more trials are not drawn" in found.text
