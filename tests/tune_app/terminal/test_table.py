"""Tables for people: whole cells, whatever the width of the terminal."""

import pytest

from tune_app.terminal.table import print_table

LONG = "a sentence of many words, " * 20 + "with [brackets] and ○ at its end"


@pytest.mark.parametrize("columns", ["20", "80"])
def test_no_cell_is_cut(columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_table(("rule", "n", "found"), [("storage", "1", LONG), ("disk", "20", "enough")], left=("rule", "found"))
    head, line, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["rule", "n", "found"]
    assert set(line.strip()) == {"─"}
    assert first.rstrip() == f"storage  1 {LONG}"
    assert second.rstrip() == "disk    20 enough"


def test_named_columns_are_folded_into_the_terminal_and_no_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    rows = [("storage of all", "1", LONG), ("disk", "20", "enough")]
    print_table(("rule", "n", "found"), rows, left=("rule", "found"), folded=("found",))
    _, _, first, *more, last = capsys.readouterr().out.splitlines()
    assert first.startswith("storage of all  1 a sentence")
    assert max(map(len, (first, *more, last))) <= 80
    assert all(line.startswith(" " * 18) for line in more)
    assert " ".join(" ".join((first, *more)).split()) == f"storage of all 1 {LONG}"
    assert last.split() == ["disk", "20", "enough"]


def test_a_table_without_rows_has_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("job", "state"), [], left=("job", "state"))
    assert capsys.readouterr().out.splitlines()[0].split() == ["job", "state"]
