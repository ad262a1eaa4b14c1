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
        self.page.set_default_timeout(120_000)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, place: Path) -> "Page":
        """Goes there and waits for the first figure."""
        self.page.goto(place.as_uri())
        self.page.locator(f"{PARETO} .main-svg").first.wait_for()
        return self.page


TOO_PALE = """() => {
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + [0.2126, 0.7152, 0.0722][i] * c, 0);
  const rgba = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (top, alpha, below) => below.map((c, i) => alpha * top[i] + (1 - alpha) * c);
  const paper = (e) => {
    const color = e ? rgba(getComputedStyle(e).backgroundColor) : [255, 255, 255, 1];
    return color[3] === 1 ? color.slice(0, 3) : over(color, color[3], paper(e.parentElement));
  };
  const opacity = (e) => (e ? Number(getComputedStyle(e).opacity) * opacity(e.parentElement) : 1);
  const found = new Set();
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    const text = walk.currentNode.textContent.trim();
    if (!text || !e.getClientRects().length || e.closest("script, style, button:disabled")) continue;
    const style = getComputedStyle(e);
    const ink = rgba(e instanceof SVGElement ? style.fill : style.color);
    const below = paper(e);
    const [low, high] = [light(over(ink, ink[3] * opacity(e), below)), light(below)].sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5) found.add(text.slice(0, 40));
  }
  return [...found];
}"""
"""Texts with a contrast below 4.5 (WCAG 2.2, AA) on the nearest background."""
COVERED = """() => {
  const found = [];
  for (const plot of document.querySelectorAll("[data-figure]")) {
    const edge = plot.getBoundingClientRect();
    const texts = [...plot.querySelectorAll(".main-svg text")].filter((e) => e.textContent.trim());
    const boxes = texts.map((e) => [e.textContent, e.getBoundingClientRect()]);
    for (const [text, box] of boxes)
      if (box.left < edge.left - 1 || box.right > edge.right + 1 || box.bottom > edge.bottom + 1)
        found.push(`${plot.dataset.figure}: ${text} is cut`);
    const tools = plot.querySelector(".modebar");
    if (tools) boxes.push(["tools", tools.getBoundingClientRect()]);
    boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
      const width = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const height = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (width > 2 && height > 3) found.push(`${plot.dataset.figure}: ${a}, ${b}`);
    }));
  }
  return found;
}"""
"""Texts of a figure, and its tools, that lie over one another, or beyond its edge."""
WIDER = """() => [...document.querySelectorAll("body *")]
  .filter((e) => !e.closest(".scroll, pre, .skip, .hidden, svg") && e.getClientRects().length)
  .filter((e) => e.getBoundingClientRect().right > window.innerWidth + 1 || e.getBoundingClientRect().left < -1)
  .map((e) => `${e.tagName} ${e.className} ${e.textContent.slice(0, 30)}`)"""
"""Parts of the page that reach beyond it, but for what scrolls by itself: the tables and the spec."""


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
