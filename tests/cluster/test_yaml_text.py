import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from cluster.yaml_text import yaml_text
from tests.cluster.factories import read_yaml

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"]), max_size=20)
VALUES = st.recursive(
    st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_reading_the_text_gives_the_value_back(value: dict[str, object]) -> None:
    assert read_yaml(yaml_text(value)) == value


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_a_reader_of_the_older_yaml_gives_the_value_back_too(value: dict[str, object]) -> None:
    assert yaml.safe_load(yaml_text(value)) == value


@given(st.lists(TEXT, min_size=2, max_size=5).map("\n".join), st.integers(0, 2))
def test_text_of_any_lines_survives(text: str, depth: int) -> None:
    value: object = text
    for _ in range(depth):
        value = {"inner": value}
    for read in (read_yaml, yaml.safe_load):
        assert read(yaml_text({"data": value})) == {"data": value}


@pytest.mark.parametrize(
    "word",
    ["yes", "No", "on", "OFF", "y", "1e3", "0o7", "017", "1_000", "12:30", "2026-11-22", "2.60", "~", "=", ".inf"],
)
def test_words_that_are_text_here_and_something_else_there_are_quoted(word: str) -> None:
    for read in (read_yaml, yaml.safe_load):
        assert read(yaml_text({word: [word]})) == {word: [word]}


@pytest.mark.parametrize("mark", ["\x00", "\x1b", "\r", "\x7f", "\x85", "\u2028", "\u2029", "\ufeff"])
def test_text_that_would_be_folded_or_refused_is_escaped(mark: str) -> None:
    for text in (f"{mark}a{mark}b{mark}", f"a\n{mark}b\n", f"{mark}a\nb{mark}"):
        for read in (read_yaml, yaml.safe_load):
            assert read(yaml_text({"k": [text]})) == {"k": [text]}


def test_text_of_several_lines_is_a_literal_block() -> None:
    value = {"data": {"spec.yaml": "name: demo\nspace:\n  w_bits: [2, 4]\n"}}
    text = yaml_text(value)
    assert "spec.yaml: |\n" in text
    assert "    name: demo\n" in text
    assert read_yaml(text) == value


def test_long_lines_are_not_folded() -> None:
    command = "echo " + "word " * 100
    assert read_yaml(yaml_text({"command": command})) == {"command": command}
    assert len(yaml_text({"command": command}).splitlines()) == 1


def test_keys_keep_their_order() -> None:
    assert list(read_yaml(yaml_text({"b": 1, "a": 2, "c": 3}))) == ["b", "a", "c"]


def test_documents_are_parted() -> None:
    assert list(YAML(typ="safe").load_all(yaml_text({"a": 1}, {"b": 2}))) == [{"a": 1}, {"b": 2}]
