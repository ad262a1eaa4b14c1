"""A run that cannot judge its results by the spec is refused, and the stored spec stays as it was."""

import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from tests.specs import tiny_spec
from tests.tune_app.factories import (
    make_baseline_info,
    make_experiment,
    make_records,
    make_spec,
    of_older_version,
    store_baseline,
    tabulate,
)
from trainables.errors import ConfigError
from trainables.storage import read_bytes, remove, remove_tree, replace
from tune_app.engine.engine import ReadySearch
from tune_app.ledger.baseline import BaselineInfo
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Ledger
from tune_app.ledger.test_results import HeldOut, store_held_out
from tune_app.run.search import run_baseline, run_search
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.at_rest import recall
from tune_app.tables.trials import read_table

BALANCED = {"balanced_accuracy": "maximize", "size_bytes": "minimize"}


def test_older_results_go_on_by_accuracy_and_are_refused_by_what_they_lack(tmp_path: Path) -> None:
    records = list(map(of_older_version, make_records()[:4]))
    folder = make_experiment(tmp_path, records, budget={"trials": 4})
    store_baseline(folder)
    assert run_search(folder.read_spec()).totals.count == 4  # its budget is spent, so that nothing is started
    before = read_bytes(folder.spec_file)
    with pytest.raises(ConfigError, match="has no balanced_accuracy"):
        run_search(make_spec(tmp_path, objectives=BALANCED, budget={"trials": 4}))
    assert read_bytes(folder.spec_file) == before


def test_what_changed_is_told_as_a_spec_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_experiment(tmp_path, make_records()[:4], budget={"trials": 4})
    store_baseline(folder)
    run_search(make_spec(tmp_path, constraints=["accuracy >= 0.9"], budget={"trials": 4}))
    assert "changed since the last run: constraints: [] → [accuracy >= 0.9]\n" in capsys.readouterr().err


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
    tabulate(folder)
    tables = [Path(str(folder.trials_table)), Path(str(folder.frontier_table))]

    def written() -> list[bool]:
        for table in tables:
            os.utime(table, (1e9, 1e9))
        assert run_search(folder.read_spec()).new == 0
        return [table.stat().st_mtime != 1e9 for table in tables]

    assert written() == [False, False]
    tabulate(folder, make_records()[:3])
    assert written() == [True, True]
    assert written() == [False, False]
    for table in tables:
        table.write_bytes(table.read_bytes()[:-20])
        assert written() == [True, True]
    remove(folder.trials / f"{make_records()[3].assignment.trial_id}.json")
    Ledger(folder.trials).add(make_records()[4])
    assert run_search(folder.read_spec()).removed == ["p50_w4_a8"]


def test_a_damaged_record_does_not_stay_in_the_tables(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, make_records()[:4], budget={"trials": 3})
    store_baseline(folder)
    tabulate(folder)
    damaged = Path(str(folder.trials)) / f"{make_records()[2].assignment.trial_id}.json"
    with damaged.open("r+b") as file:  # in place: the folder's time of change stays
        file.write(b"?")
    outcome = run_search(folder.read_spec())
    assert (outcome.quarantined, outcome.totals.count) == ([damaged.name], 3)
    assert read_table(folder.trials_table)["label"].to_pylist() == ["p0_w8_a8", "p30_w4_a8", "p50_w4_a8"]
    assert run_search(folder.read_spec()).removed == []


def test_a_run_mends_tables_of_which_one_was_written_alone(tmp_path: Path) -> None:
    """A driver was killed between the two, or `finalize` before it wrote them."""
    folder = make_experiment(tmp_path, make_records()[:4], budget={"trials": 4})
    store_baseline(folder)
    tabulate(folder)
    older = read_bytes(folder.frontier_table)
    changed = make_spec(tmp_path, budget={"trials": 4}, objectives={"accuracy": "maximize"})
    folder.store_spec(changed)
    tabulate(folder)
    assert recall(folder) is not None
    replace(folder.frontier_table, older)
    assert recall(folder) is None
    run_search(changed)
    assert len(read_table(folder.frontier_table)) == 1
    tabulate(folder)
    store_held_out(folder.artifacts / make_records()[0].assignment.trial_id, HeldOut(accuracy=0.9, n=100))
    assert recall(folder) is None
    run_search(changed)
    assert read_table(folder.trials_table)["test_accuracy"].to_pylist()[0] == 0.9


class SlowToBegin:
    """An engine whose data and baseline take their time; `asked` is what it was then given to run."""

    def session(self, spec: object) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def prepare(self, spec: ExperimentSpec, view: object) -> tuple[BaselineInfo, None]:
        time.sleep(0.3)
        return make_baseline_info(0.95), None

    def run(self, search: ReadySearch, data: None) -> None:
        self.asked = search.proposer.next()


def test_the_wall_time_of_a_run_counts_data_and_baseline(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, budget={"trials": 4, "wall_s": 0.2})
    outcome = run_search(spec, engine=(engine := SlowToBegin()))
    assert (engine.asked, outcome.new) == (None, 0)
    assert "s of wall time" in outcome.why


class Refuses:
    """An engine that refuses whatever it is given; `meanwhile` is called before."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self._meanwhile = meanwhile

    def session(self, spec: object) -> NoReturn:
        self._meanwhile()
        raise ConfigError("not here")


def test_a_refused_folder_goes_while_nobody_else_can_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, taken = make_spec(tmp_path), []

    def watched(path: Path) -> None:
        taken.append(Lease(ExperimentFolder(spec.folder)).is_taken)
        remove_tree(path)

    monkeypatch.setattr("tune_app.run.search.remove_tree", watched)
    with pytest.raises(ConfigError, match="not here"):
        run_search(spec, engine=Refuses())
    assert (taken, spec.folder.exists()) == ([True], False)


def test_a_refused_run_leaves_the_folder_of_another_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec(tmp_path)
    folder = ExperimentFolder(spec.folder)
    taking_over = Refuses(lambda: replace(folder.lease / "00000002.json", b"{}"))
    with pytest.raises(ConfigError, match="not here"):
        run_search(spec, engine=taking_over)
    assert folder.spec_file.exists()
    monkeypatch.setattr("tune_app.run.search.exists", lambda path: False)  # it was made since this was asked
    with pytest.raises(ConfigError, match="not here"):
        run_search(spec, engine=Refuses())
    assert folder.spec_file.exists()


class NeverStarted:
    """An engine whose session no run may begin."""

    def session(self, spec: object) -> NoReturn:
        raise AssertionError("the engine was started")


@pytest.mark.parametrize("run", [run_search, run_baseline])
@pytest.mark.parametrize("teaches", [False, True])
def test_weights_that_do_not_fit_are_refused_before_anything_starts(
    run: Callable[..., object], teaches: bool, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pt"
    torch.save({"conv.weight": torch.zeros(3, 3)}, weights)
    imported = {"kind": "import", "checkpoint": str(weights)}
    base = tiny_spec(tmp_path).base.model_dump()
    base["teacher" if teaches else "baseline"] = imported
    if teaches:
        base["quantize"]["schedule"]["distill"] = {"weight": 0.5}
    with pytest.raises(ConfigError, match="is another architecture"):
        run(tiny_spec(tmp_path, base=base), engine=NeverStarted())
    assert not tiny_spec(tmp_path).folder.exists()
    base["data"]["root"], base["data"]["name"] = str(tmp_path / "nowhere"), "image_folder"
    with pytest.raises(AssertionError, match="the engine was started"):  # the images lie elsewhere: workers will say
        run(tiny_spec(tmp_path, base=base), engine=NeverStarted())
