"""Names of trials' tasks: Ray's dashboard lists what runs, and counts what has ended, by the name of a task."""

from typing import Any

from ray import tune


class NamesTasks(tune.Callback):  # type: ignore[misc]
    """Calls the task that runs a trial by the trial's name, `p30_w4_a8`; Tune calls all of them by a method's name."""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Names the task that Tune is about to send."""
        actor = trial.temporary_state.ray_actor
        vars(actor)[_NextCall.method] = _NextCall(actor, trial.config["name"])


class _NextCall:
    """Stands for an actor's method, once: the handle then has its own again, and is not kept alive by this."""

    method = "train"

    def __init__(self, actor: Any, name: str) -> None:
        self._actor, self._name = actor, name

    def remote(self, *arguments: Any, **named: Any) -> Any:
        del vars(self._actor)[self.method]
        return getattr(self._actor, self.method).options(name=self._name).remote(*arguments, **named)
