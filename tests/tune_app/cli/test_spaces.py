import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from search_spaces.presets import PRESETS
from search_spaces.space import SearchSpace
from tests.tune_app.factories import make_spec
from trainables.errors import ConfigError
from tune_app.cli.spaces import as_yaml, describe, print_spaces


def test_all_presets_are_listed_with_their_size() -> None:
    rows = {row["name"]: row for row in describe()}
    assert set(rows) == set(PRESETS)
    assert rows["uniform"]["points"] == 8 * 6 * 3
    assert rows["seed_000"]["points"] == 16
    assert rows["sparse"]["parameters"] == ["prune_frac", "importance", "sparsity", "w_bits", "a_bits"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_in_yaml_is_that_preset(name: str) -> None:
    from ruamel.yaml import YAML

    read = YAML(typ="safe").load(as_yaml(name))
    assert SearchSpace.model_validate(read["space"]) == SearchSpace.model_validate(name)


def test_json_is_one_row_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    print_spaces("", json=True)
    assert len(json.loads(capsys.readouterr().out)) == len(PRESETS)
    print_spaces("mixed", json=True)
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["mixed"]


@pytest.mark.parametrize("json", [False, True])
def test_an_unknown_name_gets_the_nearest(json: bool) -> None:
    with pytest.raises(ConfigError, match="did you mean 'sparse'"):
        print_spaces("sparze", json=json)


def test_a_spec_names_a_preset(tmp_path: Path) -> None:
    assert make_spec(tmp_path, space="uniform").space == SearchSpace.model_validate("uniform")
    with pytest.raises(ValidationError, match="unknown space 'plain'; known: uniform, mixed"):
        make_spec(tmp_path, space="plain")
