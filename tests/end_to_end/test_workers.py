"""Trials that are shorter than the start of a worker: every worker gets its share all the same."""

import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.specs import tiny_spec
from tests.tune_app.search.test_ladder import closed_form
from tune_app.engine.trial import Grant
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord
from tune_app.ledger.reading import read_records
from tune_app.on_ray.engine import OnRay
from tune_app.on_ray.worker import TrialWorker
from tune_app.run.search import run_search

pytestmark = pytest.mark.ray
TRIALS = 200


class Short(TrialWorker):
    """A trial that takes next to no time and says which process it ran in."""

    def open(self, data: list[Any], *, gpu_share: float) -> None:
        self._ledger = Ledger(self._folder.trials)

    def work(self, work: Assignment, grant: Grant) -> TrialRecord:
        time.sleep(0.02)
        record = closed_form(work).model_copy(update={"environment": {"pid": str(os.getpid())}})
        self._ledger.add(record)
        return record


def test_short_trials_run_on_every_worker(finished_search: ExperimentFolder, tmp_path: Path) -> None:
    space = {"prune_frac": {"low": 0.0, "high": 0.38, "step": 0.02}, "w_bits": [2, 3, 4, 6, 8], "a_bits": [4, 8]}
    spec = tiny_spec(tmp_path / "runs", space=space, budget={"trials": TRIALS})
    folder = ExperimentFolder(spec.folder)
    shutil.copytree(finished_search.stages, folder.stages)
    shutil.copytree(finished_search.baseline_file.parent, folder.baseline_file.parent)
    outcome = run_search(spec, engine=OnRay(worker=Short))
    shares = Counter(record.environment["pid"] for record in read_records(outcome.folder))
    assert sum(shares.values()) == TRIALS
    assert len(shares) == 2, "a worker that is ready is kept, one that starts is not given up"
    assert min(shares.values()) >= 5
