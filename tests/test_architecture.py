"""docs/architecture.md shows the rooms as the imports are, and its walks lead to the lines that they quote."""

from types import ModuleType

import pytest

from tests.documents import ROOT, script
from tests.test_layers import ROOMS, floors


@pytest.fixture(scope="module")
def architecture() -> ModuleType:
    return script("architecture")


def test_the_page_is_current(architecture: ModuleType) -> None:
    """`python docs/architecture.py` renews it."""
    page = architecture.PAGE.read_text()
    assert page == architecture.renewed(page)


@pytest.mark.parametrize("package", ["tune_app", "trainables"])
def test_a_drawing_has_every_room(architecture: ModuleType, package: str) -> None:
    drawn = architecture.drawing(package).split()
    assert set(floors(package)) <= set(drawn)
    assert package in ROOMS


def test_an_arrow_that_follows_from_others_is_left_out(architecture: ModuleType) -> None:
    below = {"roof": {"floor", "ground"}, "floor": {"ground"}, "ground": set()}
    assert architecture._follows("roof", "ground", below)
    assert not architecture._follows("roof", "floor", below)


def test_a_quote_that_is_not_in_its_file_is_refused(architecture: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"must stand once in tune_app/errors\.py"):
        architecture.renewed("[tune_app/errors.py:3](../tune_app/errors.py#L3) `no such line`")


def test_lines_are_found_again(architecture: ModuleType) -> None:
    page = "### A walk\n\n1. [tune_app/errors.py:](../tune_app/errors.py) `class LeaseHeld`\n"
    line = (ROOT / "tune_app/errors.py").read_text().splitlines().index("class LeaseHeld(TuneAppError):") + 1
    expected = (
        f"### A walk (1 files)\n\n1. [tune_app/errors.py:{line}](../tune_app/errors.py#L{line}) `class LeaseHeld`\n"
    )
    assert architecture.renewed(page) == expected
    assert architecture.renewed(expected) == expected
