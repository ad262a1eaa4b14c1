"""What Ray sees of a trial: a worker is set up once and then runs one trial after the other."""

import math
from typing import Any

import ray
from ray import tune

from tune_app.experiment import ExperimentSpec
from tune_app.folder import ExperimentFolder
from tune_app.ledger import Assignment, TrialRecord
from tune_app.trainable import assignments, run_trial


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """A trial is one step. A class costs one message less per trial than a function, and keeps data and device.

    Ray's row is of the last assignment, for its dashboard; the ledger has them all.
    """

    def setup(self, config: dict[str, Any], *, spec_json: str, data: list[Any]) -> None:
        """Once per worker. `data` holds the reference of the shared data set (wrapped: it is fetched here only)."""
        self._experiment = ExperimentSpec.model_validate_json(spec_json)
        self._folder = ExperimentFolder(self._experiment.folder)
        self.open(data)

    def open(self, data: list[Any]) -> None:
        """Gets ready for `work`."""
        from trainables.workplace import open_workplace

        share = self._experiment.resources
        self._workplace = open_workplace(
            ray.get(data[0]), self._folder.stages, cpu=share.cpu, gpu=share.gpu, compile=share.compile
        )

    def work(self, work: Assignment) -> TrialRecord:
        """Runs an assignment and writes its record."""
        return run_trial(work, self._experiment, self._folder, self._workplace)

    def step(self) -> dict[str, Any]:
        """Everything that the Ray trial has to do."""
        for work in assignments(self.config):
            metrics = self.work(work).metrics()
        return {"done": True, **{k: v for k, v in metrics.items() if math.isfinite(v)}}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next trial needs nothing new."""
        return True
