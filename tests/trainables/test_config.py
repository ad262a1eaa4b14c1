import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trainables.config import (
    DATASETS,
    IMPORTANCE,
    MODELS,
    OBSERVERS,
    BaselineImport,
    BaselineTrain,
    ChannelPrune,
    DataConfig,
    ModelConfig,
    PostTrainingQuant,
    QuantAwareTrain,
    QuantScheme,
    Schedule,
    TrialConfig,
    data_key,
    digest,
    file_sha256,
    stage_key,
    stage_keys,
)
from trainables.errors import ConfigError
from trainables.registry import Registry

ONE = Schedule(epochs=1, lr=0.1)
TRIAL = TrialConfig(
    baseline=BaselineTrain(schedule=ONE),
    prune=ChannelPrune(prune_frac=0.3, fine_tune=ONE),
    quantize=QuantAwareTrain(kind="qat", schedule=ONE),
)


def keys(**changes: Any) -> list[str]:
    """The keys of a trial with changed fields; `a__b` names field b of a."""
    content = TRIAL.model_dump()
    for path, value in changes.items():
        *parents, field = path.split("__")
        target = content
        for parent in parents:
            target = target[parent]
        target[field] = value
    return stage_keys(TrialConfig.model_validate(content), fingerprint="f")


SCHEDULE = {"epochs": 2, "lr": 0.2, "batch_size": 64, "momentum": 0.5, "weight_decay": 0.0, "warmup_epochs": 1.0}
CHANGES: dict[str, dict[str, Any]] = {
    "from the first stage on": {
        "seed": 1,
        "data__name": "cifar10",
        "data__image_size": 16,
        "data__val_fraction": 0.2,
        "data__split_seed": 1,
        "data__augment__crop_padding": 2,
        "data__augment__flip": True,
        "data__augment__cutout": 3,
        "baseline__model__name": "vgg16",
        "baseline__model__width": 0.5,
        "baseline__model__dropout": 0.1,
        "baseline__schedule__label_smoothing": 0.1,
        **{f"baseline__schedule__{name}": value for name, value in SCHEDULE.items()},
    },
    "from the second stage on": {
        "prune__prune_frac": 0.31,
        **{f"prune__fine_tune__{name}": value for name, value in SCHEDULE.items()},
    },
    "in the last stage": {
        "quantize__scheme__w_bits": 4,
        "quantize__scheme__a_bits": 4,
        "quantize__scheme__edge_bits": 4,
        "quantize__scheme__residual_bits": 4,
        "quantize__scheme__observer": "minmax",
        "quantize__calibration_images": 100,
        "quantize__bn_images": 0,
        **{f"quantize__schedule__{name}": value for name, value in SCHEDULE.items()},
    },
    "in no stage": {"data__root": "/somewhere", "data__download": True},
}
SAME = {"from the first stage on": 0, "from the second stage on": 1, "in the last stage": 2, "in no stage": 3}


@pytest.mark.parametrize(("where", "field"), [(where, field) for where, fields in CHANGES.items() for field in fields])
def test_a_field_changes_the_keys_of_the_stages_that_it_reaches(where: str, field: str) -> None:
    before, after = keys(), keys(**{field: CHANGES[where][field]})
    same = [a == b for a, b in zip(before, after, strict=True)]
    assert same == [i < SAME[where] for i in range(3)]


def fields(value: object, path: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [path]
    return [f for name, part in value.items() for f in fields(part, f"{path}__{name}" if path else name)]


def test_every_field_of_a_trial_is_among_the_changes() -> None:
    known = {field for group in CHANGES.values() for field in group}
    alone = {"baseline__kind", "prune__kind", "quantize__kind", "prune__importance"}  # have one value here
    smoothing = {"prune__fine_tune__label_smoothing", "quantize__schedule__label_smoothing"}
    assert set(fields(TRIAL.model_dump())) == known | alone | smoothing


def test_keys_are_sha256_and_all_different() -> None:
    found = keys()
    assert len(set(found)) == 3
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in found)
    assert keys() == found


def test_the_fingerprint_of_the_data_is_in_every_key() -> None:
    assert not set(stage_keys(TRIAL, fingerprint="f")) & set(stage_keys(TRIAL, fingerprint="g"))
    assert data_key(TRIAL.data, "f") != data_key(TRIAL.data, "g")


@pytest.mark.parametrize("kind", [BaselineTrain, BaselineImport, ChannelPrune, PostTrainingQuant, QuantAwareTrain])
def test_the_version_of_a_stage_is_in_its_key(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = kind.model_validate(
        {"kind": kind.model_fields["kind"].annotation.__args__[0]}
        | {n: ONE for n in ("schedule", "fine_tune") if n in kind.model_fields}
    )
    before = stage_key("parent", config, seed=0)
    monkeypatch.setattr(kind, "VERSION", kind.VERSION + 1)
    assert stage_key("parent", config, seed=0) != before


def test_quantization_with_and_without_training_are_different_stages() -> None:
    assert keys()[:2] == keys(quantize={"kind": "ptq"})[:2]
    assert keys()[2] != keys(quantize={"kind": "ptq"})[2]


def test_numbers_of_equal_value_give_equal_keys() -> None:
    assert keys(baseline__schedule__lr=1, baseline__model__width=1) == keys(
        baseline__schedule__lr=1.0, baseline__model__width=1.0
    )


def test_a_default_that_is_written_out_gives_the_same_key() -> None:
    assert keys(quantize__scheme={"w_bits": 8}) == keys() == keys(quantize__scheme={})


def test_an_imported_baseline_is_named_by_its_content(tmp_path: Path) -> None:
    def first(**changes: str) -> str:
        return keys(baseline={"kind": "import", "checkpoint": "a", "sha256": "0", **changes})[0]

    assert first() == first(checkpoint="b")
    assert first() != first(sha256="1")
    assert first() != keys()[0]


def test_identity_leaves_places_out() -> None:
    def identity(**changes: Any) -> dict[str, Any]:
        baseline = {"kind": "import", "checkpoint": "a", "sha256": "0", **changes.pop("baseline", {})}
        return TrialConfig.model_validate({**TRIAL.model_dump(), "baseline": baseline, **changes}).identity()

    assert identity() == identity(data={"root": "x", "download": True}, baseline={"checkpoint": "b"})
    assert identity() != identity(baseline={"sha256": "1"})
    assert identity() != identity(seed=1)
    json.dumps(identity())


def test_stages_leave_out_what_changes_nothing() -> None:
    assert [s.kind for s in TRIAL.stages()] == ["train", "channel_prune", "qat"]
    unpruned = TRIAL.model_copy(update={"prune": ChannelPrune(prune_frac=0, fine_tune=ONE)})
    assert [s.kind for s in unpruned.stages()] == ["train", "qat"]
    assert len(stage_keys(unpruned, fingerprint="f")) == 2


def test_digest_is_of_the_value() -> None:
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    with pytest.raises(ValueError, match="Out of range float"):
        digest(float("nan"))


def test_file_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("bits", [0, 1, 1.5, 9, 64, -4, 4.0, "4", True, None, float("nan")])
@pytest.mark.parametrize("field", ["w_bits", "a_bits", "edge_bits", "residual_bits"])
def test_bit_widths_are_whole_numbers_from_two_to_eight(field: str, bits: object) -> None:
    with pytest.raises(ValidationError):
        QuantScheme.model_validate({field: bits})


@pytest.mark.parametrize("prune_frac", [1.0, 1, 1.2, -0.1, float("nan"), float("inf"), "much"])
def test_prune_fractions_lie_from_zero_to_below_one(prune_frac: object) -> None:
    with pytest.raises(ValidationError):
        ChannelPrune.model_validate({"prune_frac": prune_frac, "fine_tune": ONE})


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Schedule, {"epochs": -1}),
        (Schedule, {"lr": 0}),
        (Schedule, {"lr": float("nan")}),
        (Schedule, {"batch_size": 1}),
        (Schedule, {"momentum": 1}),
        (Schedule, {"label_smoothing": 1}),
        (Schedule, {"leraning_rate": 1}),
        (ModelConfig, {"width": 0}),
        (ModelConfig, {"width": float("inf")}),
        (ModelConfig, {"dropout": 1}),
        (DataConfig, {"image_size": 7}),
        (DataConfig, {"val_fraction": 0}),
        (DataConfig, {"val_fraction": 0.5}),
        (DataConfig, {"split_seed": -1}),
    ],
)
def test_illegal_values_are_refused(kind: Any, change: dict[str, Any]) -> None:
    legal = {"epochs": 1, "lr": 0.1} if kind is Schedule else {}
    kind.model_validate(legal)
    with pytest.raises(ValidationError):
        kind.model_validate({**legal, **change})


def test_configurations_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TRIAL.seed = 3


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ModelConfig(name="mobilenet"), "unknown model 'mobilenet'.*mobilenet_v2, vgg16.*'mobilenet_v2'"),
        (lambda: DataConfig(name="cifar"), "unknown data set 'cifar'.*cifar10.*Did you mean 'cifar10'"),
        (lambda: QuantScheme(observer="mes"), "unknown observer 'mes'.*Did you mean 'mse'"),
        (lambda: ChannelPrune(importance="l2", fine_tune=ONE), "unknown importance criterion 'l2'; known: l1"),
    ],
)
def test_unknown_names_list_the_known_ones(make: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        make()


@pytest.mark.parametrize("registry", [MODELS, DATASETS, IMPORTANCE, OBSERVERS])
def test_every_registered_name_can_be_loaded(registry: Registry[Any]) -> None:
    assert registry.names() == sorted(registry.names())
    assert all(callable(registry[name]) for name in registry.names())


def test_a_plug_in_is_registered_once() -> None:
    registry: Registry[object] = Registry("thing", {"join": "os.path:join"})
    thing = registry.register("mine")(object())
    assert registry["mine"] is thing
    assert registry.register("mine")(thing) is thing
    assert registry.names() == ["join", "mine"]
    with pytest.raises(ConfigError, match="thing 'mine' is registered already"):
        registry.register("mine")(object())
    with pytest.raises(ConfigError, match="thing 'join' is registered already"):
        registry.register("join")(object())
    with pytest.raises(ConfigError, match=r"unknown thing 'xyz'; known: join, mine\.$"):
        registry["xyz"]
