"""Every recipe is a valid spec, and those for the CPU run: each stage, with an epoch where it says more."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces.samplers import SAMPLERS
from search_spaces.space import to_trial
from trainables.config import Schedule, TrialConfig
from trainables.data.data_sets import DataSet, load_data
from trainables.errors import Collapsed
from trainables.export.packed import unpack
from trainables.pipeline import run_pipeline, run_stages
from trainables.results import Completed
from trainables.stages.workplace import Workplace, open_workplace
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import load_spec

FOLDER = Path(__file__).parent.parent / "examples/recipes"
RECIPES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
SMALL = {n: n.replace("digits_seed", "seed").replace("digits", "cifar10") for n in RECIPES if n.startswith("digits")}
"""The recipes for the CPU, and the recipe that each follows."""
EPOCHS = {"epochs", "step_epochs", "progressive_epochs"}


def read(name: str) -> ExperimentSpec:
    return load_spec(RECIPES[name])


def shortened(content: Any) -> Any:
    """The content with one epoch wherever there are some."""
    if isinstance(content, dict):
        return {k: min(v, 1) if k in EPOCHS else shortened(v) for k, v in content.items()}
    return content


def few(data: DataSet) -> DataSet:
    """A quick part of a data set."""
    return dataclasses.replace(data, train=data.train.take(np.arange(96)), val=data.val.take(np.arange(40)))


def test_all_recipes_are_here() -> None:
    systems = {f"seed_00{i}" for i in range(5)} | {"seed_003_vgg16"}
    assert set(RECIPES) == systems | {"seed_002_report", "cifar10_frontier"} | SMALL.keys()
    assert set(SMALL.values()) == systems | {"cifar10_frontier"}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_named_like_its_file_and_its_budget_fits(name: str) -> None:
    spec = read(name)
    assert spec.name == name
    beside = [p for p in spec.points if not spec.space.contains(p)]
    total = spec.space.size + len(beside)
    assert (
        spec.budget.trials == total
        if SAMPLERS[spec.sampler.name].walks
        else len(spec.points) < spec.budget.trials < total
    )


@pytest.mark.parametrize("name", SMALL)
def test_a_small_recipe_does_what_its_model_does(name: str) -> None:
    small, full = read(name), read(SMALL[name])

    def methods(spec: ExperimentSpec) -> list[object]:
        """Everything but sizes, rates, temperatures and counts."""
        base = spec.base
        stages = [s for s in (base.teacher, base.baseline, base.prune, base.sparsify, base.quantize) if s is not None]
        return [
            [part.kind for part in stages],
            [base.baseline.model.name, bool(base.baseline.model.dropout), len(base.baseline.model.head)],
            [form(stage.training) for stage in stages if stage.training is not None],
            base.quantize.scheme,
            base.prune and base.prune.model_dump(include={"importance", "scope", "head", "round_to"}),
            base.sparsify and base.sparsify.model_dump(include={"criterion", "mode", "exempt", "ramp_shape"}),
            base.data.augment.auto,
            spec.sampler,
        ]

    def form(training: Schedule) -> tuple[object, ...]:
        return (training.optimizer, training.decay, training.nesterov, training.keep, training.distill is not None)

    assert methods(small) == methods(full)
    assert small.space.root.keys() <= full.space.root.keys()


@pytest.fixture(scope="module")
def workplaces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workplace]:
    """One for each small recipe, so that its trials share their stages as in a search."""
    made = {}
    for name in SMALL:
        data = few(load_data(read(name).base.data))
        made[name] = open_workplace(data, tmp_path_factory.mktemp(name), cpu=1, gpu=0)
    return made


def ends(spec: ExperimentSpec) -> list[dict[str, float | int | str]]:
    """The extra points, or else the first of the grid; and the last of the grid."""
    return [*(spec.points or [spec.space.point(0)]), spec.space.point(spec.space.size - 1)]


@pytest.mark.parametrize(("name", "place"), [(n, i) for n in SMALL for i in range(len(ends(read(n))))])
def test_a_small_recipe_runs(name: str, place: int, workplaces: dict[str, Workplace], tmp_path: Path) -> None:
    spec, workplace, artifact = read(name), workplaces[name], tmp_path / "model.mbq"
    base = TrialConfig.model_validate(shortened(spec.base.model_dump()))
    trial = to_trial(ends(spec)[place], base)
    completed = run(trial, workplace, artifact)
    result, costs = run_stages(trial, trial.stages(), workplace)
    assert [cost.kind for cost in costs if cost.kind != "train"] == [s.kind for s in trial.stages()[1:]]
    assert all(cost.cached for cost in costs)
    content = artifact.read_bytes()
    assert unpack(content).header.scheme == result.scheme
    if completed is not None:
        assert completed.measurement.size_bytes == len(content)
        assert completed.measurement.prune_frac_achieved == pytest.approx(
            trial.prune.prune_frac if trial.prune else 0, abs=0.1
        )


def run(trial: TrialConfig, workplace: Workplace, artifact: Path) -> Completed | None:
    """The result; None where one epoch was too little. Every other failure is one of the recipe."""
    try:
        return run_pipeline(trial, workplace, artifact)
    except Collapsed:
        return None
