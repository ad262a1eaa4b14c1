"""The catalog of columns: adding a measurement is one line of it, beside the place that measures."""

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from tests.documents import script
from tests.tune_app.factories import make_experiment, make_record, make_spec
from trainables.results import METRICS, SCORES, Completed, Measurement, Metric
from tune_app.drawing.axis import axis_of
from tune_app.frontier.points import frontier, group_runs
from tune_app.ledger.ledger import TrialRecord
from tune_app.report.contents import read_contents
from tune_app.report.trial_table import ORDER, trial_columns
from tune_app.tables import columns, trial_rows
from tune_app.tables.columns import CATALOG, COLUMNS, KINDS, TRIALS, Column, expanded, short, show

NEW = Column("measured", "energy_bytes", "bytes", "energy of an image", "energy", "energy", "detail", "what it takes")


class Metered(Measurement):
    """A measurement that measures one thing more."""

    energy_bytes: int = 512


def metered(record: TrialRecord) -> TrialRecord:
    """The same record with the new measurement in it."""
    assert isinstance(record.result, Completed)
    measurement = Metered(**dict(record.result.measurement))
    return record.model_copy(update={"result": record.result.model_copy(update={"measurement": measurement})})


def test_a_new_measurement_needs_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, "measured", (*CATALOG["measured"], NEW))
    monkeypatch.setitem(COLUMNS, NEW.name, NEW)
    monkeypatch.setattr(trial_rows, "TRIALS", (*TRIALS, NEW))
    spec, record = make_spec(tmp_path), metered(make_record(0, {"w_bits": 4}))
    groups = group_runs([record], spec)
    rows = trial_rows.trial_rows([record], groups, frontier(groups, spec), spec)
    assert rows[0]["energy_bytes"] == 512
    assert str(trial_rows.schema_of([record], spec).field("energy_bytes").type) == "int64"
    contents = replace(read_contents(make_experiment(tmp_path, [record])), rows=rows)
    [shown] = [column for column in trial_columns(contents) if column.name == "energy_bytes"]
    assert (shown.title, shown.kind, shown.shown, shown.values) == ("energy", "bytes", False, (512,))
    assert (short("energy_bytes"), show("energy_bytes", 512.0)) == ("energy", "512 B")
    monkeypatch.setitem(METRICS, "energy_bytes", Metric("minimize", "bytes"))
    axis = axis_of("energy_bytes", spec, [512.0])
    assert (axis.title, axis.direction) == ("energy of an image (B)", "minimize")
    page = (Path(__file__).parents[3] / "docs/columns.md").read_text()
    assert "| `energy_bytes` | integer | what it takes |\n" in script("columns").page(page)


def test_the_catalog_is_the_only_place_in_tune_app_that_names_a_measurement() -> None:
    """But for the baseline, which is measured too."""
    root = Path(str(files("tune_app")))
    naming = [str(path.relative_to(root)) for path in root.rglob("*.py") if "peak_activation_bytes" in path.read_text()]
    assert naming == ["ledger/baseline.py"]


def test_every_measurement_has_a_line_and_every_metric_a_title() -> None:
    measured = set(Measurement.model_fields) - {"size_breakdown", "formula_bytes", "split"}
    derived = {"accuracy_drop", "pruned_compression_ratio", *(f"test_{name}" for name in SCORES)}
    assert {column.name for column in CATALOG["measured"]} == measured | derived
    assert {name for name in METRICS if COLUMNS[name].title == name} <= {"parameters"}


def test_every_line_has_a_known_kind_and_a_place_on_the_page_where_it_wants_one() -> None:
    lines = [column for section in CATALOG.values() for column in section]
    assert {column.kind for column in lines} == set(KINDS)
    assert {column.page for column in lines} == {"column", "detail", ""}
    wanted = {column.name for column in lines if column.page and column.word != "objective"}
    placed = {column.name for name in ORDER for column in CATALOG.get(name, ()) if column.page} | set(ORDER)
    assert wanted <= placed


def test_families_of_one_word_take_turns() -> None:
    words = {"parameter": ["w_bits"], "metric": [], "objective": ["accuracy", "macs"]}
    words |= {"part": [], "name": ["a"], "kind": ["qat"]}
    names = [column.name for column in expanded(TRIALS, words)]
    assert names[11:13] == ["w_bits", "accuracy"]
    start = names.index("accuracy_mean")
    assert names[start : start + 5] == ["accuracy_mean", "accuracy_sd", "macs_mean", "macs_sd", "repeats"]
    assert [name for name in names if name.startswith(("size_", "formula_", "seconds_"))] == [
        "size_bytes",
        "formula_a_bytes",
        "seconds_qat",
    ]
    assert len(names) == len(set(names))


def test_a_line_without_names_is_called_by_its_own() -> None:
    assert (COLUMNS["n"].head, COLUMNS["n"].title, COLUMNS["n"].brief) == ("n", "n", "n")
    assert (COLUMNS["size_bytes"].head, COLUMNS["size_bytes"].brief) == ("size", "bytes")
    assert columns.COLUMNS["accuracy_sd"].head == "± accuracy"
