"""What is written of an analysis: numbers, tables, predictions, words, and the section of a page."""

import csv
import html.parser
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.tune_app.mistakes.factories import make_analysis, make_perfect
from trainables.errors import ConfigError
from trainables.storage import StoragePath, names, read_bytes
from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.figures import FIGURES
from tune_app.mistakes.files import as_json, confusion_csv, per_class_csv, predictions_parquet, write_files
from tune_app.mistakes.numbers import numbers, per_class
from tune_app.mistakes.rows import class_rows, mutual_rows
from tune_app.mistakes.section import section
from tune_app.mistakes.text import report, summary

NAMES = ("cat", "dog, small", 'a "b"', "<i>", "é")
GROUPS = ("pet", "pet", "other", "other", "other")


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return make_analysis(names=NAMES, groups=GROUPS)


def test_all_files_are_written(analysis: Analysis, storage: StoragePath) -> None:
    written = write_files(analysis, storage / "out")
    assert set(written) == set(names(storage / "out", "*"))
    assert {f"{name}.png" for name in FIGURES} < set(written)
    assert read_bytes(storage / "out/report.txt").decode() == report(analysis)


def test_a_figure_of_an_earlier_analysis_does_not_stay(analysis: Analysis, tmp_path: Path) -> None:
    write_files(analysis, tmp_path)
    (tmp_path / "mine.png").touch()
    write_files(make_perfect(), tmp_path)
    assert not (tmp_path / "confident_errors.png").exists()
    assert (tmp_path / "mine.png").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(analysis: Analysis, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match="is a file: give a folder"):
        write_files(analysis, tmp_path / "out")


def test_numbers_are_json_and_agree_with_each_other(analysis: Analysis) -> None:
    found: dict[str, Any] = json.loads(as_json(analysis))
    assert found == json.loads(json.dumps(numbers(analysis)))
    assert found["images"] == len(analysis.labels) == sum(map(sum, found["confusion"]))
    assert found["errors"] == sum(found["errors_by_group"].values()) == round((1 - found["accuracy"]) * 120)
    change, before = found["change"], found["baseline"]
    assert change["accuracy"] == pytest.approx(found["accuracy"] - before["accuracy"])
    assert (
        len(change["newly_wrong"]) - len(change["newly_right"])
        == before["images"] * before["accuracy"] - 120 + found["errors"]
    )
    for image in change["newly_wrong"]:
        assert image["class"] == image["baseline_predicted"] != image["predicted"]
        assert NAMES[analysis.labels[image["index"]]] == image["class"]
    assert sum(row["images"] for row in found["calibration"]["bins"]) == 120


def test_numbers_of_a_network_without_errors_or_baseline_are_null() -> None:
    found = json.loads(as_json(make_perfect()))
    assert found["confidence"]["wrong"] is None
    assert (found["top_confusions"], found["confident_errors"], found["errors_by_group"]) == ([], [], None)
    alone = json.loads(as_json(make_analysis(baseline=None)))
    assert (alone["baseline"], alone["change"], alone["per_class"][0]["newly_wrong"]) == (None, None, None)


def test_each_class_has_its_recall_and_the_counts_behind_it(analysis: Analysis) -> None:
    baseline = analysis.baseline
    assert baseline is not None
    for label, row in enumerate(per_class(analysis)):
        of_class = analysis.labels == label
        for right, recall, outcome in (
            ("right", "accuracy", analysis.outcome),
            ("baseline_right", "baseline_accuracy", baseline),
        ):
            assert row[right] == (outcome.right & of_class).sum()
            assert row[recall] == pytest.approx(row[right] / row["images"])
    head, *rows = class_rows(analysis)
    assert head[1:6] == ("images", "right", "recall", "baseline right", "baseline recall")
    for row in rows:
        images, right, recall, before, recall_before = row[1:6]
        assert recall == f"{100 * int(right) / int(images):.1f} %"
        assert recall_before == f"{100 * int(before) / int(images):.1f} %"
    assert class_rows(make_analysis(baseline=None))[0][1:5] == ("images", "right", "recall", "precision")
    assert "mean over classes: recall (balanced accuracy) " in report(analysis)


def test_a_class_without_images_has_no_accuracy() -> None:
    rows = per_class(make_analysis(100, 60))
    missing = [row for row in rows if not row["images"]]
    assert missing
    assert all(row["accuracy"] is None and row["accuracy_change"] is None for row in missing)
    assert "–" in report(make_analysis(100, 60))


def test_tables_are_read_back_from_csv(analysis: Analysis) -> None:
    head, *rows = csv.reader(io.StringIO(confusion_csv(analysis)))
    assert head[1:] == [row[0] for row in rows] == list(NAMES)
    assert [list(map(int, row[1:])) for row in rows] == analysis.outcome.matrix.tolist()
    found = list(csv.DictReader(io.StringIO(per_class_csv(analysis))))
    assert [row["class"] for row in found] == list(NAMES)
    assert [float(row["accuracy"]) for row in found] == analysis.outcome.scores.accuracy.tolist()


def test_predictions_are_read_back_from_parquet(analysis: Analysis) -> None:
    table = pq.read_table(io.BytesIO(predictions_parquet(analysis)))
    assert table.column_names == [
        *("index", "label", "predicted", "confidence"),
        *("baseline_predicted", "baseline_confidence"),
    ]
    np.testing.assert_array_equal(table["predicted"], analysis.outcome.predicted)
    np.testing.assert_array_equal(table["label"], analysis.labels)
    assert json.loads(table.schema.metadata[b"classes"]) == list(NAMES)
    alone = pq.read_table(io.BytesIO(predictions_parquet(make_analysis(baseline=None))))
    assert alone.column_names == ["index", "label", "predicted", "confidence"]


def test_the_summary_says_what_broke(analysis: Analysis) -> None:
    text = "\n".join(summary(analysis))
    change = analysis.change
    assert change is not None
    assert f"{len(change.newly_wrong)} images newly wrong, {len(change.newly_right)} newly right" in text
    assert "p30_w4_a8 of toy, 12,345 bytes" in text
    worst = NAMES[int(np.argmin(change.class_accuracy))]
    assert text.split("classes that lost most")[1].splitlines()[2].startswith(f"  {worst}")


def test_classes_that_are_mistaken_for_each_other_are_told_everywhere(analysis: Analysis) -> None:
    matrix, baseline = analysis.outcome.matrix, analysis.baseline
    assert baseline is not None
    first = json.loads(as_json(analysis))["mutual_confusions"][0]
    i, j = map(NAMES.index, first["classes"])
    assert (first["forth"], first["back"]) == (matrix[i, j], matrix[j, i])
    most = max(matrix[a, b] + matrix[b, a] for a in range(5) for b in range(a))
    assert first["images"] == most == first["forth"] + first["back"]
    head, row, *_ = mutual_rows(analysis)
    assert head == ("class", "other class", "both ways", "→", "←", "of both classes", "baseline")
    before = baseline.matrix[i, j] + baseline.matrix[j, i]
    assert row[:5] == (NAMES[i], NAMES[j], str(most), str(matrix[i, j]), str(matrix[j, i]))
    assert row[5:] == (f"{100 * first['share']:.1f} %", str(before))
    for text in ("\n".join(summary(analysis)), report(analysis)):
        assert "mutual confusions: both directions together" in text
    assert "Mutual confusions: both directions together" in section(analysis)[1]
    assert "utual confusions" not in report(make_perfect()) + section(make_perfect())[1]


def test_the_report_says_more_than_the_summary(analysis: Analysis) -> None:
    text = report(analysis)
    for title in ("top confusions", "errors by group", "most confident errors", "newly wrong", "newly right", "calib"):
        assert title in text
    assert "across groups" in text


def test_words_of_a_network_without_errors() -> None:
    text = report(make_perfect())
    assert "100.00 % right on 20 validation images of noise, 0 errors" in text
    assert "when wrong" not in text
    assert "top confusions" not in text
    assert "nan" not in text


class Page(html.parser.HTMLParser):
    """The tags of a page, their attributes, and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_section_is_one_piece_of_html_that_needs_nothing_else(analysis: Analysis) -> None:
    title, content = section(analysis)
    page = Page(content)
    assert title == "Errors of p30_w4_a8"
    assert page.open == []
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe", "i"} == set()
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(drawings) == len(FIGURES)
    assert all(attributes["aria-label"] for attributes in drawings)
    images = [str(attributes["xlink:href"]) for tag, attributes in page.tags if tag == "image"]
    assert images
    assert all(source.startswith("data:image/png;base64,") for source in images)
    assert "http" not in content
    for name in NAMES:
        assert name in page.text


def test_names_that_no_text_can_hold_are_written_out(tmp_path: Path) -> None:
    """A folder's name may be bytes that are no UTF-8, or steer a terminal."""
    analysis = make_analysis(2, names=(os.fsdecode(b"caf\xe9"), "\x1b[2J"), label=os.fsdecode(b"\xe9.mbq"))
    written = write_files(analysis, tmp_path)
    for name in (name for name in written if name.endswith((".txt", ".csv"))):
        assert {r"caf\udce9", r"\x1b[2J"} <= set(re.findall(r"caf\S{6}|\\x1b\[2J", (tmp_path / name).read_text())), name
    title, content = section(analysis)
    assert (title, r"caf\udce9" in content) == (r"Errors of \udce9.mbq", True)


def test_the_section_of_a_network_without_errors_has_no_empty_table() -> None:
    page = Page(section(make_perfect())[1])
    assert "Top confusions" not in page.text
    assert [tag for tag, _ in page.tags].count("table") == 1
