"""The pages of reference are complete: every key of the spec, every column of the tables."""

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from ruamel.yaml import YAML

from tests.documents import PAGES, ROOT, script
from tests.trainables.factories import few_digits, make_architecture, make_context, make_model, make_prune
from tests.tune_app.factories import make_experiment, store_baseline
from tests.tune_app.mistakes.factories import make_analysis
from trainables.config import STAGES, Schedule, Sparsify
from trainables.costs.size_formulas import FORMULAS
from trainables.data.class_names import CIFAR10_GROUPS
from trainables.export.packed import PARTS
from trainables.stages.stage import StageResult, run_stage
from tune_app.findings.summary import FORMULA
from tune_app.mistakes.confusion import ACROSS
from tune_app.mistakes.files import write_files
from tune_app.spec.yaml_file import parse_spec
from tune_app.tables.columns import CATALOG, TRIALS, expanded
from tune_app.tables.growth import trace_frame

COLUMNS = (ROOT / "docs/columns.md").read_text()
SPARSE_MODES = get_args(Sparsify.model_fields["mode"].annotation)


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    return script("reference")


def described(text: str) -> dict[str, tuple[str, str]]:
    """Type and meaning by column, from the tables of a page."""
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| (.+) \|$", text, re.M)
    return {name: (kind.strip(), meaning) for name, kind, meaning in rows}


def test_the_reference_of_the_spec_is_what_the_schema_says(reference: ModuleType) -> None:
    assert reference.PAGE.read_text() == reference.page(), "run `make docs`"


def test_the_schema_for_editors_is_current_and_knows_every_example(reference: ModuleType) -> None:
    assert reference.SCHEMA.read_text() == reference.schema_text(), "run `make docs`"
    check = Draft202012Validator(json.loads(reference.schema_text()))
    Draft202012Validator.check_schema(check.schema)
    examples = sorted((ROOT / "examples").rglob("*.yaml"))
    for file in [*examples, ROOT / "tune_app/cli/demo.yaml"]:
        text = file.read_text()
        assert [error.message for error in check.iter_errors(YAML(typ="safe").load(text))] == [], file
        if file in examples:
            line = text.partition("\n")[0]
            named = file.parent / line.removeprefix("# yaml-language-server: $schema=")
            assert named.resolve() == reference.SCHEMA.resolve(), f"{file} does not begin with its schema"


SHORT_FORMS = """
name: short
base: {baseline: {kind: train, schedule: {epochs: 1, lr: 0.1}}, quantize: {kind: ptq},
  prune: {fine_tune: {epochs: 1, lr: 0.1}}, data: {name: digits, validation: {from: train, fraction: 20 %}}}
space: uniform
objectives: [accuracy, size_bytes]
constraints: size_bytes <= 50KB
sampler: grid
budget: 3
repeats: 3
tracking: tensorboard
"""


def test_the_schema_for_editors_takes_what_a_spec_may_say_and_nothing_else(reference: ModuleType) -> None:
    check, spec = Draft202012Validator(json.loads(reference.schema_text())), YAML(typ="safe").load(SHORT_FORMS)
    parse_spec(SHORT_FORMS, source="short forms")
    assert [error.message for error in check.iter_errors(spec)] == []
    for wrong in (
        {"budgets": 3},
        {"budget": "many"},
        {"space": {"w_bit": [2]}},
        {"space": "unifrm"},
        {"base": {**spec["base"], "prune": {"prune_frac": 0.1}}},
        {"resources": {"cpu": -1}},
    ):
        assert not check.is_valid({**spec, **wrong}), wrong


def test_every_key_of_the_spec_says_what_it_is(reference: ModuleType) -> None:
    assert reference.undescribed() == []


def merged(old: Any, new: Any) -> Any:
    """The keys of one mapping over those of another; a mapping of another kind takes the place of the old one."""
    if not (isinstance(old, dict) and isinstance(new, dict)) or old.get("kind") != new.get("kind", old.get("kind")):
        return new
    return {**old, **{name: merged(old.get(name), value) for name, value in new.items()}}


def classes_in(value: Any) -> set[str]:
    """The names of the classes of a model and of all that it holds."""
    if isinstance(value, BaseModel):
        parts, found = [part for _, part in value], {cls.__name__ for cls in type(value).__mro__}
    else:
        parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, tuple | list) else []
        found = set()
    return found.union(*map(classes_in, parts))


def test_every_section_of_the_spec_has_an_example_that_is_legal(reference: ModuleType) -> None:
    demo, yaml = (ROOT / "tune_app/cli/demo.yaml").read_text(), YAML(typ="safe")
    models = {reference.ROOT, *reference.ExperimentSpec.model_json_schema()["$defs"]}
    assert set(reference.EXAMPLES) == models
    for name, text in reference.EXAMPLES.items():
        assert text.count("\n") <= 3, name
        own = yaml.load(text)
        content = merged(yaml.load(demo), own)
        content["space"] = own.get("space", content["space"])
        spec = parse_spec(json.dumps(content), source=name)
        assert name in classes_in(spec), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_rows_of_a_table_have_as_many_cells_as_its_head(page: Path) -> None:
    for table in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.M):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table


def test_a_description_begins_small_unless_with_a_name() -> None:
    page = (ROOT / "docs/spec.md").read_text()
    for text in (
        "| the EC2 instances that",
        "| the Compute Engine instances that",
        "| the pods that",
        "| a data set, its",
    ):
        assert text in page


def test_every_key_of_the_demo_is_on_the_page(reference: ModuleType) -> None:
    keys = set(re.findall(r"(\w+):", (ROOT / "tune_app/cli/demo.yaml").read_text().split("name:", 1)[1]))
    shown = set(re.findall(r"^\| `(\w+)` \|", reference.page(), re.M))
    assert keys - shown == {"accuracy", "size_bytes"}  # of the mapping of objectives


def test_the_tables_of_columns_are_what_the_catalog_says() -> None:
    assert script("columns").page(COLUMNS) == COLUMNS, "run `make docs`"


def test_a_row_of_the_page_is_renewed_and_a_new_one_is_added() -> None:
    behind = re.sub(r"\| `accuracy` .*\n", "", COLUMNS).replace("| `n` | integer |", "| `n` | text |")
    assert behind != COLUMNS
    assert script("columns").page(behind) == COLUMNS


def test_every_part_of_a_file_and_every_formula_is_explained() -> None:
    members = {section: set(CATALOG[section][0].members) for section in ("sizes", "formulas")}
    assert members == {"sizes": {*PARTS, "header"}, "formulas": set(FORMULAS)}


def test_every_column_of_a_table_is_explained_with_its_type() -> None:
    found = described(COLUMNS.split("## Over the trials")[0])
    words = {"parameter": ["<parameter>"], "metric": ["<metric>"], "objective": ["<objective>"], "kind": ["<kind>"]}
    words |= {"part": [*PARTS, "header"], "name": [*FORMULAS]}
    assert list(found) == [column.name for column in expanded(TRIALS, words)]
    assert {kind for kind, _ in found.values()} == {"text", "integer", "number", "true or false", "as in the spec"}
    assert (found["accuracy"][0], found["bops"][0], found["label"][0]) == ("number", "integer", "text")
    assert (found["stopped_early"][0], found["<parameter>"][0]) == ("true or false", "as in the spec")


def test_every_key_of_a_history_is_explained() -> None:
    parent = StageResult(make_architecture(), None, make_model().state_dict(), {"val_accuracy": 0.1})
    context = make_context(few_digits(), parent_result=parent)
    once = Schedule(epochs=1, lr=0.01, batch_size=50)
    pruning = make_prune(0.3, fine_tune=once)
    sparsities = [Sparsify.model_validate({"sparsity": 0.5, "mode": m, "schedule": once}) for m in SPARSE_MODES]
    found = {key for stage in (pruning, *sparsities) for row in run_stage(stage, context).history for key in row}
    section = (ROOT / "docs/pipeline.md").read_text().split("## What a stage keeps")[1].split("```")[0]
    assert found == set(re.findall(r"`(\w+)`", section)) - {"history", "channel_prune", "sparsify"}


def test_every_kind_of_stage_is_named_among_the_columns_of_seconds() -> None:
    kinds = set(STAGES.names())
    assert set(re.findall(r"`(\w+)`", described(COLUMNS)["seconds_<kind>"][1])) == kinds


def test_the_columns_of_the_trace_are_explained(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    store_baseline(folder)
    rows = re.findall(r"^\| (.+?) \|", COLUMNS.split("## Over the trials")[1].split("## Over the epochs")[0], re.M)
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == list(trace_frame(folder.path).columns)


def test_the_kinds_of_findings_are_explained() -> None:
    text = (ROOT / "docs/commands.md").read_text().split("### What `summary` finds")[1].split("## Choose")[0]
    code = "".join(
        (ROOT / f"tune_app/findings/{name}.py").read_text()
        for name in ("memorized", "unbalanced", "at_chance", "above_baseline", "findings")
    )
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == list(dict.fromkeys(re.findall(r'Finding\(\s*"(\w+)"', code)))
    assert FORMULA in text


def test_the_files_of_failures_are_listed(tmp_path: Path) -> None:
    page = (ROOT / "docs/experiment.md").read_text()
    rows = re.findall(r"^\| (`.+?) \|", page.split("## What `failures` writes")[1].split("\n## ")[0], re.M)
    listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert listed == write_files(make_analysis(), tmp_path)
    for group in (*CIFAR10_GROUPS, ACROSS):
        assert f"`{group}`" in page
