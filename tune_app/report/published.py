"""Published points of five earlier systems, as marks to compare with.

Accuracies are as they were published. Ratios follow from formulas of their own, not from files, so a mark says
where a system saw itself, not where it would lie if it were measured here.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class PublishedPoint:
    """A point that a system reported."""

    system: str
    """The name of the system's recipe."""
    label: str
    accuracy: float
    ratio: float


def published_points(dataset: str) -> tuple[PublishedPoint, ...]:
    """Returns the published points of a data set, by its name in a spec; none for most."""
    return tuple(
        PublishedPoint(system["system"], point["label"], point["accuracy"], point["ratio"])
        for system in _systems()
        if system["dataset"] == dataset
        for point in system["points"]
    )


@cache
def _systems() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((files("tune_app.report") / "published.json").read_text())
    return found
