"""A visit to a report in Chromium, for the tests of this folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

PARETO, PARALLEL = "[data-figure=pareto]", "[data-figure=parallel]"


class Visit:
    """A page that was opened, with everything that it said and asked for."""

    def __init__(self, browser: "Browser", **context: Any) -> None:
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page: Page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.page.set_default_timeout(20_000)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, place: Path) -> "Page":
        """Goes there and waits for the first figure."""
        self.page.goto(place.as_uri())
        self.page.locator(f"{PARETO} .main-svg").first.wait_for()
        return self.page


def scroll_through(page: "Page") -> None:
    """Figures are drawn when they come near."""
    for place in page.locator("[data-figure]").all():
        place.scroll_into_view_if_needed()
        place.locator(".main-svg").first.wait_for()
    page.evaluate("window.scrollTo(0, 0)")


def drawn(page: "Page", figure: str, trace: str = "") -> list[int]:
    """The rows that a figure draws, of all traces or of the one with this name."""
    found: list[int] = page.locator(figure).evaluate(
        "(e, name) => e.data.filter(t => !name || t.name === name).flatMap(t => t.customdata || [])", trace
    )
    return found


def marks(page: "Page", trace: str) -> "Locator":
    """The marks of a trace of the Pareto figure, in the order of its rows."""
    place: int = page.locator(PARETO).evaluate(
        "(e, name) => e._fullData.filter(t => t.visible === true).findIndex(t => t.name === name)", trace
    )
    return page.locator(f"{PARETO} .scatterlayer > .trace").nth(place).locator(".points path")


def lines(hover: "Locator") -> list[str]:
    """What stands beside a hovered point."""
    return [text for text in hover.locator("tspan.line").all_text_contents() if text]
