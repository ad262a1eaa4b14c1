"""Which tracker a configuration means, and where its own files lie (each library is imported on use)."""

import importlib.util
import os
import socket
from pathlib import Path

from trainables.errors import ConfigError
from trainables.storage import StoragePath
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.trackers import AnyTracker, MlflowConfig, TensorBoardConfig
from tune_app.tracking.memory import Memory
from tune_app.tracking.protocol import Tracker
from tune_app.tracking.wandb_connection import OFFLINE, connect

NEEDS = {
    "wandb": ("wandb", "wandb"),
    "tensorboard": ("tensorboardX", "tensorboardX"),
    "mlflow": ("mlflow", "tune-app[mlflow]"),
}
"""By kind of tracker its module, and what to install for it."""


def check_installed(config: AnyTracker) -> None:
    """Checks that the library of a tracker is installed.

    Raises:
        ConfigError: it is not.
    """
    module, package = NEEDS[config.kind]
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:  # a folder of this name, in which MLflow or W&B left something
        raise ConfigError(f"tracking by {config.kind} needs {module}, which is not installed: pip install '{package}'.")


def open_tracker(
    config: AnyTracker, folder: ExperimentFolder, *, fall_back: bool, finish_s: float = 0.0
) -> tuple[Tracker, str]:
    """Returns the tracker, and a warning if it is not quite what was asked for.

    With `fall_back` W&B that cannot be used now is used offline. The last data of a run may take `finish_s` seconds to
    be sent; 0: as long as it takes.

    Raises:
        ConfigError: its library or its key is missing.
        TrackerUnavailable: it does not answer.
    """
    check_installed(config)
    place = local_place(folder)
    if isinstance(config, TensorBoardConfig):
        from tune_app.tracking.tensorboard_tracker import TensorBoardTracker

        return TensorBoardTracker(Path(config.folder) if config.folder else place / config.kind), ""
    if isinstance(config, MlflowConfig):
        from tune_app.tracking.mlflow_tracker import MlflowTracker

        return MlflowTracker(config.uri, folder.read_spec().name, place), ""
    from tune_app.tracking.wandb_tracker import WandbTracker

    connection = connect(config, fall_back=fall_back)
    where = f"; runs are written to {offline_place(folder)}" if connection.warning else ""
    return WandbTracker(config, place, connection, finish_s=finish_s), connection.warning + where


def open_memory(folder: ExperimentFolder, kind: str, destination: str, *, again: bool = False) -> Memory:
    """Returns the memory of what a destination was shown of an experiment.

    What W&B wrote offline outside of the experiment's folder is at this place of this machine alone.
    """
    place = offline_place(folder)
    if destination == OFFLINE and place.parent != folder.tracking:
        destination = f"{OFFLINE} in {place.resolve()} on {socket.gethostname()}"
    return Memory(folder.tracking / f"{kind}.json", destination, again=again)


def lock_place(folder: ExperimentFolder, kind: str) -> StoragePath:
    """Returns the lock for the one process at a time that shows an experiment to a tracker."""
    return folder.tracking / "locks" / kind


def local_place(folder: ExperimentFolder) -> Path:
    """Returns where trackers write files: in the experiment, or in a folder of its name here if it is in a bucket."""
    return folder.tracking if isinstance(folder.tracking, Path) else Path("tracking") / folder.path.name


def offline_place(folder: ExperimentFolder) -> Path:
    """Returns where W&B keeps runs that can be sent later: below WANDB_DIR, if that is set."""
    return Path(os.environ.get("WANDB_DIR") or local_place(folder)) / "wandb"
