"""The report of a made experiment in Chromium: its parts are linked, and answer to pointer and keyboard."""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.tune_app.factories import make_experiment, make_record, make_records
from tests.tune_app.report.factories import (
    EVIL,
    at,
    point,
    refused_experiment,
    rich_experiment,
    small,
    wide_experiment,
)
from tests.tune_app.report.visits import COVERED, PARALLEL, PARETO, WIDER, Visit, drawn, marks, scroll_through
from trainables.results import StageRun
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger
from tune_app.report import coordinates
from tune_app.report.build import write_report
from tune_app.report.contents import read_contents
from tune_app.report.serve import ReportServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an experiment that has everything."""
    place = tmp_path_factory.mktemp("report")
    write_report(rich_experiment(place), place / "report.html")
    return place / "report.html"


def test_a_clicked_point_is_chosen_in_the_table(visit: Visit, report: Path) -> None:
    page = visit.open(report)
    mark = marks(page, "frontier").first  # the smallest file
    mark.hover(force=True)
    page.locator(f"{PARETO} .hovertext").wait_for()
    mark.click(force=True)
    row = page.locator("#trial-table tr[aria-selected=true]")
    assert row.locator("th").inner_text() == "p70_w4_a4"
    assert page.locator("#details .name").inner_text() == "p70_w4_a4"
    assert "tune-app reproduce" in page.locator("#details").inner_text()


def test_the_curves_are_those_of_the_chosen_trial(visit: Visit, report: Path) -> None:
    page = visit.open(report)
    curves = page.locator('[data-figure="curves-chosen"]')
    curves.scroll_into_view_if_needed()
    heading = page.locator("#figure-curves-chosen h3")
    read = "e => [e.layout.annotations.map(a => a.text), e.data.map(t => [...t.y])]"

    def chosen(label: str) -> Any:
        page.get_by_role("button", name=label, exact=True).first.click()
        heading.filter(has_text=re.compile(f"^The chosen trial: {label}$")).wait_for()
        return curves.evaluate(read)

    curves.locator(".main-svg").first.wait_for()
    kinds, lines = chosen("p70_w4_a4")
    assert kinds == ["train", "qat"]
    assert lines[0][:4] == [40, 70, 90, 96]
    _, others = chosen("p0_w8_a8")
    assert (others[0][:4], others[0][4:] != lines[0][4:]) == (lines[0][:4], True)
    page.get_by_label("Filter state").select_option("invalid")
    page.locator("#trial-table tbody tr button").first.click()
    page.wait_for_function("() => document.querySelector('[data-figure=\"curves-chosen\"]').data[0].y.length === 4")
    assert curves.evaluate(read)[0] == ["train"]  # what it did before it failed


def test_a_filter_leaves_the_view_as_a_reader_zoomed_it(visit: Visit, report: Path) -> None:
    page = visit.open(report)
    box = page.locator(f"{PARETO} .nsewdrag").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 50, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 200, steps=4)
    page.mouse.up()
    page.locator(f"{PARETO} .zoombox-corners").wait_for(state="detached")
    view = "e => [...e._fullLayout.xaxis.range, ...e._fullLayout.yaxis.range]"
    page.wait_for_timeout(500)
    zoomed = page.locator(PARETO).evaluate(view)
    page.get_by_label("Filter w_bits").fill("4")
    page.locator("#count", has_text="of 52 trials").wait_for()
    assert page.locator(PARETO).evaluate(view) == zoomed


@pytest.fixture(scope="module")
def left_open(browser: "Browser", report: Path) -> Iterator["Page"]:
    """One visit for tests that put back what they change."""
    visit = Visit(browser)
    yield visit.open(report)
    assert visit.said == []
    visit.page.close()


@pytest.fixture(scope="module")
def rows(report: Path) -> Sequence[Mapping[str, Any]]:
    """What the table holds."""
    return read_contents(ExperimentFolder.existing(report.parent / "toy")).rows


@pytest.mark.parametrize(
    ("column", "text", "keeps"),
    [
        ("accuracy", "> 90%", lambda row: row["accuracy"] > 0.9),
        ("accuracy", ">= 0.9165", lambda row: row["accuracy"] >= 0.9165),
        ("accuracy", "91.72", lambda row: row["accuracy"] == 0.9172),
        ("accuracy", ">= 94.65%", lambda row: row["accuracy"] >= 0.9465),
        ("size", "< 41KB", lambda row: row["size_bytes"] < 41_000),
        ("size", "40 KiB .. 0.0659MB", lambda row: 40 * 1024 <= row["size_bytes"] <= 65_900),
        ("ratio", "> 20x", lambda row: row["compression_ratio"] > 20),
        ("w_bits", "2, 8", lambda row: row["w_bits"] in {2, 8}),
        ("prune_frac", "0.5..0.7", lambda row: 0.5 <= row["prune_frac"] <= 0.7),
        ("trial", "A8#", lambda row: row["repeat"] and row["a_bits"] == 8),
        ("reason", "diverged: </script>", lambda row: row["state"] == "invalid"),
        ("frontier", "yes", lambda row: row["on_frontier"]),
        ("state", "=invalid", lambda row: row["state"] == "invalid"),
    ],
)
def test_filters_as_people_write_them(
    column: str, text: str, keeps: Callable[[Any], bool], left_open: "Page", rows: Sequence[Mapping[str, Any]]
) -> None:
    known = "accuracy" if column in {"accuracy", "size", "ratio"} else "trial_id"
    expected = sum(bool(row[known] is not None and keeps(row)) for row in rows)
    assert 0 < expected < len(rows)
    field = left_open.get_by_label(f"Filter {column}", exact=True)
    if field.evaluate("e => e.tagName") == "SELECT":
        field.select_option(text)
    else:
        field.fill(text)
    left_open.locator("#count", has_text=f"{expected} of {len(rows)} trials").wait_for()
    assert field.get_attribute("aria-invalid") == "false"
    left_open.get_by_role("button", name="Clear filters").click()
    left_open.locator("#count", has_text=re.compile(f"^{len(rows)} trials$")).wait_for()
    assert field.input_value() == ""


def test_a_filter_that_is_none_says_so_and_hides_nothing(left_open: "Page") -> None:
    field = left_open.get_by_label("Filter accuracy", exact=True)
    field.fill("> many")
    left_open.locator("[data-filter=accuracy][aria-invalid=true]").wait_for()
    assert left_open.locator("#count").inner_text() == "52 trials"
    field.fill("")
    left_open.locator("[data-filter=accuracy][aria-invalid=false]").wait_for()


def test_columns_sort_by_keyboard(left_open: "Page") -> None:
    page = left_open
    head = page.locator("th[data-column=accuracy]")
    head.get_by_role("button").focus()
    for key, direction in (("Enter", "descending"), ("Space", "ascending")):
        page.keyboard.press(key)
        assert head.get_attribute("aria-sort") == direction
        cells = page.locator("#trial-table tbody tr td:nth-child(8)").all_inner_texts()
        found = [float(cell.split()[0]) for cell in cells if cell != "–"]
        assert found == sorted(found, reverse=direction == "descending")
        assert len(found) == len(cells)  # failed trials stay last
    assert page.locator("th[data-column=on_frontier]").get_attribute("aria-sort") == "none"


def test_everything_can_be_reached_by_keyboard(visit: Visit, report: Path) -> None:
    page = visit.open(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the results"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    row = page.locator("#trial-table tbody tr").nth(3).get_by_role("button")
    row.focus()
    page.keyboard.press("Enter")
    assert page.locator("tr[aria-selected=true] th").inner_text() == row.inner_text()
    assert page.evaluate("document.activeElement.closest('tr').getAttribute('aria-selected')") == "true"
    style = "e => getComputedStyle(e).outlineStyle"
    assert row.evaluate(style) == "solid"


def test_the_focus_is_seen_on_dark_too(browser: "Browser", report: Path) -> None:
    visit = Visit(browser, color_scheme="dark")
    page = visit.open(report)
    outline = "[document.activeElement.className, getComputedStyle(document.activeElement).outline]"
    page.get_by_label("Color by").focus()
    page.keyboard.press("Tab")
    name, seen = page.evaluate(outline)
    assert name.startswith("modebar-btn")
    assert seen.startswith("rgb(124, 196, 238) solid")
    page.close()


def drag(page: "Page", *, axis: int, along: tuple[float, float]) -> tuple[float, float]:
    """Drags along an axis of the parallel coordinates, from one share of its height to another; the place of the first.

    Its pixels are those of the window.
    """
    place = page.locator(PARALLEL)
    place.scroll_into_view_if_needed()
    x, begin, end = place.evaluate(
        "(e, [axis, ...along]) => { const {xaxis: x, yaxis: y} = e._fullLayout; const box = e.getBoundingClientRect(); "
        "return [box.x + x._offset + x.d2p(axis), ...along.map((h) => box.y + y._offset + y.d2p(h))] }",
        [axis, *along],
    )
    page.mouse.move(x, begin)
    page.mouse.down()
    page.mouse.move(x, end, steps=4)
    page.mouse.up()
    return x, begin


def test_dragging_along_an_axis_filters_by_it(visit: Visit, report: Path) -> None:
    page = visit.open(report)
    x, top = drag(page, axis=1, along=(0.5, -0.04))
    assert page.get_by_label("Filter w_bits").input_value() in {"2 .. 4.9999", "2 .. 5", "2 .. 5.0001"}
    assert page.locator("#count").inner_text() == "36 of 52 trials"
    page.mouse.dblclick(x, top)
    assert page.locator("#count").inner_text() == "52 trials"


def test_an_axis_that_is_dragged_from_end_to_end_hides_nothing(visit: Visit, tmp_path: Path) -> None:
    """Sizes of more digits than a filter has."""
    records = [make_record(i, point(0.3, 4 + i), 0.9 + i / 100, size) for i, size in enumerate((234_567, 1_234_549))]
    write_report(small(tmp_path, records).folder, tmp_path / "report.html")
    page = visit.open(tmp_path / "report.html")
    drag(page, axis=4, along=(-0.03, 1.03))
    assert page.get_by_label("Filter size", exact=True).input_value() == "234560 .. 1234600"
    assert page.locator("#count").inner_text() == "2 trials"


def test_dragging_over_several_names_filters_by_them(visit: Visit, tmp_path: Path) -> None:
    names = ("bn_taylor", "l1", "l2", "random")
    points = [{**point(0.3, bits), "importance": name} for bits in range(2, 7) for name in names]
    records = [make_record(i, params) for i, params in enumerate(points)]
    space = {"prune_frac": [0.3], "w_bits": [2, 3, 4, 5, 6], "a_bits": [8], "importance": names}
    write_report(small(tmp_path, records, space=space).folder, tmp_path / "report.html")
    page = visit.open(tmp_path / "report.html")
    drag(page, axis=3, along=(0.1, 0.8))
    assert page.locator("#count").inner_text() == "10 of 20 trials"
    assert page.locator("#chips").inner_text() == "importance l1, l2"
    field = page.get_by_label("Filter importance")
    assert field.locator("option:checked").inner_text() == "l1, l2"
    drag(page, axis=3, along=(0.5, 0.8))
    assert page.locator("#chips").inner_text() == "importance l2"
    field.select_option("=l1, =l2")
    assert page.locator("#count").inner_text() == "10 of 20 trials"


def test_pages_of_the_table(left_open: "Page") -> None:
    page = left_open
    assert page.locator("#page").inner_text() == "1 of 3"
    page.get_by_role("button", name="Last page").click()
    assert page.locator("#trial-table tbody tr").count() == 2
    page.get_by_label("Rows").select_option("100")
    assert page.locator("#page").inner_text() == "1 of 1"
    page.get_by_label("Rows").select_option("25")


def test_points_are_colored_by_a_parameter(left_open: "Page") -> None:
    page = left_open
    page.get_by_label("Color by").select_option("w_bits")
    assert page.locator("#color-legend").inner_text().split() == ["2", "4", "8"]
    colors = page.evaluate(f"document.querySelector('{PARETO}').data.find(t => t.name === 'dominated').marker.color")
    assert len(set(colors)) == 3
    page.get_by_label("Color by").select_option("")


def test_the_theme_is_a_choice_of_the_reader(left_open: "Page") -> None:
    page = left_open
    page.get_by_role("button", name="Switch to dark colors").click()
    assert page.evaluate(f"document.querySelector('{PARETO}')._fullLayout.paper_bgcolor") == "#1B2025"
    page.get_by_role("button", name="Switch to light colors").click()
    assert page.evaluate(f"document.querySelector('{PARETO}')._fullLayout.paper_bgcolor") == "#FFFFFF"


def test_plotly_offers_no_upload(left_open: "Page") -> None:
    page = left_open
    titles = page.evaluate("[...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title)")
    assert titles
    assert not [title for title in titles if "hare" in title or "loud" in title]


@pytest.mark.parametrize("case", ["empty", "failures only"])
def test_a_report_without_a_result_loads_too(case: str, visit: Visit, tmp_path: Path) -> None:
    records = [] if case == "empty" else [make_record(0, point(0.3, 2), state="failed", message=EVIL)]
    write_report(make_experiment(tmp_path, records, tables=False), tmp_path / "report.html")
    visit.page.goto((tmp_path / "report.html").as_uri())
    visit.page.locator("#trial-table tbody tr").first.wait_for()
    visit.page.screenshot(path=tmp_path / "report.png", full_page=True)
    assert visit.said == []
    assert visit.page.locator("img").count() == 0
    if records:
        assert EVIL in visit.page.locator("#trial-table").inner_text()
        assert EVIL in visit.page.locator("#failures").inner_text()


def test_a_followed_search_shows_its_next_trial_and_keeps_what_a_reader_set(visit: Visit, tmp_path: Path) -> None:
    folder = small(tmp_path).folder
    with ReportServer(folder) as server:
        page = visit.page
        page.goto(server.url)
        page.get_by_label("Filter w_bits").fill("4")
        page.locator("#count", has_text="2 of 6 trials").wait_for()
        page.locator("#details summary").click()
        assert Ledger(folder.trials).add(make_record(9, point(0.0, 4), 0.94, 130_000))
        page.locator("#count", has_text="3 of 7 trials").wait_for()
        assert page.get_by_label("Filter w_bits").input_value() == "4"
        assert page.locator("#details details").get_attribute("open") is None
        assert all(url.startswith((server.url, "data:")) for url in visit.asked)
    assert visit.said == []


def test_the_chosen_trial_is_shown_whole(left_open: "Page") -> None:
    panel = left_open.locator(".details")
    assert panel.evaluate("e => [e.scrollHeight > e.clientHeight, e.querySelector('details').open]") == [False, True]
    assert panel.locator(".chips span").all_inner_texts() == ["complete", "full", "on the frontier"]
    terms = panel.locator("dt").all_inner_texts()
    assert terms[:6] == ["prune_frac", "w_bits", "a_bits", "accuracy", "size", "ratio"]
    assert {"MACs", "seed", "started (UTC)"} <= set(terms)
    assert len(set(terms)) == len(terms)


def test_a_trial_at_chance_shows_its_numbers_and_why_it_is_no_result(visit: Visit, tmp_path: Path) -> None:
    refused = make_record(
        0, point(0.3, 2), 0.1, 60_000, "invalid", kind="Collapsed", message="at chance", measured=True
    )
    metrics = {"val_accuracy": 0.91, "val_accuracy_pruned": 0.5, "prune_frac_requested": 0.3}
    stage = StageRun(kind="channel_prune", key="a" * 64, seconds=1.0, cached=False, metrics=metrics)
    ended = refused.model_copy(update={"result": refused.result.model_copy(update={"stages": [stage]})})
    contents = small(tmp_path, [ended, make_record(1, point(0.3, 4))], constraints=["accuracy >= 0.5"])
    write_report(contents.folder, tmp_path / "report.html")
    page = visit.open(tmp_path / "report.html")
    page.locator("#trial-table tbody tr", has_text="invalid").get_by_role("button").click()
    panel = page.locator("#details")
    panel.get_by_text("Collapsed: at chance").wait_for()
    assert panel.locator(".chips span").all_inner_texts() == ["invalid"]
    terms = dict(zip(panel.locator("dt").all_inner_texts(), panel.locator("dd").all_inner_texts(), strict=True))
    assert {name: terms[name] for name in ("accuracy", "drop", "pruned accuracy", "fine-tuned accuracy")} == {
        "accuracy": "10.00 %",
        "drop": "86.00 pp",
        "pruned accuracy": "50.00 %",
        "fine-tuned accuracy": "91.00 %",
    }
    assert "sparsified accuracy" not in terms
    assert "tune-app" not in panel.inner_text()
    sizes = page.locator(PARETO).evaluate("e => e.data.flatMap(trace => [...trace.x || []])")
    assert (100 in sizes, 60 in sizes) == (True, True)  # KB
    assert drawn(page, PARETO, "at chance") == [0]


def test_on_a_small_screen_the_chosen_trial_is_short_and_a_link_leads_to_it(browser: "Browser", report: Path) -> None:
    visit = Visit(browser, viewport={"width": 400, "height": 800})
    page = visit.open(report)
    page.locator("#trial-table tbody tr").nth(2).get_by_role("button").click()
    label = page.locator("tr[aria-selected=true] th").inner_text()
    page.get_by_role("link", name=f"Chosen: {label}").click()
    panel = page.locator(".details")
    assert 0 <= panel.evaluate("e => e.getBoundingClientRect().top") < 200
    assert not panel.get_by_text("seed", exact=True).is_visible()
    panel.locator("summary").focus()
    page.keyboard.press("Enter")
    panel.get_by_text("seed", exact=True).wait_for()
    assert visit.said == []
    page.close()


def test_commands_hold_any_folder(visit: Visit, tmp_path: Path) -> None:
    folder = small(tmp_path / "it's here; $HOME").folder
    write_report(folder, tmp_path / "report.html")
    page = visit.open(tmp_path / "report.html")
    shown = page.locator("#details code").all_inner_texts() + page.locator(".commands").inner_text().splitlines()
    words = [shlex.split(line) for line in shown]
    assert [line[:2] for line in words] == [
        ["tune-app", name] for name in ("export", "reproduce", "run", "reproduce", "report")
    ]
    assert all(line[2] == str(folder.path) for line in words if line[1] != "run")


@pytest.mark.parametrize("make", [rich_experiment, refused_experiment, wide_experiment])
@pytest.mark.parametrize("width", [1280, 760, 400])
def test_nothing_lies_over_another_or_beyond_the_page(
    width: int, make: Callable[[Path], ExperimentFolder], browser: "Browser", tmp_path: Path
) -> None:
    visit = Visit(browser, viewport={"width": width, "height": 900})
    write_report(make(tmp_path), tmp_path / "report.html")
    page = visit.open(tmp_path / "report.html")
    scroll_through(page)
    page.screenshot(path=tmp_path / f"report-{width}.png", full_page=True)
    assert page.evaluate(COVERED) == []
    assert page.evaluate(WIDER) == []
    # Each row of figures takes the whole width, and no card is much higher than what is in it.
    for row in page.locator(".figures").all():
        edges = row.evaluate(
            "e => [...e.children].map(c => [c, e]).map(p => p.map(q => q.getBoundingClientRect()))"
            ".map(([c, e]) => [c.top, c.right, e.right])"
        )
        ends = {top: right for top, right, _ in edges}
        assert list(ends.values()) == pytest.approx([edges[0][2]] * len(ends), abs=2)
    unused = "e => e.closest('.figure').getBoundingClientRect().bottom - e.getBoundingClientRect().bottom"
    assert page.locator(PARETO).evaluate(unused) < 40
    assert visit.said == []
    page.close()


def test_a_figure_of_many_curves_is_as_wide_as_the_page(visit: Visit, report: Path) -> None:
    page = visit.open(report)
    width = "e => e.getBoundingClientRect().width"
    across = page.locator("#training .figures").evaluate(width)
    assert page.locator("#figure-curves-qat").evaluate(width) == pytest.approx(across, abs=2)
    assert page.locator("#figure-curves-train").evaluate(width) < 0.6 * across


def test_on_a_narrow_screen_the_axes_of_the_parallel_coordinates_lie_below_one_another(
    browser: "Browser", report: Path
) -> None:
    visit = Visit(browser, viewport={"width": 400, "height": 900})
    page = visit.open(report)
    place = page.locator(PARALLEL)
    place.scroll_into_view_if_needed()
    place.locator(".main-svg").first.wait_for()
    names = ["prune_frac", "w_bits", "a_bits", "accuracy", "size", "ratio"]
    for name in names:
        box = place.locator(".annotation-text", has_text=re.compile(rf"^{name}\b")).bounding_box()
        assert box is not None
        assert 0 < box["x"] < box["x"] + box["width"] < 400
    left, right, y = place.evaluate(
        "e => { const {xaxis: x, yaxis: y} = e._fullLayout; const box = e.getBoundingClientRect(); "
        "return [box.x + x._offset + x.d2p(-0.04), box.x + x._offset + x.d2p(0.5), box.y + y._offset + y.d2p(1)] }"
    )
    page.mouse.move(right, y)
    page.mouse.down()
    page.mouse.move(left, y, steps=4)
    page.mouse.up()
    assert re.match(r"2 \.\. (4\.9|5)", page.get_by_label("Filter w_bits").input_value())
    assert page.locator("#count").inner_text() == "36 of 52 trials"
    page.set_viewport_size({"width": 1280, "height": 900})  # turned, and wide again
    page.wait_for_function("() => document.querySelector('[data-figure=parallel]').layout.xaxis.side === 'top'")
    assert visit.said == []
    page.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_names_that_fill_lines_break_no_layout(width: int, browser: "Browser", tmp_path: Path) -> None:
    visit = Visit(browser, viewport={"width": width, "height": 900})
    write_report(wide_experiment(tmp_path), tmp_path / "report.html")
    page = visit.open(tmp_path / "report.html")
    scroll_through(page)
    page.screenshot(path=tmp_path / f"wide-{width}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(COVERED) == []
    name = page.locator("#details .name").inner_text()
    assert re.fullmatch("[0-9a-f]{10}", name)
    assert re.search(f" {name}[0-9a-f]{{6}}-full-a1$", page.locator("#details code").first.inner_text())
    page.close()


@pytest.mark.parametrize("seconds", [5, 6, 9, 12, 20, 24, 300, 9_000])
def test_the_marks_of_a_short_search_keep_apart_on_a_narrow_screen(
    seconds: int, browser: "Browser", tmp_path: Path
) -> None:
    visit = Visit(browser, viewport={"width": 400, "height": 900})
    records = [at(record, (seconds - 2) * i / 5, host=12 * "h") for i, record in enumerate(make_records())]
    small(tmp_path, records)
    write_report(ExperimentFolder(tmp_path / "toy"), tmp_path / "report.html")
    page = visit.open(tmp_path / "report.html")
    page.locator("[data-figure=timeline]").scroll_into_view_if_needed()
    page.locator("[data-figure=timeline] .xtick").first.wait_for()
    assert page.evaluate(COVERED) == []
    page.close()


def test_a_plot_that_draws_a_choice_of_lines_says_so(
    visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinates, "MOST", 10)
    write_report(rich_experiment(tmp_path), tmp_path / "report.html")
    page = visit.open(tmp_path / "report.html")
    note = page.locator("[data-note=parallel]")
    page.locator(f"{PARALLEL} .main-svg").first.wait_for()
    shown = len(set(drawn(page, PARALLEL)))
    # Of 24 points, 4 of them invalid, every third one and the 8 of the frontier.
    assert 10 < shown < 24
    assert note.inner_text().startswith(f"{shown} of 24 lines are drawn: the frontier and an even choice")
    assert drawn(page, PARALLEL, "dominated")
    page.get_by_label("Filter w_bits").fill("4")
    note.wait_for(state="hidden")
    assert len(set(drawn(page, PARALLEL))) == 8


def test_paper_has_every_figure_in_light_colors_and_its_own_width(browser: "Browser", report: Path) -> None:
    visit = Visit(browser, color_scheme="dark")
    page = visit.open(report)
    page.evaluate(
        """() => window.addEventListener("beforeprint", () => { window.printed =
        [...document.querySelectorAll("[data-figure]")].map((e) => [e._fullLayout.paper_bgcolor, e._fullLayout.width]);
        })"""
    )
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    printed = page.evaluate("window.printed")
    assert len(printed) == page.locator("[data-figure]").count()
    assert {color for color, _ in printed} == {"#FFFFFF"}
    assert max(width for _, width in printed) < 690
    assert page.locator(PARETO).evaluate("e => e._fullLayout.paper_bgcolor") == "#1B2025"
    assert visit.said == []
    page.close()


def test_what_cannot_be_used_is_not_printed(visit: Visit, report: Path) -> None:
    page = visit.open(report)
    page.emulate_media(media="print")
    for name in ("#theme", ".pager", "nav.sections", "[data-filter]", "#color"):
        assert not page.locator(name).first.is_visible()
