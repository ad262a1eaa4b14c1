import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from tests.cluster.factories import read_yaml
from tests.tune_app.factories import SPACE, make_experiment, make_spec
from tests.tune_app.search.test_ladder import make_laddered
from trainables.config import BaselineImport, DataConfig, file_sha256
from trainables.errors import ConfigError, CorruptFile, StorageUnavailable
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.constraint import Constraint
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.spelling import SPELLINGS
from tune_app.spec.yaml_file import MAX_SPEC_BYTES, dump_spec, in_one_line, load_spec
from tune_app.spec.yaml_file import parse_spec as parse_text

BASE = """\
name: toy
base:
  baseline: {kind: train, schedule: {epochs: 1, lr: 0.1}}
  prune: {fine_tune: {epochs: 1, lr: 0.1}}
  quantize: {kind: ptq}
budget: {trials: 3}
"""
SPEC = BASE + "space: {w_bits: [4, 8], a_bits: {low: 4, high: 8, step: 4}}\n"


def parse(text: str) -> ExperimentSpec:
    return parse_text(text, source="spec.yaml")


def refusal(text: str) -> str:
    """The one line that refuses a spec."""
    with pytest.raises(ConfigError) as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith("spec.yaml: ")
    assert "\n" not in message
    return message


def test_a_short_spec_is_filled_with_defaults() -> None:
    spec = parse(SPEC)
    assert spec.space.size == 4
    assert spec.objectives == {"accuracy": "maximize", "size_bytes": "minimize"}
    assert spec.sampler.name == "ehvi"
    assert spec.folder == Path("runs/toy")
    assert spec.base.stages()[-1].kind == "ptq"


READ: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda p: None, "cannot read .*: No such file or directory. Give the path of a spec file"),
    "folder": (lambda p: p.mkdir(), "is a folder: give the path of a spec file"),
    "empty": (lambda p: p.touch(), "a spec is a mapping of keys, but the file holds nothing"),
    "a list": (lambda p: p.write_text("- 1\n"), "but the file holds list"),
    "html": (lambda p: p.write_text("<!DOCTYPE html>\n<html>"), "but the file holds str"),
    "latin 1": (lambda p: p.write_bytes(b"name: caf\xe9\n"), r"is not UTF-8 text \(byte 9\): save it as UTF-8"),
    "utf 16": (lambda p: p.write_text(SPEC, "utf-16"), "is not UTF-8 text"),
    "binary": (lambda p: p.write_bytes(bytes(range(128))), "not readable as YAML"),
    "over 1 MB": (lambda p: p.write_text(SPEC + "#" * MAX_SPEC_BYTES), "has more than 1,000,000 bytes: no spec has"),
}


@pytest.mark.parametrize("name", READ)
def test_a_file_that_is_no_spec_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    make, expected = READ[name]
    path = tmp_path / "spec.yaml"
    make(path)
    before = list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=expected) as caught:
        load_spec(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["x" * 300, "file/below", "nul\0"])
def test_a_path_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"cannot read"):
        load_spec(tmp_path / name)


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC, encoding="utf-8-sig")
    assert load_spec(tmp_path / "spec.yaml").space.size == 4


BOMB = "a: &a [x, x]\n" + "".join(
    f"{c}: &{c} [*{p}, *{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = {
    "name: a\nname: b\n": "line 2: 'name' stands twice: keep one",
    SPEC + "resources: {cpu: 1, cpu: 2}\n": "line 8: 'cpu' stands twice",
    BOMB: "aliases .* are not read",
    "a: &a 1\nb: *a\n": "aliases .* are not read",
    SPEC + "x: !!python/object/apply:os.system [echo]\n": "line 8: not readable as YAML: .*python/object",
    SPEC + "x: !!python/name:os.system\n": "not readable as YAML",
    SPEC + "x: !own 1\n": "not readable as YAML: .*!own",
    SPEC + "x: !!int ''\n": "not readable as YAML",
    SPEC + "x: !!float ''\n": "not readable as YAML",
    SPEC + "x: !!bool maybe\n": "not readable as YAML",
    SPEC + "x: !!timestamp y\n": "not readable as YAML",
    SPEC + "---\n" + SPEC: "not readable as YAML: .*another document",
    "a:\n\t- b\n": "line 2: not readable as YAML",
    "a: [1\n": "not readable as YAML",
    "a: \0\n": "not readable as YAML",
    "a: " + "[" * 50_000: "nested deeper than 50 levels",
    "a: " + "{a: " * 5_000: "nested deeper than 50 levels",
    "- " * 50_000: "nested deeper than 50 levels",
    "? {a: 1}\n: 2\n": "unhashable",
    SPEC + "1: 2\n": "1: Keys should be strings",
}


@pytest.mark.parametrize("text", YAML, ids=[t.removeprefix(SPEC)[:24] for t in YAML])
def test_text_that_is_no_plain_yaml_is_refused(text: str) -> None:
    assert re.search(YAML[text], refusal(text))


FIELDS = {
    "sampels: {}": "unknown key 'sampels'; did you mean 'sampler'?",
    "resources: {cpus: 1}": "unknown key 'resources.cpus'; did you mean 'cpu'?",
    "xyz: 1": "unknown key 'xyz'; known: name, storage, base, space",
    "resources: {gpus: 1}": "unknown key 'resources.gpus'; did you mean 'gpu'?",
    "resources: {cpu: 0}": "resources.cpu: must be more than 0",
    "resources: {cpu: -1}": "resources.cpu: must be more than 0",
    "resources: {gpu: -1}": "resources.gpu: must be at least 0",
    "resources: {cpu: many}": "resources.cpu: must be a number (got 'many')",
    "resources: {cpu: .nan}": "resources.cpu: must be a finite number",
    "max_concurrent_trials: 0": "max_concurrent_trials: must be at least 1",
    "worker_retries: -1": "worker_retries",
    "sampler: {name: tpee}": "gp, grid, nsga2, quasi_random, random, shuffled_grid, tpe. Did you mean 'tpe'?",
    "sampler: {seed: -1}": "sampler.seed: must be at least 0",
    "objectives: {acuracy: maximize}": "objectives: unknown metric 'acuracy'; known: accuracy",
    "objectives: {accuracy: up}": "objectives.accuracy: must be 'maximize' or 'minimize'",
    "objectives: {}": "objectives: ",
    "objectives: {accuracy: maximize, accuracy: maximize}": "'accuracy' stands twice",
    "constraints: [accuracy > 1]": "constraints.0: 'accuracy > 1' is no bound; write it like \"accuracy >= 0.93\"",
    "constraints: [accuracy]": "is no bound",
    "constraints: [acuracy >= 1]": "constraints.0: unknown metric 'acuracy'",
    "constraints: [accuracy >= e]": "constraints.0.bound",
    "constraints: [accuracy >= 1e999]": "constraints.0.bound: must be a finite number",
    "constraints: [3]": "constraints.0",
}


@pytest.mark.parametrize("text", FIELDS)
def test_an_illegal_field_is_named(text: str) -> None:
    assert FIELDS[text] in refusal(SPEC + text + "\n")


REPLACED = [
    ("name: toy", "name: a/b", "name: must be letters, digits, '.', '_' and '-', 64 at most, and begin with"),
    ("name: toy", "name: ..", "name: must be letters, digits, '.', '_' and '-', 64 at most, and begin with"),
    ("name: toy", "name: -a", "name: must be letters, digits, '.', '_' and '-', 64 at most, and begin with"),
    ("name: toy", "name: " + "a" * 300, "name: must be letters, digits, '.', '_' and '-', 64 at most, and begin with"),
    ("name: toy", 'name: "a\\0"', "name: must be letters, digits, '.', '_' and '-', 64 at most, and begin with"),
    ("name: toy", "name: 3", "name: must be text: this is a number in YAML; put it in quotes to have the text (got 3)"),
    ("name: toy\n", "", "name is missing: add it"),
    ("{trials: 3}", "{trials: 0}", "budget.trials: must be at least 1"),
    ("{trials: 3}", "{trials: -1}", "budget.trials: "),
    ("{trials: 3}", "{trials: 1e9}", "budget.trials: must be at most 1,000,000"),
    ("{trials: 3}", "{trials: abc}", "budget.trials: must be a whole number"),
    ("{trials: 3}", "{}", "budget.trials is missing"),
    (
        "baseline:",
        "teacher: {kind: untrained}\n  baseline:",
        "base.teacher.kind must be one of 'train', 'import'",
    ),
    ("kind: train", "kind: trian", "base.baseline.kind must be one of 'train', 'import', 'untrained'"),
    ("kind: train, ", "", "base.baseline.kind must be one of"),
    ("kind: train", "kind: train, modle: {}", "unknown key 'base.baseline.modle'; did you mean 'model'?"),
    ("kind: train", "kind: train, model: {widht: 1}", "'base.baseline.model.widht'; did you mean 'width'?"),
    ("kind: train", "kind: train, model: {name: vgg}", "unknown model 'vgg'; known: mobilenet_v2, vgg16"),
    ("kind: ptq", "kind: ptq, scheme: {w_bit: 3}", "'base.quantize.scheme.w_bit'; did you mean 'w_bits'?"),
    (
        "kind: ptq",
        "kind: ptq, scheme: {w_bits: 64}",
        "base.quantize.scheme.w_bits: bits must be one of 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32 (32 = untouched) (got 64)",
    ),
    ("epochs: 1", "epochs: one", "base.baseline.schedule.epochs: must be a whole number"),
    ("lr: 0.1", "lr: .nan", "base.baseline.schedule.lr: must be a finite number"),
]


@pytest.mark.parametrize(("old", "new", "expected"), REPLACED, ids=[new[:30] for _, new, _ in REPLACED])
def test_an_illegal_value_is_named(old: str, new: str, expected: str) -> None:
    assert old in SPEC
    assert expected in refusal(SPEC.replace(old, new, 1))


SPACES = {
    "{w_bits: [0]}": "space.w_bits: 0: bits must be one of 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32 (32 = untouched)",
    "{w_bits: [1.5]}": "space.w_bits: 1.5: must be a whole number",
    "{w_bits: [64]}": "space.w_bits: 64: bits must be one of 1, ",
    "{w_bits: []}": "space.w_bits: the list of values must not be empty",
    "{w_bits: {low: 8, high: 2}}": "space.w_bits: low <= high must hold, but got low 8 and high 2",
    "{w_bits: {low: 2, hihg: 8}}": "unknown key 'space.w_bits.hihg'; did you mean 'high'?",
    "{w_bits: {low: 2, high: 8, stp: 1}}": "unknown key 'space.w_bits.stp'",
    "{prune_frac: [1.0]}": "space.prune_frac: 1.0: must be less than 1",
    "{prune_frac: [-0.1]}": "space.prune_frac: -0.1: must be at least 0",
    "{prune_frac: [.nan]}": "space.prune_frac: values must be finite",
    "{prune_frac: {low: 0, high: .nan}}": "space.prune_frac.high: must be a finite number",
    "{prune_frac: {low: 0, high: 1" + "0" * 400 + "}}": "space.prune_frac.high: must be",
    "{w_bits: [null]}": "space.w_bits.0: must be a",
    "{wbits: [4]}": "space: unknown parameter 'wbits'; did you mean 'w_bits'?",
    "{}": "space: the search space must not be empty",
    "3": "space: must be a mapping: {key: value}",
}


@pytest.mark.parametrize("text", SPACES)
def test_an_illegal_space_is_named(text: str) -> None:
    assert SPACES[text] in refusal(BASE + f"space: {text}\n")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("base:", "bse:", "unknown key 'bse'; did you mean 'base'?"),
        ("kind: train", "kind: train, schedul: {}", "unknown key 'base.baseline.schedul'; did you mean 'schedule'?"),
        ("name: ", "nome: ", "unknown key 'nome'; did you mean 'name'?"),
    ],
)
def test_a_misspelt_key_is_named_although_another_is_missing(old: str, new: str, says: str) -> None:
    assert says in refusal(SPEC.replace(old, new, 1))


def test_an_unknown_key_elsewhere_does_not_hide_a_missing_one() -> None:
    assert "base is missing: add it." in refusal("name: x\nspace: {w_bits: [4]}\nresources: {gpus: 1}\n")


POINTS = {
    "[{w_bits: 4}]": "points.0: a point has a value for every parameter of the space: a_bits is missing, add it.",
    "[{w_bits: 4, a_bits: 8}, {}]": "points.1: a point has a value for every parameter of the space: ",
    "[{w_bits: 4, a_bits: 8, prune_frac: 0.3}]": "points.0: 'prune_frac' is no parameter of the space: add it there",
    "[{w_bits: 9, a_bits: 8}]": "points.0: w_bits: 9: bits must be one of 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32",
    "[{w_bits: .nan, a_bits: 8}]": "points.0",
    "[{w_bits: [4], a_bits: 8}]": "points.0.w_bits",
    "[4]": "points.0: must be a mapping: {key: value}",
    "4": "points: must be a list: [a, b]",
}


@pytest.mark.parametrize("text", POINTS)
def test_an_illegal_point_is_named(text: str) -> None:
    assert POINTS[text] in refusal(SPEC + f"points: {text}\n")


def test_a_base_is_a_first_run() -> None:
    expected = "base: repeat must be 0, but got 2: leave it out, and write repeats: {seeds: 3} for more runs"
    assert expected in refusal(SPEC.replace("base:\n", "base:\n  repeat: 2\n"))
    assert parse(SPEC.replace("base:\n", "base:\n  repeat: 0\n")) == parse(SPEC)


def test_a_repeat_is_the_same_configuration_under_another_number() -> None:
    spec = parse(SPEC)
    first, again = (spec.trial({"w_bits": 4, "a_bits": 8}, repeat=k) for k in (0, 2))
    assert first == spec.trial({"w_bits": 4, "a_bits": 8})
    assert again == first.model_copy(update={"repeat": 2}) != first


def test_points_may_lie_beside_the_grid() -> None:
    spec = parse(SPEC + "points: [{w_bits: 5, a_bits: 6}, {w_bits: 4, a_bits: 8}]\n")
    assert spec.points == ({"w_bits": 5, "a_bits": 6}, {"w_bits": 4, "a_bits": 8})
    assert parse(SPEC).points == ()


def test_a_single_point_and_a_very_large_space_are_legal() -> None:
    assert parse(BASE + "space: {w_bits: [4]}\n").space.size == 1
    assert parse(BASE + "space: {prune_frac: {low: 0, high: 0.999, step: 0.001}, w_bits: [2, 8]}\n").space.size == 2000


@given(st.text(max_size=60))
def test_no_text_is_more_than_refused(text: str) -> None:
    for content in (text, SPEC + text):
        with contextlib.suppress(ConfigError):
            parse(content)


SPECS: dict[str, dict[str, Any]] = {
    "plain": {},
    "range": {"space": {"prune_frac": {"low": 0, "high": 0.6, "step": 0.1}, "w_bits": [4]}},
    "three objectives": {"objectives": {"parameters": "minimize", "accuracy": "maximize", "size_bytes": "minimize"}},
    "constraints": {"constraints": ["accuracy >= 0.93", "size_bytes <= 1234567", "compression_ratio >= 7.123456789"]},
    "sampler": {"sampler": {"name": "grid", "seed": 3}},
    "points": {"points": [{"prune_frac": 0.45, "w_bits": 5, "a_bits": 8}]},
    "repeats": {"repeats": {"seeds": 5, "min_probability": 0.1}},
    "resources": {"resources": {"cpu": 2, "gpu": 0.25}, "max_concurrent_trials": 4, "worker_retries": 0},
}


@pytest.mark.parametrize("name", SPECS)
def test_parse_inverts_dump(name: str, tmp_path: Path) -> None:
    spec = make_spec(tmp_path, **SPECS[name])
    again = parse(dump_spec(spec))
    assert again == spec
    assert list(again.objectives) == list(spec.objectives)
    assert list(again.space.root) == list(spec.space.root)
    assert dump_spec(again) == dump_spec(spec)


@pytest.mark.parametrize("name", ["1e5", "0x1F", "null", "true", "1_000", "2020-01-01", "on", "1.5", "0o7", "a-", "0"])
def test_a_name_that_looks_like_something_else_stays_a_name(name: str, tmp_path: Path) -> None:
    assert parse(dump_spec(make_spec(tmp_path, name=name))).name == name


@pytest.mark.parametrize("mark", ["\x85", "\u2028", "\u2029", "?", "\x7f", "\x1b", "\ufeff"])
def test_a_path_of_any_characters_stays_what_it_is(mark: str, tmp_path: Path) -> None:
    spec = make_spec(f"s3://b/{mark}r{mark}uns/{mark}", resources={"cpu": 1})
    assert parse(dump_spec(spec)).storage == spec.storage
    for value in (f"{mark}a{mark}b", {"k": f"{mark}a{mark}b"}):
        [line] = in_one_line(value).splitlines()
        assert read_yaml(line) == value


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False))
def test_a_bound_survives_being_written(bound: float) -> None:
    constraint = Constraint(metric="size_bytes", sense="<=", bound=bound)
    assert Constraint.model_validate(str(constraint)) == constraint


@pytest.mark.parametrize(
    ("text", "written", "feasible", "infeasible"),
    [
        ("accuracy >= 0.93", "accuracy >= 0.93", 0.93, 0.92),
        ("accuracy>=.5", "accuracy >= 0.5", 0.6, 0.4),
        ("  size_bytes <= 3e5 ", "size_bytes <= 300000", 300_000, 300_001),
        ("size_bytes<=+100", "size_bytes <= 100", 99, 101),
    ],
)
def test_constraints(text: str, written: str, feasible: float, infeasible: float) -> None:
    constraint = Constraint.model_validate(text)
    assert str(constraint) == written
    assert constraint.violation(feasible) <= 0 < constraint.violation(infeasible)


IMPOSSIBLE = {
    "constraints: [accuracy >= 90]": "accuracy lies between 0 and 1, but got 90: write 0.9 or 90 %",
    "constraints: [accuracy <= 1000]": "accuracy lies between 0 and 1, but got 1000",
    "constraints: [size_bytes <= -1]": "size_bytes is never below 0, but got -1",
    "constraints: [accuracy >= 120 %]": "'120 %' is no share: write it like 95 % or 0.95",
    "constraints: [size_bytes <= 5 XB]": "'5 XB' is no size: write it like 500MB",
    "constraints: [parameters <= 5 %]": "constraints.0.bound: must be a number",
    "constraints: [accuracy >= 0.9, macs <= 5, accuracy <= 80 %]": "constraints: no trial can meet both "
    "accuracy >= 0.9 and accuracy <= 0.8: change one of them",
    "reference: {accuracy: 90}": "reference: accuracy lies between 0 and 1, but got 90: write 0.9 or 90 %",
    "reference: {size_bytes: -5}": "reference: size_bytes is never below 0",
    "objectives: {accuracy: minimize}": "accuracy is better the other way: write accuracy: maximize",
    "objectives: {size_bytes: maximize}": "size_bytes is better the other way: write size_bytes: minimize",
    "resources: {gpu: 1.5}": "resources.gpu: more than one GPU must be a whole number (got 1.5)",
    "resources: {gpu: 0.00001}": "resources.gpu: Ray counts in steps of 0.0001",
    "resources: {cpu: 0.33333}": "resources.cpu: Ray counts in steps of 0.0001",
    "points: [{w_bits: 4, a_bits: 8}, {w_bits: 4, a_bits: 4}, {a_bits: 8, w_bits: 4}]": "points.2 is points.0 again",
    "repeats: {seeds: 3, min_probability: 5}": "min_probability: must be between 0 and 1: write 0.05 or 5 %",
}


@pytest.mark.parametrize("text", IMPOSSIBLE)
def test_what_no_trial_could_meet_is_refused(text: str) -> None:
    assert IMPOSSIBLE[text] in refusal(SPEC + text + "\n")


FLAGS = [
    ("{trials: 3}", "{trials: true}", "budget: trials must be a number, but got true"),
    ("{trials: 3}", "{trials: 3, stagnation: {trials: yes}}", "budget.stagnation.trials: must be a whole number"),
    ("epochs: 1", "epochs: true", "base.baseline.schedule: epochs must be a number, but got true"),
    ("kind: ptq", "kind: ptq, scheme: {w_bits: true}", "base.quantize.scheme: w_bits must be a number"),
    ("kind: ptq", "kind: ptq, scheme: {w_bits_by_group: {conv1: true}}", "w_bits_by_group must be a number"),
    ("{w_bits: [4, 8]", "{w_bits: [true]", "space.w_bits: each value must be a number, but got true"),
    ("name: toy", "name: toy\ncluster: {workers: {cpus: true}}", "cluster.workers: cpus must be a number"),
    ("name: toy", "name: toy\nresources: {gpu: false}", "resources: gpu must be a number, but got false"),
    ("name: toy", "name: toy\npoints: [{w_bits: true, a_bits: 4}]", "points must be a number, but got true"),
]


@pytest.mark.parametrize(("old", "new", "expected"), FLAGS, ids=[new[-30:] for _, new, _ in FLAGS])
def test_true_is_not_1(old: str, new: str, expected: str) -> None:
    assert expected in refusal(SPEC.replace(old, new, 1))


def test_flags_stay_flags() -> None:
    augment = "base:\n  data: {augment: {flip: true}, validation: {from: test, fraction: 50 %}}\n"
    data = parse(SPEC.replace("base:\n", augment)).base.data
    assert data.augment.flip is True
    assert data.validation.fraction == 0.5
    assert parse(SPEC + "resources: {compile: true}\n").resources.compile is True


SHORT = {
    "sampler: grid": "sampler: {name: grid}",
    "repeats: 3": "repeats: {seeds: 3}",
    "constraints: accuracy >= 93 %": "constraints: [accuracy >= 0.93]",
    "constraints: [size_bytes <= 50KB, compression_ratio >= 10x]": "constraints: [size_bytes <= 50000, "
    "compression_ratio >= 10]",
    "objectives: [bops, accuracy]": "objectives: {bops: minimize, accuracy: maximize}",
    "objectives: accuracy": "objectives: {accuracy: maximize}",
    "repeats: {min_probability: 5 %}": "repeats: {min_probability: 0.05}",
}


@pytest.mark.parametrize("text", SHORT)
def test_a_short_form_means_the_long_one(text: str) -> None:
    short, long = (parse(SPEC + form + "\n") for form in (text, SHORT[text]))
    assert short == long
    assert dump_spec(short) == dump_spec(long)
    assert list(short.objectives) == list(long.objectives)


def test_a_budget_may_be_a_number_and_parts_of_the_base_have_units() -> None:
    assert parse(SPEC.replace("{trials: 3}", "3")) == parse(SPEC)
    schedule = "schedule: {epochs: 1, lr: 1}"
    sparsify = f"base:\n  sparsify: {{sparsity: 30 %, mode: iterative, max_accuracy_drop: 1pp, {schedule}}}"
    part = parse(SPEC.replace("base:", sparsify)).base.sparsify
    assert part is not None
    assert (part.sparsity, part.max_accuracy_drop) == (0.3, 0.01)
    refused = refusal(SPEC.replace("base:", sparsify.replace("1pp", "5.0")))
    assert "max_accuracy_drop: must be between 0 and 1: write 0.05 or 5pp" in refused


FACTORS = {"momentum", "weight_decay", "step_factor", "ema_decay", "threshold_start", "threshold_end", "hue"}
"""Fields between 0 and 1 that nobody writes in percent."""


def _models(annotation: Any) -> set[type[BaseModel]]:
    """The models that values of a type may hold, at any depth."""
    if not isinstance(annotation, type) or not issubclass(annotation, BaseModel):
        return {found for part in get_args(annotation) for found in _models(part)}
    return {annotation}.union(*(_models(field.annotation) for field in annotation.model_fields.values()))


def _fractions() -> list[tuple[type[BaseModel], str]]:
    """Every field of a spec that lies between 0 and 1."""
    bounds = {
        (model, name): {bound: value for part in field.metadata for bound, value in _bounds(part)}
        for model in _models(ExperimentSpec)
        for name, field in model.model_fields.items()
    }
    found = [(m, n) for (m, n), b in bounds.items() if 0 < b.get("highest", 2) <= 1 and b.get("lowest", -1) >= 0]
    return sorted((pair for pair in found if pair[1] not in FACTORS), key=lambda pair: (pair[0].__name__, pair[1]))


def _bounds(part: Any) -> list[tuple[str, float]]:
    """The bounds that a piece of a field's metadata sets, in the order of the names lowest and highest."""
    names = {"ge": "lowest", "gt": "lowest", "le": "highest", "lt": "highest"}
    return [(names[name], getattr(part, name)) for name in names if getattr(part, name, None) is not None]


@pytest.mark.parametrize(("model", "name"), _fractions(), ids=lambda part: getattr(part, "__name__", part))
def test_every_fraction_says_how_a_percentage_is_written(model: type[BaseModel], name: str) -> None:
    with pytest.raises(ValidationError) as refused:
        model.model_validate({name: 5.0})
    said = [str(problem["msg"]) for problem in refused.value.errors() if problem["loc"] == (name,)]
    unit = "pp" if name == "max_accuracy_drop" else " %"
    assert said == [f"Value error, must be between 0 and 1: write 0.05 or 5{unit}"]


def test_there_are_fractions() -> None:
    assert len(_fractions()) > 20


def test_values_of_a_space_may_have_units() -> None:
    plain = parse(BASE + "space: {prune_frac: [0.3, 0.5], w_bits: [4]}\npoints: [{prune_frac: 0.4, w_bits: 4}]\n")
    units = parse(BASE + "space: {prune_frac: [30 %, 50%], w_bits: [4]}\npoints: [{prune_frac: 40 %, w_bits: 4}]\n")
    assert units == plain
    ranged = parse(BASE + "space: {prune_frac: {low: 0, high: 50 %, step: 10 %}}\n")
    assert list(ranged.space.root["prune_frac"].values) == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    sized = BASE.replace("kind: ptq", "kind: ptq, auto_bits: {budget_bytes: 9KB}")
    assert parse(sized + "space: {budget_bytes: [20KB, 5KB]}\n").space.root["budget_bytes"].values == (5000, 20000)
    refused = refusal(BASE + "space: {prune_frac: [30, 50]}\n")
    assert "space.prune_frac: 30: must be between 0 and 1: write 0.3 or 30 %" in refused
    assert "'130 %' is no share" in refusal(BASE + "space: {prune_frac: [130 %]}\n")


def test_a_date_as_a_name_is_told_to_be_quoted() -> None:
    refused = refusal(SPEC.replace("name: toy", "name: 2026-11-27"))
    assert "name: must be text: this is a date in YAML; put it in quotes to have the text (got 2026-11-27)" in refused
    assert parse(SPEC.replace("name: toy", "name: '2026-11-27'")).name == "2026-11-27"


def test_a_file_without_an_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"/dev/zero has more than 1,000,000 bytes"):
        load_spec(Path("/dev/zero"))


@pytest.mark.parametrize("storage", ["file", "file/below"])
def test_a_storage_that_is_a_file_is_refused(storage: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "spec.yaml").write_text(SPEC + f"storage: {tmp_path / storage}\n")
    with pytest.raises(StorageUnavailable, match=r"storage: cannot make .*/file is a file. Name another folder"):
        load_spec(tmp_path / "spec.yaml")


def patterns(content: Any) -> set[str]:
    """The patterns in a JSON schema."""
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    found = {pattern for part in parts for pattern in patterns(part)}
    own = [content.get("pattern"), *content.get("patternProperties", {})] if isinstance(content, dict) else []
    return found | {pattern for pattern in own if pattern}


def test_every_pattern_of_a_spec_is_said_in_words() -> None:
    assert patterns(ExperimentSpec.model_json_schema()) == set(SPELLINGS)


def test_nothing_that_is_refused_is_said_in_the_words_of_pydantic() -> None:
    refused = [refusal(SPEC + text + "\n") for text in (*FIELDS, *IMPOSSIBLE)]
    refused += [refusal(SPEC.replace(old, new, 1)) for old, new, _ in (*REPLACED, *FLAGS)]
    refused += [refusal(BASE + f"space: {text}\n") for text in SPACES]
    refused += [refusal(SPEC + f"points: {text}\n") for text in POINTS]
    for message in refused:
        assert not re.search(r"[Ii]nput should|valid (tuple|dictionary|integer|number|string)|original value", message)


def test_paths_are_made_absolute_and_a_checkpoint_is_named_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(b"weights")
    text = SPEC.replace("{kind: train, schedule: {epochs: 1, lr: 0.1}}", "{kind: import, checkpoint: a.pt}")
    (tmp_path / "spec.yaml").write_text(text.replace("base:\n", "base:\n  data: {root: sets}\n"))
    spec = load_spec(Path("spec.yaml"))
    baseline = spec.base.baseline
    assert isinstance(baseline, BaselineImport)
    assert baseline.checkpoint == str(tmp_path / "a.pt")
    assert baseline.sha256 == file_sha256(tmp_path / "a.pt")
    assert spec.base.data.root == str(tmp_path / "sets")
    assert spec.storage == str(tmp_path / "runs")
    assert parse(dump_spec(spec)) == spec
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pt", "spec.yaml"]


@pytest.mark.parametrize(
    ("checkpoint", "expected"),
    [
        ("missing.pt", "cannot read .*missing.pt: No such file"),
        ("''", "base.baseline.checkpoint is missing"),
        (".", "cannot read .*: Is a directory"),
        ('"a\\0b"', "is no usable path|cannot read"),
        ("~nobody-of-this-name/a.pt", "is no usable path|cannot read"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_refused(checkpoint: str, expected: str, tmp_path: Path) -> None:
    baseline = f"{{kind: import, checkpoint: {checkpoint}}}"
    (tmp_path / "spec.yaml").write_text(SPEC.replace("{kind: train, schedule: {epochs: 1, lr: 0.1}}", baseline))
    with pytest.raises(ConfigError, match=expected) as caught:
        load_spec(tmp_path / "spec.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("storage", ['"a\\0b"', "~nobody-of-this-name/runs"])
def test_a_storage_that_is_no_path_is_refused(storage: str, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC + f"storage: {storage}\n")
    with pytest.raises(ConfigError, match="is no usable path"):
        load_spec(tmp_path / "spec.yaml")


def claimed(spec: ExperimentSpec) -> ExperimentFolder:
    folder = ExperimentFolder(spec.folder)
    folder.claim(spec)
    return folder


def test_a_new_experiment_stores_its_spec(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    folder = claimed(spec)
    assert folder.path == tmp_path / "toy"
    assert folder.read_spec() == spec


def test_the_same_spec_may_come_again(tmp_path: Path) -> None:
    folder = claimed(make_spec(tmp_path))
    before = folder.spec_file.stat()
    claimed(make_spec(tmp_path))
    assert folder.spec_file.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"trials": 99}},
        {"space": {**SPACE, "w_bits": [3]}},
        {"sampler": {"name": "random"}},
        {"points": [{"prune_frac": 0.45, "w_bits": 5, "a_bits": 8}]},
        {"constraints": ["accuracy >= 0.123456789"]},
        {"resources": {"cpu": 2}},
        {"max_concurrent_trials": 3},
        {"repeats": {"seeds": 3}},
    ],
)
def test_what_does_not_change_the_meaning_of_records_may_change(change: dict[str, Any], tmp_path: Path) -> None:
    claimed(make_spec(tmp_path))
    changed = make_spec(tmp_path, **change)
    assert claimed(changed).read_spec() == changed


def test_what_changed_is_said(tmp_path: Path) -> None:
    folder = claimed(make_spec(tmp_path))
    assert folder.claim(make_spec(tmp_path)) == []
    changed = make_spec(
        tmp_path,
        constraints=["accuracy >= 0.9", "size_bytes <= 50000"],
        sampler={"name": "tpe"},
        budget={"trials": 99, "stagnation": {}},
        repeats={"seeds": 2},
    )
    assert folder.claim(changed) == [
        "constraints: [] → [accuracy >= 0.9, size_bytes <= 50000]",
        "sampler.name: ehvi → tpe",
        "budget.trials: 10 → 99",
        "budget.stagnation: null → {trials: 30, gain: 0.001}",
        "repeats: null → {seeds: 2, min_probability: 0.05}",
    ]
    elsewhere = changed.model_copy(update={"storage": str(tmp_path / "moved")})
    assert folder.claim(elsewhere) == []


def test_a_reference_names_metrics_and_finite_numbers(tmp_path: Path) -> None:
    assert make_spec(tmp_path, reference={"accuracy": 0.9}).reference == {"accuracy": 0.9}
    for reference, words in (({"acuracy": 0.9}, "did you mean 'accuracy'"), ({"accuracy": float("nan")}, "finite")):
        with pytest.raises(ValidationError, match=words):
            make_spec(tmp_path, reference=reference)


def based(tmp_path: Path, **update: Any) -> ExperimentSpec:
    base = make_spec(tmp_path).base
    return make_spec(tmp_path, base=base.model_copy(update=update))


def test_another_base_is_refused_and_the_field_named(tmp_path: Path) -> None:
    folder = claimed(make_spec(tmp_path))
    before = folder.spec_file.read_bytes()
    base = make_spec(tmp_path).base
    data = base.data.model_copy(update={"image_size": 16})
    quantize = base.quantize.model_copy(update={"bn_images": 1})
    cases = [
        (based(tmp_path, seed=1), "base.seed is 0 there and 1 here"),
        (based(tmp_path, data=data), "base.data.image_size is 32 there and 16 here"),
        (based(tmp_path, data=DataConfig.model_validate({"validation": {"from": "val"}})), "base.data.val"),
        (based(tmp_path, quantize=quantize), "base.quantize.bn_images is 2048 there and 1 here"),
    ]
    for spec, expected in cases:
        with pytest.raises(ConfigError, match=f"{expected}.*give this spec another name") as caught:
            folder.claim(spec)
        assert str(folder.path) in str(caught.value)
        assert folder.spec_file.read_bytes() == before


def test_data_may_move(tmp_path: Path) -> None:
    folder = claimed(make_spec(tmp_path))
    data = make_spec(tmp_path).base.data.model_copy(update={"root": "/elsewhere", "on_error": "skip"})
    assert folder.claim(based(tmp_path, data=data)) == []
    assert folder.read_spec().base.data.root == "/elsewhere"


def test_a_folder_that_cannot_be_written_is_storage_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for storage in (tmp_path / "file", Path("/proc")):
        folder = ExperimentFolder(storage / "toy")
        with pytest.raises(StorageUnavailable):
            folder.claim(make_spec(tmp_path))
        with pytest.raises(StorageUnavailable):
            folder.probe()


def test_probing_leaves_nothing_behind(tmp_path: Path) -> None:
    ExperimentFolder(tmp_path / "toy").probe()
    assert list((tmp_path / "toy").iterdir()) == []


def test_a_damaged_stored_spec_is_corrupt(tmp_path: Path) -> None:
    folder = claimed(make_spec(tmp_path))
    content = folder.spec_file.read_bytes()
    for damaged in (b"", content[:100], b"\xff" + content, content.replace(b"name: toy", b"nmae: toy")):
        folder.spec_file.write_bytes(damaged)
        with pytest.raises(CorruptFile, match=r"^stored spec: ") as caught:
            folder.read_spec()
        assert str(folder.spec_file) in str(caught.value)


def test_an_existing_experiment_is_found(tmp_path: Path) -> None:
    make_experiment(tmp_path, [])
    assert ExperimentFolder.existing(tmp_path / "toy").read_spec().name == "toy"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "it holds experiments: toy"),
        ("toys", "does not exist: give the folder that `tune-app run` printed"),
        ("toy/experiment.yaml", "is no experiment"),
        ("x" * 300, "cannot look into|does not exist"),
        ("nul\0", "cannot look into|is no experiment"),
    ],
)
def test_a_path_without_an_experiment_is_refused(name: str, expected: str, tmp_path: Path) -> None:
    make_experiment(tmp_path, [])
    with pytest.raises(ConfigError, match=expected) as caught:
        ExperimentFolder.existing(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "rungs"),
    [
        ({}, ["ptq", "full"]),
        ({"sampler": "tpe"}, ["full"]),
        ({"fidelity": None}, ["full"]),
        ({"budget": 18}, ["full"]),
        ({"base": make_spec(Path()).base}, ["full"]),
    ],
    ids=["plain", "another sampler", "none wanted", "every point", "no training"],
)
def test_a_spec_that_says_nothing_has_a_rung_where_one_may_spare_training(
    changes: dict[str, Any], rungs: list[str], tmp_path: Path
) -> None:
    spec = make_spec(tmp_path, **{"base": make_laddered(tmp_path).base, **changes})
    assert list(spec.rungs) == rungs
    assert parse_text(dump_spec(spec), source="spec.yaml") == spec


def test_a_spec_that_is_wrong_elsewhere_says_so_and_nothing_of_its_rungs(tmp_path: Path) -> None:
    with pytest.raises(ValidationError) as caught:
        make_spec(tmp_path, space={"w_bits": []})
    assert {error["loc"][0] for error in caught.value.errors()} == {"space"}


def test_only_a_sampler_that_knows_what_to_expect_can_end_a_search_for_it(tmp_path: Path) -> None:
    budget = {"trials": 9, "stop_below": "1 %"}
    assert make_spec(tmp_path, budget=budget).budget.stop_below == pytest.approx(0.01)
    with pytest.raises(ValidationError, match="needs a sampler that knows what to expect, but got tpe: choose ehvi"):
        make_spec(tmp_path, budget=budget, sampler="tpe")
