"""The page as text: everything in it, nothing from outside, nothing of the data taken for markup."""

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest

from tests.tune_app.factories import make_experiment, make_record, make_records, make_untrained, rehearsal
from tests.tune_app.report.factories import EVIL, point, refused_experiment, rich_experiment, small
from trainables.errors import ConfigError, CorruptFile
from trainables.storage import StoragePath, read_bytes
from tune_app.drawing.palette import PALETTES, painted
from tune_app.ledger.folder import ExperimentFolder
from tune_app.report import build
from tune_app.report.build import all_sections, build_report, write_report
from tune_app.report.contents import Contents, read_contents
from tune_app.report.figure import Figure
from tune_app.report.page import embedded, render
from tune_app.report.section import Section
from tune_app.report.sections import sections_of
from tune_app.report.templates import joined

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


class Read(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside not in {"script", "style"}:
            self.text += data

    def having(self, name: str) -> list[str]:
        return [value for _, attributes in self.tags if (value := attributes.get(name)) is not None]


def page_of(contents: Contents, *extra: Section, watch: str = "") -> str:
    return render(contents, all_sections(contents, extra), now=NOW, watch=watch)


def policy_of(page: str) -> str:
    [policy] = [a["content"] for _, a in Read(page).tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    return policy


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


def test_the_page_of_a_placeholder_says_so_at_its_top(tmp_path: Path) -> None:
    said = "Untrained baseline: accuracies mean nothing."
    top, _ = Read(page_of(read_contents(make_untrained(tmp_path / "placeholder")))).text.split("Accuracy against size")
    assert said in top
    assert said not in Read(page_of(small(tmp_path / "trained"))).text


def test_the_page_of_a_rehearsal_says_so_at_its_top(tmp_path: Path) -> None:
    top, _ = Read(page_of(read_contents(make_experiment(tmp_path, base=rehearsal(tmp_path))))).text.split(
        "Accuracy against size"
    )
    assert "Rehearsal: at most 5,000 images of each split (data.images)." in top


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([], id="empty"),
        pytest.param([make_record(i, point(0.3, w), state="failed") for i, w in enumerate((2, 4))], id="failures only"),
        pytest.param(make_records(), id="with a frontier"),
        pytest.param([make_record(0, point(0.3, 4))], id="one trial"),
    ],
)
def test_a_page_of_every_experiment(records: list[Any], tmp_path: Path) -> None:
    contents = small(tmp_path, records)
    page = page_of(contents)
    read = Read(page)
    ids = read.having("id")
    assert len(set(ids)) == len(ids)
    assert {f"#{section.name}" for section in sections_of(contents)} <= set(read.having("href"))
    assert all(target[1:] in ids for target in read.having("href") if target.startswith("#"))
    for name in ("aria-labelledby", "aria-describedby", "for"):
        assert set(read.having(name)) <= set(ids)
    data = data_of(page)
    assert all(len(column["values"]) == len(records) for column in data["columns"])
    assert set(read.having("data-figure")) == set(data["figures"])
    named = [
        a.get("aria-label") or a.get("aria-labelledby") for _, a in read.tags if {"role", "data-figure"} & a.keys()
    ]
    assert named.count(None) == len([a for _, a in read.tags if a.get("role") == "status"])


def test_numbers_of_figures_are_written_in_one_style(tmp_path: Path) -> None:
    """As the page's words: a space before a unit, in ticks, hovers and texts."""
    for make in (rich_experiment, refused_experiment):
        for section in sections_of(read_contents(make(tmp_path / make.__name__))):
            for figure in section.figures:
                spec = json.dumps([figure.embedded(), figure.words], ensure_ascii=False)
                assert not re.search(r"[0-9]%|[0-9](?:pp|[KMGT]?B)\b", spec), figure.name
                assert not re.search(r'"(?:tick|hover)format": "[^"]*[%s]"|\{[xy]:[^}]*[%s]\}', spec), figure.name


def test_one_is_written_as_one(tmp_path: Path) -> None:
    text = Read(page_of(small(tmp_path, [make_record(0, point(0.3, 4))]))).text
    assert "1 of 1 point on the frontier" in text
    assert not re.search(r"\b1 (trials|points|stages|lanes|images|errors)\b", text)


def test_nothing_in_the_page_points_elsewhere(tmp_path: Path) -> None:
    page = page_of(small(tmp_path))
    read = Read(page)
    assert not [
        a for tag, a in read.tags if tag in {"link", "img", "iframe", "object", "embed"} and "data:" not in str(a)
    ]
    assert not [a for tag, a in read.tags if tag == "script" and "src" in a]
    assert all(target.startswith(("#", "data:")) for target in read.having("href"))
    policy = policy_of(page)
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert not read.having("data-watch")


def test_a_followed_page_may_ask_its_own_server(tmp_path: Path) -> None:
    page = page_of(small(tmp_path), watch="0123")
    assert Read(page).having("data-watch") == ["0123"]
    assert "connect-src 'self'" in policy_of(page)


def test_what_comes_from_data_is_text(tmp_path: Path) -> None:
    """A message, a label and a parameter's value that hold markup; the spec is one more place."""
    records = [
        make_record(0, {"w_bits": 4, "importance": "l1"}),
        make_record(1, {"w_bits": 4, "importance": EVIL}, environment={"host": EVIL}),
        make_record(2, {"w_bits": 4}, state="failed", kind="UnexpectedError", message=EVIL),
    ]
    contents = small(tmp_path, records, space={"w_bits": [4], "importance": ["l1", "l2"]})
    plain = page_of(small(tmp_path / "plain"))
    page = page_of(Contents(**{**vars_of(contents), "spec_text": EVIL}))
    assert EVIL not in page
    assert page.count("</script>") == plain.count("</script>")
    assert not [a for tag, a in Read(page).tags if tag == "img"]
    assert EVIL in Read(page).text
    reasons = next(column for column in data_of(page)["columns"] if column["name"] == "reason")
    assert reasons["values"][2] == f"UnexpectedError: {EVIL}"
    importance = next(column for column in data_of(page)["columns"] if column["name"] == "importance")
    assert importance["values"] == ["l1", EVIL, None]


def test_a_path_that_is_no_utf_8_is_in_commands_as_a_shell_reads_it(tmp_path: Path) -> None:
    name = b"caf\xe9's"
    place = small(tmp_path).folder.path.rename(tmp_path / os.fsdecode(name))  # type: ignore[union-attr]
    page = build_report(ExperimentFolder(place))
    assert "caf\\udce9&#39;s" in page
    commands = [line.removesuffix(" p50_w4_a8") for line in Read(page).text.splitlines() if "$'" in line]
    words = [data_of(page)["folder"], *(line.partition(" ")[2].partition(" ")[2] for line in commands)]
    assert [subprocess.check_output(["bash", "-c", f"printf %s {word}"]) for word in words] == [os.fsencode(place)] * 3


def vars_of(contents: Contents) -> dict[str, Any]:
    return {name: getattr(contents, name) for name in Contents.__dataclass_fields__}


@pytest.mark.parametrize("text", ["</script>", "<!--", "a\u2028b", "&amp;", '"quoted"', "ä€😀"])
def test_embedded_json_ends_no_element(text: str) -> None:
    found = embedded({"a": text})
    assert json.loads(found) == {"a": text}
    assert not set("<>&\u2028") & set(found)


def test_findings_are_on_the_page_and_an_empty_search_has_none(tmp_path: Path) -> None:
    page = page_of(small(tmp_path))
    assert (
        "<li>knee of the frontier&#39;s 3 points, where it bends most: p30_w4_a8 (93.00\u00a0%, 90.0\u00a0KB)" in page
    )
    assert 'id="findings-title"' not in page_of(small(tmp_path / "empty", []))


def test_sections_of_other_modules_stand_before_the_provenance(tmp_path: Path) -> None:
    figure = Figure("errors", "Errors", "Two.", [{"type": "bar", "x": [1], "y": [2]}], {})
    page = page_of(small(tmp_path), Section("errors", "Where it errs", (figure,), "Some.", "<table id='mine'></table>"))
    assert page.index('<h2 id="errors-title">Where it errs</h2>') < page.index('<h2 id="provenance-title">')
    assert "<table id='mine'></table>" in page
    assert data_of(page)["figures"]["errors"]["data"] == [{"type": "bar", "x": [1], "y": [2]}]


def test_two_figures_of_one_name_are_a_bug(tmp_path: Path) -> None:
    figure = Figure("pareto", "", "", [{"x": [1]}], {})
    with pytest.raises(AssertionError, match="different names"):
        page_of(small(tmp_path), Section("more", "More", (figure,)))


@pytest.mark.parametrize("theme", PALETTES)
def test_every_figure_is_one_that_plotly_accepts(theme: Any, tmp_path: Path) -> None:
    figures = [f for section in sections_of(read_contents(rich_experiment(tmp_path))) for f in section.figures]
    assert len(figures) >= 11
    for figure in figures:
        spec = painted(figure.spec(), theme)
        assert "@" not in json.dumps(spec)
        go.Figure(spec)


def test_palettes_have_the_same_names() -> None:
    assert PALETTES["light"].keys() == PALETTES["dark"].keys()


def test_the_page_is_written_in_one_step_in_any_storage(storage: StoragePath) -> None:
    folder = small(storage).folder
    target = folder.path / "report.html"
    size = write_report(folder, target)
    content = read_bytes(target)
    assert len(content) == size
    assert b"p30_w4_a8" in content


def test_a_folder_is_no_output(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        write_report(small(tmp_path).folder, tmp_path)


def test_every_step_of_a_report_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: dict[str, list[int]] = {}

    @contextlib.contextmanager
    def counting(what: str, *, total: int) -> Iterator[Callable[[int], None]]:
        counts[what] = []
        yield counts[what].append
        assert sum(counts[what]) == total

    monkeypatch.setattr(build, "counting", counting)
    build_report(rich_experiment(tmp_path))
    assert len(counts["report"]) >= 10


def test_damaged_records_are_counted_and_left_out(tmp_path: Path) -> None:
    folder = small(tmp_path).folder
    (folder.trials / "0-full-a1.json").write_text("{")  # type: ignore[union-attr]
    page = build_report(folder)
    assert "1 damaged file in the ledger is left out" in page
    (folder.trials / "1-full-a1.json").write_text("{")  # type: ignore[union-attr]
    assert "2 damaged files in the ledger are left out" in build_report(folder)


def test_a_damaged_spec_is_named(tmp_path: Path) -> None:
    folder = small(tmp_path).folder
    folder.spec_file.write_text("name: 3")  # type: ignore[union-attr]
    with pytest.raises(CorruptFile, match=r"experiment\.yaml"):
        build_report(folder)


def test_a_number_and_its_unit_stay_on_one_line() -> None:
    assert joined("99.17 % at 60 KB (-1.00 pp), 12 trials") == "99.17\u00a0% at 60\u00a0KB (-1.00\u00a0pp), 12 trials"
