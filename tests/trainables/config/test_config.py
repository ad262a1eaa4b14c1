import contextlib
import datetime
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
    QUANTIZERS,
    SPARSITY,
    STAGES,
    Augment,
    BaselineTrain,
    ChannelPrune,
    DataConfig,
    ModelConfig,
    PostTrainingQuant,
    QuantAwareTrain,
    QuantScheme,
    Schedule,
    Sparsify,
    TrialConfig,
    data_key,
    digest,
    file_sha256,
    repeat_seed,
    stage_key,
    stage_keys,
    teacher_key,
    trial_key,
)
from trainables.errors import ConfigError
from trainables.registry import Registry

ONE = Schedule(epochs=1, lr=0.1)
TRIAL = TrialConfig(
    baseline=BaselineTrain(schedule=ONE),
    prune=ChannelPrune(prune_frac=0.3, fine_tune=ONE),
    sparsify=Sparsify(sparsity=0.3, schedule=ONE),
    quantize=QuantAwareTrain(kind="qat", schedule=ONE),
)
LAST = 4


def changed(**changes: Any) -> TrialConfig:
    """The trial with changed fields; `a__b` names field b of a."""
    content = TRIAL.model_dump()
    for path, value in changes.items():
        *parents, field = path.split("__")
        target = content
        for parent in parents:
            target = target[parent]
        target[field] = value
    return TrialConfig.model_validate(content)


def keys(**changes: Any) -> list[str]:
    """The keys of a trial with changed fields."""
    return stage_keys(changed(**changes), fingerprint="f")


FIRST_CHANGED = {
    **dict.fromkeys(["seed", "data", "baseline"], 0),
    **dict.fromkeys(["repeat", "prune"], 1),
    "sparsify": 2,
    "quantize": 3,
    **dict.fromkeys(["pack", "measure", "teacher", "data__root", "data__download"], LAST),
}
"""By the longest prefix of a field's name, the first stage whose key the field changes."""
VALUES: list[Any] = [
    *(
        True,
        8,
        2,
        3,
        12,
        16,
        64,
        0.25,
        0.5,
        0.75,
        60.0,
        1.5,
        "/somewhere",
        "vgg16",
        "cifar10",
        "minmax",
        "ste",
        "l2",
        "adam",
    ),
    *(
        "test",
        "step",
        "best",
        "global",
        "tensor",
        "magnitude",
        "dynamic",
        "iterative",
        "linear",
        "zstd",
        "reflect",
        "trivial",
        "all",
    ),
    *([0.5], [8], ["head"], [2, 8], {"depthwise": 4}, {"stem": 4}, {"weight": 0.5}, {"budget_bytes": 5}),
    {"threshold_start": 0.2},
    {"kind": "import", "checkpoint": "a", "sha256": "b"},
    False,
    0.05,
]
"""Some value here is legal for every field; other ones of the same field need not be."""
ALONE = {"baseline__kind", "prune__kind", "sparsify__kind", "quantize__kind", "quantize__auto_bits"}
"""They choose another stage or add one, or have one value only."""
TOGETHER = {
    "baseline__schedule__distill": {"teacher": {"kind": "train", "schedule": ONE.model_dump()}},
    "baseline__model__head": {"baseline__model__name": "vgg16"},
}
"""Fields that are legal beside others only."""


def fields(value: object, path: str = "") -> list[str]:
    if not isinstance(value, dict) or not value:
        return [path]
    return [f for name, part in value.items() for f in fields(part, f"{path}__{name}" if path else name)]


def another(field: str) -> dict[str, Any]:
    """Changes that give the field a legal value that it does not have now."""
    for value in VALUES:
        changes = {**TOGETHER.get(field, {}), field: value}
        with contextlib.suppress(ValidationError, ConfigError):
            if changed(**changes) != changed(**TOGETHER.get(field, {})):
                return changes
    raise AssertionError(f"no value for {field}: add a legal one to VALUES")


@pytest.mark.parametrize("field", sorted(set(fields(TRIAL.model_dump())) - ALONE))
def test_a_field_changes_the_keys_of_the_stages_that_it_reaches(field: str) -> None:
    prefixes = [p for p in FIRST_CHANGED if field == p or field.startswith(f"{p}__")]
    first = FIRST_CHANGED[max(prefixes, key=len)]
    before, after = keys(**TOGETHER.get(field, {})), keys(**another(field))
    assert [a == b for a, b in zip(before, after, strict=True)] == [i < first for i in range(LAST)]


@pytest.mark.parametrize("field", ["pack__coder", "measure__onnx"])
def test_what_is_done_with_the_last_stage_names_the_trial(field: str) -> None:
    assert trial_key(changed(**another(field)), fingerprint="f") != trial_key(TRIAL, fingerprint="f")
    assert trial_key(changed(), fingerprint="f") == trial_key(TRIAL, fingerprint="f")


def test_the_keys_of_the_first_run_are_those_of_its_seed_alone() -> None:
    """Caches from before there were repeats stay valid."""
    expected = [data_key(TRIAL.data, "f")]
    for stage in TRIAL.stages():
        expected.append(stage_key(expected[-1], stage, seed=TRIAL.seed))
    assert keys() == keys(repeat=0) == expected[1:]


def test_repeats_share_the_baseline_and_the_teacher_and_nothing_else() -> None:
    teacher = {"kind": "train", "schedule": {**ONE.model_dump(), "epochs": 5}}
    changes = {"teacher": teacher, "quantize__schedule__distill": {"weight": 0.5}}
    found = [keys(repeat=repeat, **changes) for repeat in range(4)]
    assert len({run[0] for run in found}) == 1
    assert len({key for run in found for key in run[1:]}) == 4 * (LAST - 1)
    assert len({teacher_key(changed(repeat=repeat, **changes), fingerprint="f") for repeat in range(4)}) == 1
    assert len({trial_key(changed(repeat=repeat), fingerprint="f") for repeat in range(4)}) == 4


def test_seeds_of_repeats_are_legal_and_their_own() -> None:
    assert [repeat_seed(seed, 0) for seed in (0, 7, 2**31 - 1)] == [0, 7, 2**31 - 1]
    found = [repeat_seed(seed, repeat) for seed in range(100) for repeat in range(1, 100)]
    assert len(set(found)) == len(found)
    assert all(0 <= seed < 2**31 for seed in found)
    assert max(found) > 0.99 * 2**31
    assert repeat_seed(0, 1) == 1_845_476_393


def test_a_teacher_is_in_the_keys_of_those_who_learn_from_it() -> None:
    teacher = {"kind": "train", "schedule": ONE.model_dump()}
    learns = {"quantize__schedule__distill": {"weight": 0.5}}
    assert keys(teacher=teacher) == keys()
    assert keys(**learns)[:3] == keys()[:3]
    assert keys(**learns)[3] != keys()[3]
    assert keys(teacher=teacher, **learns)[3] != keys(**learns)[3]
    own = changed(teacher={**teacher, "schedule": {**ONE.model_dump(), "epochs": 5}})
    assert teacher_key(own, fingerprint="f") not in {"", *stage_keys(own, fingerprint="f")}
    assert teacher_key(TRIAL, fingerprint="f") == ""


def test_a_baseline_cannot_learn_from_itself() -> None:
    with pytest.raises(ValidationError, match=r"needs a teacher: set base\.teacher"):
        changed(baseline__schedule__distill={"weight": 0.5})
    with pytest.raises(ValidationError, match="a teacher learns from labels alone"):
        changed(teacher={"kind": "train", "schedule": {**ONE.model_dump(), "distill": {"weight": 0.5}}})


def test_keys_are_sha256_and_all_different() -> None:
    found = keys()
    assert len(set(found)) == LAST
    assert all(len(key) == 64 and int(key, 16) >= 0 for key in found)
    assert keys() == found


def test_the_fingerprint_of_the_data_is_in_every_key() -> None:
    assert not set(stage_keys(TRIAL, fingerprint="f")) & set(stage_keys(TRIAL, fingerprint="g"))
    assert data_key(TRIAL.data, "f") != data_key(TRIAL.data, "g")


POLICIES_BEFORE = {
    "none": "465c190ce30503bae0dae47e1eee11dd5f2a7734853affc265e012e9e8835b55",
    "autoaugment_cifar10": "8c13c63eb9793a9d92dfec1322987f795393751d5944297fdd56b23e822309ff",
    "trivial": "c8c1f4041b64fda723bdfb462580021b83a60aef3bc959cb3dd9be3f358bfe86",
}


def test_the_version_of_policies_is_in_the_keys_of_data_that_one_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digests are from before policies had a version: only those of data with a policy may be others."""
    configs = {auto: DataConfig.model_validate({"augment": {"auto": auto}}) for auto in POLICIES_BEFORE}
    found = {auto: data_key(config, "f") for auto, config in configs.items()}
    assert {auto for auto in found if found[auto] == POLICIES_BEFORE[auto]} == {"none"}
    monkeypatch.setattr(Augment, "AUTO_VERSION", Augment.AUTO_VERSION + 1)
    assert {auto for auto in found if found[auto] == data_key(configs[auto], "f")} == {"none"}
    assert configs["trivial"].identity()["augment"] == configs["trivial"].augment.model_dump(mode="json")


@pytest.mark.parametrize("content", [{"val_fraction": 0.2}, {"validation": {"from": "train", "fraction": 0.2}}])
def test_both_spellings_of_a_share_of_the_training_images_name_what_they_always_did(content: dict[str, Any]) -> None:
    config = DataConfig.model_validate({"image_size": 8, **content})
    assert config == DataConfig.model_validate({"image_size": 8, "validation": {"fraction": 0.2}})
    assert config.model_dump(mode="json")["validation"] == {"from": "train", "fraction": 0.2}
    assert data_key(config, "36749d198887443898eae485ba961210083fa27170147d5ee307a8e50c7a6cc3") == (
        "40c9c52a2e35a9aa6a4cbde07d7e9aaa63fb34c255e0bcc97f2448c116611e23"
    )


def test_validation_images_of_a_data_set_are_taken_as_a_whole() -> None:
    config = DataConfig.model_validate({"validation": {"from": "val"}})
    assert config.identity()["validation"] == {"from": "val", "fraction": None}
    assert DataConfig.model_validate(config.model_dump()) == config
    assert data_key(config, "f") != data_key(DataConfig(), "f")


def test_equal_sides_are_one_number_in_every_name() -> None:
    square, wide = (DataConfig.model_validate({"image_size": size}) for size in ([32, 32], [32, 48]))
    assert square == DataConfig(image_size=32)
    assert square.identity()["image_size"] == 32
    assert wide.identity()["image_size"] == [32, 48]
    assert data_key(wide, "f") != data_key(square, "f")
    assert DataConfig.model_validate(wide.model_dump(mode="json")) == wide


S, LEARNS = {"epochs": 1, "lr": 0.1}, {"epochs": 2, "lr": 0.05, "distill": {}}
BUDGET = {"auto_bits": {"budget_bytes": 5000}}
KEYS: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "ptq": ({}, "445cd7ba400b6bcc", ["d7e4ff46", "32217ce5"]),
    "all": (
        {
            "teacher": {"kind": "train", "model": {"width": 2.0}, "schedule": S},
            "prune": {"prune_frac": 0.5, "fine_tune": S},
            "sparsify": {"sparsity": 0.5, "schedule": S},
            "quantize": {"kind": "qat", "schedule": LEARNS},
            **{"seed": 3, "repeat": 1},
        },
        "b11c6275dfde3acd",
        ["b6c1778b", "612a1afe", "91291f8e", "90d3337b"],
    ),
    "auto bits": (
        {
            "prune": {"prune_frac": 0.25, "importance": "l2", "fine_tune": S},
            "quantize": {"kind": "qat", "schedule": S, **BUDGET},
            "data": {"augment": {"auto": "trivial"}},
        },
        "238a4d3a304cff42",
        ["7ca874bf", "0926d050", "1b687f8f", "666584a7"],
    ),
    "import": (
        {
            "baseline": {"kind": "import", "checkpoint": "/a/net.pt", "sha256": "e" * 64},
            "quantize": {"kind": "ptq", **BUDGET},
            "pack": {"coder": "zstd"},
        },
        "f66e45eaf7e913c5",
        ["3e7b8f43", "222a7365", "04b6ae8d"],
    ),
    "untrained": (
        {"baseline": {"kind": "untrained"}, "measure": {"onnx": True}},
        "bf3d003da429d7f9",
        ["36d54a1e", "358d7175"],
    ),
}
"""Keys as they were before stage kinds answered for themselves, but for those of pruning and of the last stage, which
have another VERSION since: caches and ledgers of that time stay valid up to these."""


@pytest.mark.parametrize("name", KEYS)
def test_keys_are_those_of_ever(name: str) -> None:
    content, trial, stages = KEYS[name]
    config = TrialConfig.model_validate(
        {"baseline": {"kind": "train", "schedule": S}, "quantize": {"kind": "ptq"}, **content}
    )
    assert trial_key(config, fingerprint="f" * 64).startswith(trial)
    assert [key[:8] for key in stage_keys(config, fingerprint="f" * 64)] == stages


KINDS = [STAGES[name] for name in STAGES.names()]


def test_a_kind_is_registered_by_its_name() -> None:
    assert [stage.model_fields["kind"].annotation.__args__[0] for stage in KINDS] == STAGES.names()
    assert len(KINDS) == 8


NEEDED = {"schedule": ONE, "fine_tune": ONE, "candidates": (2, 8), "images": 9, "granularity": "tensor"}
NEEDED |= {"observer": "mse", "percentile": 99.0, "side_bits": 16}


@pytest.mark.parametrize("kind", KINDS)
def test_the_version_of_a_stage_is_in_its_key(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    required = {
        name: NEEDED[name] for name, field in kind.model_fields.items() if name in NEEDED and field.is_required()
    }
    config = kind.model_validate({"kind": kind.model_fields["kind"].annotation.__args__[0], **required})
    before = stage_key("parent", config, seed=0)
    monkeypatch.setattr(kind, "VERSION", kind.VERSION + 1)
    assert stage_key("parent", config, seed=0) != before


def test_the_version_of_averages_is_in_the_keys_of_stages_that_average(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [BaselineTrain(schedule=Schedule(epochs=1, lr=0.1, ema_decay=decay)) for decay in (0.0, 0.9)]
    before = [stage_key("parent", stage, seed=0) for stage in stages]
    monkeypatch.setattr(Schedule, "AVERAGE_VERSION", Schedule.AVERAGE_VERSION + 1)
    after = [stage_key("parent", stage, seed=0) for stage in stages]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]


def test_the_version_of_gptq_without_corrected_biases_is_in_its_keys_alone() -> None:
    free = [PostTrainingQuant(), PostTrainingQuant(rounding="nearest", bias_correction=False)]
    assert [config.revisions() for config in free] == [{}, {}]
    assert PostTrainingQuant(bias_correction=False).revisions() == {"gptq_means": 2}


def test_the_version_of_the_percentile_is_in_the_keys_of_stages_that_use_it() -> None:
    plain, weights = QuantScheme(), QuantScheme(observer="percentile")
    activations = QuantScheme(activation_observer="percentile")
    found = [PostTrainingQuant(scheme=scheme).revisions() for scheme in (plain, weights, activations)]
    found += [QuantAwareTrain(kind="qat", schedule=ONE, scheme=scheme).revisions() for scheme in (plain, weights)]
    used = {"percentile": 2}
    assert found == [{}, used, used, {}, used]
    measured = PostTrainingQuant.model_validate({**BUDGET, "scheme": weights}).before()
    assert [stage.revisions() for stage in measured] == [used]


def test_quantization_with_and_without_training_are_different_stages() -> None:
    assert keys()[:3] == keys(quantize={"kind": "ptq"})[:3]
    assert keys()[3] != keys(quantize={"kind": "ptq"})[3]


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
    assert [s.kind for s in TRIAL.stages()] == ["train", "channel_prune", "sparsify", "qat"]
    for nothing in ({"prune__prune_frac": 0.0, "sparsify__sparsity": 0.0}, {"prune": None, "sparsify": None}):
        assert [s.kind for s in changed(**nothing).stages()] == ["train", "qat"]
        assert len(keys(**nothing)) == 2
    automatic = changed(quantize__auto_bits={"budget_bytes": 5}, prune=None, sparsify=None)
    assert [s.kind for s in automatic.stages()] == ["train", "sensitivity", "qat"]


def test_digest_is_of_the_value() -> None:
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    with pytest.raises(ValueError, match="Out of range float"):
        digest(float("nan"))


def test_file_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert file_sha256(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


FIELDS_OF_BITS = ["w_bits", "a_bits", "edge_bits", "residual_bits"]


@pytest.mark.parametrize("bits", [0, 1.5, 9, 10, 24, 64, -4, 4.0, "4", True, None, float("nan")])
@pytest.mark.parametrize("field", FIELDS_OF_BITS)
def test_other_bit_widths_are_refused(field: str, bits: object) -> None:
    with pytest.raises(ValidationError):
        QuantScheme.model_validate({field: bits})


@pytest.mark.parametrize("field", FIELDS_OF_BITS)
def test_bit_widths_are_those_of_integers_and_floats(field: str) -> None:
    legal = [1, 2, 3, 4, 5, 6, 7, 8, 16, 32] + ([12] if field in {"w_bits", "edge_bits"} else [])
    for bits in legal:
        assert getattr(QuantScheme.model_validate({field: bits}), field) == bits
    if 12 not in legal:
        with pytest.raises(ValidationError, match=r"must be one of 1, 2, 3, 4, 5, 6, 7, 8, 16, 32 \(32 = untouched\)"):
            QuantScheme.model_validate({field: 12})


def test_the_nearest_name_decides_the_bits_of_a_layer() -> None:
    scheme = QuantScheme(w_bits=4, w_bits_by_group={"inverted_residual": 3}, w_bits_by_layer={"blocks.2.expand": 5})
    assert scheme.weight_bits("head", "head") == 4
    assert scheme.weight_bits("stem", "first_conv") == 8
    assert scheme.weight_bits("blocks.1.expand", "expansion") == 3
    assert scheme.weight_bits("blocks.2.expand", "expansion") == 5
    finer = scheme.model_copy(update={"w_bits_by_group": {"inverted_residual": 3, "depthwise": 8, "final_conv": 2}})
    assert finer.weight_bits("blocks.1.depthwise", "depthwise") == 8
    assert finer.weight_bits("blocks.1.project", "projection") == 3
    assert finer.weight_bits("head", "head") == 2


def test_the_bits_of_activations_by_group() -> None:
    scheme = QuantScheme(a_bits=4, a_bits_by_group={"depthwise": 6})
    assert [scheme.activation_bits(g) for g in ("expansion", "depthwise", "residual", "classifier")] == [4, 6, 8, 8]
    chosen = QuantScheme(a_bits=4, a_bits_by_group={"projection": 5, "classifier": 16})
    assert [chosen.activation_bits(g) for g in ("residual", "classifier")] == [5, 16]


def test_unknown_layer_groups_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"unknown layer group 'stem'; known: first_conv, .*inverted_residual"):
        QuantScheme(w_bits_by_group={"stem": 4})


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
        (Schedule, {"optimizer": "adam", "momentum": 0.5}),
        (Schedule, {"ema_decay": 0.9, "keep": "best"}),
        (Schedule, {"min_lr": 0.01, "decay": "step"}),
        (Schedule, {"min_lr": 0.2}),
        (ModelConfig, {"width": 0}),
        (ModelConfig, {"width": float("inf")}),
        (ModelConfig, {"dropout": 1}),
        (DataConfig, {"image_size": 7}),
        (DataConfig, {"image_size": 1025}),
        (DataConfig, {"image_size": [32, 7]}),
        (DataConfig, {"image_size": [32]}),
        (DataConfig, {"image_size": [32, 32, 3]}),
        (DataConfig, {"image_size": [32, 48], "augment": {"auto": "trivial"}}),
        (DataConfig, {"image_size": [32, 8], "augment": {"crop_padding": 8, "crop_mode": "reflect"}}),
        (DataConfig, {"val_fraction": 0}),
        (DataConfig, {"val_fraction": 0.5}),
        (DataConfig, {"validation": {"from": "train", "fraction": 0.5}}),
        (DataConfig, {"validation": {"from": "test", "fraction": 1}}),
        (DataConfig, {"validation": {"from": "test", "fraction": None}}),
        (DataConfig, {"validation": {"from": "val", "fraction": 0.1}}),
        (DataConfig, {"validation": {"from": "elsewhere"}}),
        (DataConfig, {"validation": {"fraction": 0.1}, "val_fraction": 0.1}),
        (DataConfig, {"split_seed": -1}),
    ],
)
def test_illegal_values_are_refused(kind: Any, change: dict[str, Any]) -> None:
    legal = {"epochs": 1, "lr": 0.1} if kind is Schedule else {}
    kind.model_validate(legal)
    with pytest.raises(ValidationError):
        kind.model_validate({**legal, **change})


@pytest.mark.parametrize("content", [{"kind": "ptq"}, {"kind": "qat", "schedule": S}])
def test_batch_norm_is_measured_on_no_image_or_on_several(content: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="must be 0 or at least 2"):
        changed(quantize={**content, "bn_images": 1})
    for count in (0, 2):
        assert changed(quantize={**content, "bn_images": count})


@pytest.mark.parametrize(
    "value", [float("nan"), datetime.date(2026, 1, 2), {1, 2}, {1: "a", "b": 2}, [b"bytes"], float("-inf")]
)
def test_arguments_of_a_network_are_what_json_holds(value: Any) -> None:
    with pytest.raises(ValidationError, match="but arguments are what JSON holds"):
        BaselineTrain(schedule=ONE, network="my_nets:Net", arguments={"classes": 10, "width": value})
    BaselineTrain(schedule=ONE, network="my_nets:Net", arguments={"sizes": [1, {"a": None, "b": [0.5, True, "x"]}]})


def test_configurations_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TRIAL.seed = 3


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: ModelConfig(name="mobilenet"), "unknown model 'mobilenet'.*mobilenet_v2, vgg16.*'mobilenet_v2'"),
        (lambda: DataConfig(name="cifar"), "unknown data set 'cifar'.*cifar10.*Did you mean 'cifar10'"),
        (lambda: QuantScheme(observer="mes"), "unknown observer 'mes'.*Did you mean 'mse'"),
        (
            lambda: ChannelPrune(importance="l3", fine_tune=ONE),
            "unknown importance criterion 'l3'; known: bn_taylor, l1",
        ),
        (lambda: Sparsify(criterion="magnitud", schedule=ONE), "unknown sparsity criterion.*Did you mean 'magnitude'"),
        (lambda: QuantScheme(quantizer="lqs"), "unknown quantizer 'lqs'.*Did you mean 'lsq'"),
    ],
)
def test_unknown_names_list_the_known_ones(make: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        make()


@pytest.mark.parametrize("registry", [MODELS, DATASETS, IMPORTANCE, SPARSITY, OBSERVERS, QUANTIZERS])
def test_every_registered_name_can_be_loaded(registry: Registry[Any]) -> None:
    assert registry.names() == sorted(registry.names())
    assert all(registry[name] is not None for name in registry.names())
