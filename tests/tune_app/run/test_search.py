"""A run that cannot judge its results by the spec is refused, and the stored spec stays as it was."""

import os
import re
from pathlib import Path

import pytest

from tests.tune_app.factories import (
    at_rest,
    make_experiment,
    make_records,
    make_spec,
    of_older_version,
    store_baseline,
)
from trainables.errors import ConfigError
from trainables.storage import read_bytes, remove
from tune_app.ledger.ledger import Ledger
from tune_app.run.search import run_search

BALANCED = {"balanced_accuracy": "maximize", "size_bytes": "minimize"}


def test_older_results_go_on_by_accuracy_and_are_refused_by_what_they_lack(tmp_path: Path) -> None:
    records = list(map(of_older_version, make_records()[:4]))
    folder = make_experiment(tmp_path, records, budget={"trials": 4})
    store_baseline(folder)
    assert len(run_search(folder.read_spec()).records) == 4  # its budget is spent, so that nothing is started
    before = read_bytes(folder.spec_file)
    with pytest.raises(ConfigError, match="has no balanced_accuracy"):
        run_search(make_spec(tmp_path, objectives=BALANCED, budget={"trials": 4}))
    assert read_bytes(folder.spec_file) == before


def test_newer_results_answer_the_new_question(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, make_records()[:4], budget={"trials": 4})
    store_baseline(folder)
    outcome = run_search(make_spec(tmp_path, objectives=BALANCED, budget={"trials": 4}))
    assert (outcome.new, folder.read_spec().objectives) == (0, BALANCED)
    folder.baseline_file.write_text(re.sub('"classes":10', '"classes":4', folder.baseline_file.read_text()))
    with pytest.raises(ConfigError, match="needs more than 5 classes"):
        run_search(make_spec(tmp_path, objectives={"top5_accuracy": "maximize"}, budget={"trials": 4}))


def test_nothing_to_do_writes_no_table_that_is_current(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, make_records()[:4], budget={"trials": 4})
    store_baseline(folder)
    tables = [Path(str(folder.trials_table)), Path(str(folder.frontier_table))]

    def written() -> list[bool]:
        for table in tables:
            os.utime(table, (1e9, 1e9))
        assert run_search(folder.read_spec()).new == 0
        return [table.stat().st_mtime != 1e9 for table in tables]

    assert written() == [True, True]  # the ledger changed a moment ago: who knows
    at_rest(folder)
    assert written() == [False, False]
    for table in tables:
        table.write_bytes(table.read_bytes()[:-20])
        assert written() == [True, True]
    remove(folder.trials / f"{make_records()[3].assignment.trial_id}.json")
    Ledger(folder.trials).add(make_records()[4])
    assert run_search(folder.read_spec()).removed == ["p50_w4_a8"]
