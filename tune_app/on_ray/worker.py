"""What Ray sees of a trial: a worker is set up once and then runs one trial after the other."""

import math
from typing import Any

import ray
from ray import tune

from trainables.errors import OutOfMemory
from tune_app.engine.trial import Grant, assignments, run_trial, workplace_of
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment, TrialRecord
from tune_app.on_ray.heartbeat import end_heartbeat, own_heartbeat, write_heartbeat
from tune_app.spec.experiment import ExperimentSpec


class TrialWorker(tune.Trainable):  # type: ignore[misc]
    """What Ray calls a trainable: a trial is one step of it.

    A class costs one message less per trial than a function, and keeps data and device.

    Ray's row holds the objectives of the last assignment; the ledger has everything.
    """

    def setup(self, config: dict[str, Any], *, spec_json: str, data: list[Any]) -> None:
        """Sets a worker up. `data` holds the reference of the shared data set (wrapped: it is fetched here only)."""
        self._experiment = ExperimentSpec.model_validate_json(spec_json)
        self._folder = ExperimentFolder(self._experiment.folder)
        self._node_id = ray.get_runtime_context().get_node_id()
        self.open(data, gpu_share=config["gpu_share"])

    def open(self, data: list[Any], *, gpu_share: float) -> None:
        """Gets ready for `work`; a worker keeps its share for life."""
        self._workplace = workplace_of(self._experiment, ray.get(data[0]), gpu=gpu_share)

    def work(self, work: Assignment, grant: Grant) -> TrialRecord:
        """Runs an assignment and writes its record.

        Raises:
            OutOfMemory: a larger share of the GPU may do.
        """
        return run_trial(work, self._experiment, self._folder, self._workplace, grant)

    def step(self) -> dict[str, Any]:
        """Runs every assignment that the Ray trial has to do.

        Raises:
            OutOfMemory: the worker ends here, so that the next trial starts with clean memory.
        """
        grant = Grant(self.config["gpu_share"], self.config["out_of_memory"])
        for work in assignments(self.config):
            # What Ray's dashboard and `ps` call the process until the step ends.
            ray._raylet.setproctitle(f"ray::{work.label}")
            write_heartbeat(self._folder, work.trial_id, own_heartbeat(self._node_id))
            try:
                metrics = self.work(work, grant).metrics()
                end_heartbeat(self._folder, work.trial_id)
            except OutOfMemory:
                write_heartbeat(self._folder, work.trial_id, own_heartbeat(self._node_id, out_of_memory=True))
                raise
        shown = {name: metrics[name] for name in self._experiment.objectives if name in metrics}
        return {"done": True, **{name: value for name, value in shown.items() if math.isfinite(value)}}

    def __repr__(self) -> str:
        """Says what Ray's dashboard shows of the actor, once: a worker runs many trials."""
        return f"trials of {self._experiment.name}"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Accepts the next trial, which needs nothing new."""
        return True
