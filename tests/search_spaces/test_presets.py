from pathlib import Path

import pytest

from search_spaces.presets import PRESETS
from search_spaces.space import SearchSpace
from tune_app.spec.yaml_file import load_spec

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("seed_")])
def test_the_earlier_systems_grids_are_those_of_their_recipes(name: str) -> None:
    assert SearchSpace.model_validate(name) == load_spec(RECIPES / f"{name}.yaml").space


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_a_base_that_has_what_it_needs(name: str) -> None:
    space, spec = SearchSpace.model_validate(name), load_spec(RECIPES / "cifar10_frontier.yaml")
    space.check(spec.base)
    without = {"prune": None, "sparsify": None}
    for part in PRESETS[name].needs:
        without.pop(part, None)
    space.check(spec.base.model_copy(update=without))
    assert all(space.contains(space.point(i)) for i in (0, space.size // 2, space.size - 1))
