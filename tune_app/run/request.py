"""What a run is asked for beside its spec: another budget, an experiment to learn from, and where its trials run."""

from typing import TYPE_CHECKING

from trainables.errors import ConfigError
from trainables.storage import StoragePath
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import MAX_TRIALS, ExperimentSpec

if TYPE_CHECKING:
    from tune_app.engine.engine import Engine


def with_trials(spec: ExperimentSpec, trials: int | None) -> ExperimentSpec:
    """Returns a spec as if it had this number of trials in its budget; None: as it is.

    Raises:
        ConfigError: no budget has so many.
    """
    if trials is None:
        return spec
    if type(trials) is not int:  # a notebook gives anything
        raise ConfigError(f"trials must be a whole number, but got {trials!r}.")
    if not 1 <= trials <= MAX_TRIALS:
        raise ConfigError(f"1 <= trials <= {MAX_TRIALS:,} must hold, but got {trials:,}.")
    budget = spec.budget.model_copy(update={"trials": trials})
    written = {name: getattr(spec, name) for name in spec.model_fields_set}  # what is not written may follow from it
    return ExperimentSpec.model_validate({**written, "budget": budget})


def start_from(spec: ExperimentSpec, place: str | StoragePath | None) -> ExperimentFolder | None:
    """Finds the experiment that a run of a spec is to learn from; None: from none.

    Raises:
        ConfigError: the place holds no experiment, or this very one.
    """
    if place is None:
        return None
    other = ExperimentFolder.existing(place)
    if other.path.resolve() == spec.folder.resolve():
        raise ConfigError(f"the warm start names this experiment itself ({other.path}): name another one.")
    return other


def engine_for(*, in_process: bool, dashboard: bool = False, address: str = "") -> "Engine | None":
    """Returns the engine that was asked for; None is the usual one, which is imported when there is something to do.

    Args:
        in_process: without Ray, one trial after the other in this process.
        dashboard: a Ray that is started here gets its dashboard.
        address: of the head of a Ray cluster, as in `head:6379`; empty: RAY_ADDRESS.

    Raises:
        ConfigError: what only Ray has is wanted without Ray.
    """
    if in_process and (dashboard or address):
        what, without = ("address", "in_process") if address else ("--dashboard", "--in-process")
        raise ConfigError(f"{what} is Ray's, and {without} runs without Ray: choose one of them.")
    if in_process:
        from tune_app.engine.in_process import InProcess

        return InProcess()
    if dashboard or address:
        from tune_app.on_ray.engine import OnRay

        return OnRay(dashboard=dashboard, address=address)
    return None
