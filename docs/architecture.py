"""Renews docs/architecture.md: the drawing of the rooms from the imports, and the line numbers of its walks.

`python docs/architecture.py` renews the page; `make docs` does so too, and a test fails when it is behind.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.test_layers import ROOMS, arrows, floors  # noqa: E402  (the list of rooms stands in the test of their order)

PAGE = Path(__file__).parent / "architecture.md"
DRAWING = re.compile(r"(<!-- rooms of (\w+) -->\n)(?:```mermaid\n.*?```\n)?", re.DOTALL)
STEP = re.compile(r"\[([\w/]+\.\w+):\d*\]\(\.\./\1(?:#L\d+)?\) `([^`]+)`")
WALK = re.compile(r"^(### [^\n]+?)(?: \(\d+ files\))?\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)


def drawing(package: str) -> str:
    """Returns a package's rooms and who imports whom as a Mermaid flowchart, less arrows that follow from others."""
    below: dict[str, set[str]] = {room: set() for room in floors(package)}
    for _, room, other in arrows(package):
        below[room].add(other)
    lines = [f"    {_node(a)} --> {_node(b)}" for a in below for b in sorted(below[a]) if not _follows(a, b, below)]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```", ""])


def renewed(page: str) -> str:
    """Returns the page with today's drawings, line numbers and counts of files.

    Raises:
        ValueError: a quoted piece of code stands not exactly once in its file.
    """
    page = DRAWING.sub(lambda found: found[1] + drawing(found[2]), page)
    page = STEP.sub(lambda found: _step(found[1], found[2]), page)
    return WALK.sub(_counted, page)


def _node(room: str) -> str:
    return room


def _follows(room: str, other: str, below: Mapping[str, set[str]]) -> bool:
    """Whether `room` imports a room that, by way of others, imports `other`."""
    seen: set[str] = set()
    between = below[room] - {other}
    while between:
        seen |= between
        between = {lower for middle in between for lower in below[middle]} - seen
    return other in seen


def _step(file: str, code: str) -> str:
    lines = (ROOT / file).read_text().splitlines()
    found = [number for number, line in enumerate(lines, 1) if code in line]
    if len(found) != 1:
        raise ValueError(f"{code!r} must stand once in {file}, but stands in lines {found}: quote another piece.")
    return f"[{file}:{found[0]}](../{file}#L{found[0]}) `{code}`"


def _counted(found: re.Match[str]) -> str:
    files = {step[1] for step in STEP.finditer(found[2])}
    return f"{found[1]}{f' ({len(files)} files)' if files else ''}\n{found[2]}"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
    print(f"renewed {PAGE.name}: rooms of {', '.join(ROOMS)}")
