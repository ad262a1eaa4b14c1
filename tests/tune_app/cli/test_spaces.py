import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from search_spaces.presets import PRESETS
from search_spaces.space import SearchSpace
from tests.conftest import Result
from tests.tune_app.factories import make_spec
from tune_app.cli.tools import space_rows, space_yaml

Cli = Callable[..., Result]


def test_all_presets_are_listed_with_their_size() -> None:
    rows = {row["name"]: row for row in space_rows()}
    assert set(rows) == set(PRESETS)
    assert rows["uniform"]["points"] == 8 * 6 * 3
    assert rows["seed_000"]["points"] == 16
    assert rows["sparse"]["parameters"] == ["prune_frac", "importance", "sparsity", "w_bits", "a_bits"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_in_yaml_is_that_preset(name: str) -> None:
    from ruamel.yaml import YAML

    read = YAML(typ="safe").load(space_yaml(name))
    assert SearchSpace.model_validate(read["space"]) == SearchSpace.model_validate(name)


def test_json_is_one_row_or_all(cli: Cli) -> None:
    assert len(json.loads(cli("spaces", "--json").out)) == len(PRESETS)
    assert [row["name"] for row in json.loads(cli("spaces", "mixed", "--json").out)] == ["mixed"]


def test_people_get_a_table_or_one_space_as_yaml(cli: Cli) -> None:
    head, _, *rows = cli("spaces").out.splitlines()
    assert head.split() == ["space", "points", "parameters", "what", "for"]
    assert "uniform     144" in "\n".join(rows)
    assert cli("spaces", "mixed").out == space_yaml("mixed")


@pytest.mark.parametrize("json", [False, True])
def test_an_unknown_name_gets_the_nearest(json: bool, cli: Cli) -> None:
    done = cli("spaces", "sparze", *(["--json"] if json else []))
    assert (done.code, done.out, done.err) == (2, "", "error: unknown space 'sparze'; did you mean 'sparse'?\n")


def test_a_spec_names_a_preset(tmp_path: Path) -> None:
    assert make_spec(tmp_path, space="uniform").space == SearchSpace.model_validate("uniform")
    with pytest.raises(ValidationError, match="unknown space 'plain'; known: uniform, mixed"):
        make_spec(tmp_path, space="plain")
