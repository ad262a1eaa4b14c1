"""Counted metrics before training equal those that a finished trial measures."""

from pathlib import Path

import pytest

from trainables.config import (
    Architecture,
    AutoBits,
    BaselineTrain,
    ChannelPrune,
    DataConfig,
    ModelConfig,
    PostTrainingQuant,
    QuantScheme,
    Schedule,
    TrialConfig,
)
from trainables.costs.planned import planned_metrics
from trainables.data.data_sets import load_data
from trainables.errors import InfeasiblePoint
from trainables.pipeline import run_pipeline
from trainables.results import COUNTED
from trainables.stages.workplace import open_workplace

NONE = Schedule(epochs=0, lr=0.1)
DATA = DataConfig(name="digits", image_size=8)
MODELS = {"mobilenet_v2": 0.25, "vgg16": 0.1}


def make_config(model: str, **prune: object) -> TrialConfig:
    return TrialConfig(
        data=DATA,
        baseline=BaselineTrain(model=ModelConfig(name=model, width=MODELS[model]), schedule=NONE),
        prune=ChannelPrune.model_validate({"fine_tune": NONE, **prune}),
        quantize=PostTrainingQuant(scheme=QuantScheme(w_bits=3, a_bits=6), calibration_images=16, bn_images=0),
    )


def architecture(model: str) -> Architecture:
    return Architecture(model=ModelConfig(name=model, width=MODELS[model]), classes=10, channels=1, image_size=8)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "prune",
    [
        {"prune_frac": 0.0},
        {"prune_frac": 0.37},
        {"prune_frac": 0.5, "head": True, "round_to": 8},
        {"prune_frac": 0.6, "steps": 2},
    ],
    ids=["whole", "uniform", "head", "steps"],
)
def test_they_are_what_the_trial_measures(
    model: str, prune: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainables.measure.chance_limit", lambda _: 0.0)  # an untrained network is at chance
    config = make_config(model, **prune)
    workplace = open_workplace(load_data(DATA), tmp_path / "stages", cpu=1, gpu=0)
    measured = run_pipeline(config, workplace, tmp_path / "model.mbq").measurement
    assert planned_metrics(config, architecture(model)) == {name: getattr(measured, name) for name in COUNTED}


def test_what_depends_on_weights_is_left_out() -> None:
    plan = architecture("mobilenet_v2")
    assert planned_metrics(make_config("mobilenet_v2", prune_frac=0.3, scope="global"), plan) == {}
    auto = make_config("mobilenet_v2")
    auto = auto.model_copy(update={"quantize": PostTrainingQuant(auto_bits=AutoBits(budget_bytes=20_000))})
    assert set(planned_metrics(auto, plan)) == set(COUNTED) - {"bops"}


def test_an_illegal_network_is_said_to_be_one() -> None:
    config = make_config("mobilenet_v2")
    scheme = QuantScheme(w_bits_by_layer={"nowhere": 4})
    config = config.model_copy(update={"quantize": PostTrainingQuant(scheme=scheme)})
    with pytest.raises(InfeasiblePoint, match="nowhere"):
        planned_metrics(config, architecture("mobilenet_v2"))


def test_signs_that_are_to_be_zero_are_refused_before_anything_trains() -> None:
    config = make_config("mobilenet_v2").model_dump()
    sparse = {**config, "sparsify": {"sparsity": 0.5, "schedule": {"epochs": 1, "lr": 0.1}}}
    signs = {**config["quantize"], "scheme": {"w_bits": 1}}
    planned_metrics(TrialConfig.model_validate({**config, "quantize": signs}), architecture("mobilenet_v2"))
    planned_metrics(TrialConfig.model_validate(sparse), architecture("mobilenet_v2"))
    with pytest.raises(InfeasiblePoint, match="weights of 1 bit, which holds no zero: choose 2 bits"):
        planned_metrics(TrialConfig.model_validate({**sparse, "quantize": signs}), architecture("mobilenet_v2"))
