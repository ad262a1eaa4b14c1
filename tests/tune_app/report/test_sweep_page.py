"""What every report shows in Chromium: that of a made experiment with everything, and that of a real small sweep."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from search_spaces.rungs import FULL
from tests.tune_app.mistakes.factories import make_analysis
from tests.tune_app.report.factories import rich_experiment
from tests.tune_app.report.visits import COVERED, PARALLEL, PARETO, TOO_PALE, Visit, drawn, lines, marks, scroll_through
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger, TrialRecord, latest
from tune_app.mistakes.section import section
from tune_app.report.build import write_report
from tune_app.report.section import Section
from tune_app.tables.columns import show

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RANGES = "e => [e._fullLayout.xaxis.range, e._fullLayout.yaxis.range]"
TABLE = "#trial-table tbody tr"


@dataclass(frozen=True)
class Sweep:
    """A search, its page, and what its ledger says in the order of the page's rows."""

    name: str
    page: Path
    records: list[TrialRecord]

    def points(self) -> set[str]:
        """Configurations with a result of the full schedule."""
        return {
            self.key(row) for row, r in enumerate(self.records) if r.state == "complete" and r.assignment.rung == FULL
        }

    def key(self, row: int) -> str:
        """What trials of one point share."""
        return str(self.records[row].assignment.params)


# The real one first: its search ends before the browser starts.
@pytest.fixture(scope="module", params=[pytest.param("real", marks=pytest.mark.ray), "made"])
def sweep(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    place = tmp_path_factory.mktemp(f"report-{request.param}")
    made = request.param == "made"
    folder: ExperimentFolder = rich_experiment(place) if made else request.getfixturevalue("finished_search")
    title, errors = section(make_analysis())
    write_report(folder, place / "report.html", extra=[Section("errors", title, html=errors)] if made else [])
    return Sweep(request.param, place / "report.html", latest(Ledger(folder.trials).read()[0]))


def test_it_loads_without_a_word_and_asks_for_nothing(sweep: Sweep, visit: Visit) -> None:
    scroll_through(visit.open(sweep.page))
    outside = [url for url in visit.asked if not url.startswith(("data:", "blob:"))]
    assert (visit.said, outside) == ([], [sweep.page.as_uri()])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_both_widths_in_both_color_schemes(
    sweep: Sweep, width: int, scheme: str, browser: "Browser", tmp_path: Path
) -> None:
    visit = Visit(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = visit.open(sweep.page)
    scroll_through(page)
    page.screenshot(path=tmp_path / f"report-{sweep.name}-{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    background = page.evaluate("getComputedStyle(document.body.parentElement).backgroundColor")
    paper = page.locator(PARETO).evaluate("e => e._fullLayout.paper_bgcolor")
    assert (background, paper) == {
        "light": ("rgb(246, 247, 247)", "#FFFFFF"),
        "dark": ("rgb(20, 24, 28)", "#1B2025"),
    }[scheme]
    assert page.evaluate(TOO_PALE) == []
    assert page.evaluate(COVERED) == []
    assert visit.said == []
    page.close()


def test_every_point_of_the_ledger_is_drawn_once(sweep: Sweep, visit: Visit) -> None:
    page = visit.open(sweep.page)
    rows = drawn(page, PARETO)
    assert {sweep.key(row) for row in rows} == sweep.points()
    assert len(rows) == len(sweep.points())
    assert page.locator("#count").inner_text() == f"{len(sweep.records)} trials"
    page.get_by_label("Rows").select_option("100")
    states = page.locator(f"{TABLE} td:nth-child(2)").all_inner_texts()
    assert states.count("complete") == sum(record.state == "complete" for record in sweep.records)


def test_hovering_a_point_shows_its_configuration_and_what_was_measured(sweep: Sweep, visit: Visit) -> None:
    page = visit.open(sweep.page)
    rows = drawn(page, PARETO, "frontier")
    assert rows
    for mark, row in zip(marks(page, "frontier").all(), rows, strict=True):
        assignment, metrics = sweep.records[row].assignment, sweep.records[row].metrics()
        label = assignment.label.removesuffix(f"@{FULL}")
        mark.hover(force=True)
        page.locator(f"{PARETO} .hovertext", has_text=re.compile(f"^{re.escape(label)}prune_frac")).wait_for()
        head, *said = lines(page.locator(f"{PARETO} .hovertext"))
        assert head == label
        assert said[:3] == [f"{name} = {value:g}" for name, value in assignment.params.items()]  # type: ignore[str-bytes-safe]
        names = {"accuracy": "accuracy", "size": "size_bytes", "ratio": "compression_ratio"}
        assert {f"{title}: {show(name, metrics[name])}" for title, name in names.items()} <= set(said)


def test_filtering_the_table_changes_the_plots(sweep: Sweep, visit: Visit) -> None:
    page = visit.open(sweep.page)
    marks_before, frame = _plotted(page), page.locator(PARETO).evaluate(RANGES)
    wanted = [row for row, record in enumerate(sweep.records) if record.assignment.params["w_bits"] == 4]
    points = {sweep.key(row) for row in wanted} & sweep.points()
    assert 0 < len(points) < len(sweep.points())
    page.get_by_label("Filter w_bits").fill("4")
    page.locator("#count", has_text=f"{len(wanted)} of {len(sweep.records)} trials").wait_for()
    assert page.locator(TABLE).count() == min(25, len(wanted))
    for figure in (PARETO, PARALLEL):
        assert {sweep.key(row) for row in drawn(page, figure)} == points
    assert _plotted(page) == marks_before - len(sweep.points()) + len(points)
    assert page.locator(PARETO).evaluate(RANGES) == frame  # points do not jump
    page.get_by_role("button", name="Clear filters").click()
    page.locator("#count", has_text=re.compile(f"^{len(sweep.records)} trials$")).wait_for()
    assert _plotted(page) == marks_before


def _plotted(page: "Page") -> int:
    """Marks in the Pareto figure without the ring of the chosen one, which comes and goes with its point."""
    return page.locator(f"{PARETO} .scatterlayer .points path").count() - page.locator(PARETO).evaluate(
        "e => e.data.filter(t => t.marker && t.marker.symbol === 'circle-open' && t.hoverinfo === 'skip').length"
    )
