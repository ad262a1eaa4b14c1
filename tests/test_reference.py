"""The pages of reference are complete: every key of the spec, every column of the tables."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pyarrow as pa
import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from tests.documents import PAGES, ROOT
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
from tune_app.tables.epochs import LOGGED, STAGE
from tune_app.tables.growth import trace_frame
from tune_app.tables.trial_rows import GROUPED, HEAD, MEASURED, STAGED, TAIL

COLUMNS = (ROOT / "docs/columns.md").read_text()
NAMES = {pa.string(): "text", pa.int64(): "integer", pa.float64(): "number", pa.bool_(): "true or false"}
TYPES = {
    **HEAD,
    **MEASURED,
    **STAGED,
    **GROUPED,
    **TAIL,
    **{f"size_{part}": pa.int64() for part in (*PARTS, "header")},
    **{f"formula_{name}_bytes": pa.int64() for name in FORMULAS},
    "seconds": pa.float64(),
}
SPARSE_MODES = get_args(Sparsify.model_fields["mode"].annotation)
PATTERNS = {"<parameter>", "<objective>_mean", "<objective>_sd", "seconds_<kind>"}


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """docs/reference.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def described(text: str) -> dict[str, tuple[str, str]]:
    """Type and meaning by column, from the tables of a page."""
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| (.+) \|$", text, re.M)
    return {name: (kind.strip(), meaning) for name, kind, meaning in rows}


def test_the_reference_of_the_spec_is_what_the_schema_says(reference: ModuleType) -> None:
    assert reference.PAGE.read_text() == reference.page(), "run `make docs`"


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


def test_every_column_is_explained_with_its_type() -> None:
    found = described(COLUMNS.split("## Over the trials")[0])
    assert {name for name in found if "<" in name} == PATTERNS
    assert {name: kind for name, (kind, _) in found.items() if "<" not in name} == {
        name: NAMES[kind] for name, kind in TYPES.items()
    }


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


def test_the_columns_of_the_epochs_are_explained_with_their_types() -> None:
    found = described(COLUMNS.split("## Over the epochs")[1])
    assert {name: kind for name, (kind, _) in found.items()} == {n: NAMES[k] for n, k in {**STAGE, **LOGGED}.items()}


def test_the_kinds_of_findings_are_explained() -> None:
    text = (ROOT / "docs/commands.md").read_text().split("### What `summary` finds")[1].split("## Choose")[0]
    code = "".join((ROOT / f"tune_app/{name}.py").read_text() for name in ("collapse", "findings"))
    assert re.findall(r"^\| `(\w+)` \|", text, re.M) == list(dict.fromkeys(re.findall(r'Finding\(\s*"(\w+)"', code)))
    assert FORMULA in text


def test_the_files_of_failures_are_listed(tmp_path: Path) -> None:
    page = (ROOT / "docs/experiment.md").read_text()
    rows = re.findall(r"^\| (`.+?) \|", page.split("## What `failures` writes")[1].split("\n## ")[0], re.M)
    listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert listed == write_files(make_analysis(), tmp_path)
    for group in (*CIFAR10_GROUPS, ACROSS):
        assert f"`{group}`" in page
