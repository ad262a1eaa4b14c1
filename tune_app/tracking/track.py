"""`track` shows a tracker what an experiment holds now, and only what it has not seen."""

from dataclasses import dataclass, replace

from trainables.storage import Lock
from tune_app.errors import LeaseHeld
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.trackers import AnyTracker
from tune_app.terminal.progress import doing
from tune_app.tracking.confusion import knee_confusion
from tune_app.tracking.follow import BASELINE, Follower
from tune_app.tracking.overview import read_overview
from tune_app.tracking.places import lock_place, offline_place, open_memory, open_tracker


@dataclass(frozen=True)
class Shown:
    """What a tracker was shown by one call."""

    kind: str
    destination: str
    runs: int
    """Number of runs that ended and are shown now."""
    new: int
    """Number of these runs that were not shown before."""
    files: str = ""
    """The folder of W&B's offline runs, which can be sent later; empty for other trackers."""


def track(
    folder: ExperimentFolder,
    config: AnyTracker,
    *,
    again: bool = False,
    confusion: bool = True,
) -> Shown:
    """Shows every run of an experiment that runs, ended or was interrupted, and the overview, to a tracker.

    With `again` as if nothing had been shown before. With `confusion` the overview has the confusion matrix of the
    frontier's knee, if the data set is at hand.

    Raises:
        ConfigError: the tracker's library or key is missing.
        LeaseHeld: a search shows it to the same tracker now.
        TrackerUnavailable: the tracker does not answer; what was shown is remembered.
    """
    lock = Lock(lock_place(folder, config.kind))
    if not lock.try_acquire():
        raise LeaseHeld(f"{folder.path} is being shown to {config.kind} by the search that runs: wait for its end.")
    try:
        tracker, _ = open_tracker(config, folder, fall_back=False)
        memory = open_memory(folder, config.kind, tracker.destination, again=again)
        follower = Follower(folder, tracker, memory)
        new = follower.look()
        overview = read_overview(folder)
        if confusion and follower.wants(overview.content + 1):
            overview = replace(overview, confusion=knee_confusion(folder, overview))
        with doing(f"showing the overview to {config.kind}"):
            follower.show(overview)
            follower.close()
        files = str(offline_place(folder)) if tracker.destination == "offline" else ""
        return Shown(config.kind, tracker.destination, len(follower.done - {BASELINE}), new, files)
    finally:
        lock.release()
