"""Makes one trial again from nothing, and says whether it gives the same file."""

import re
from dataclasses import dataclass

from trainables.errors import ConfigError, InfeasiblePoint
from trainables.results import Completed
from trainables.storage import StoragePath, exists, replace, storage_path
from tune_app.artifacts.export import experiment_data
from tune_app.engine.baseline import make_baseline
from tune_app.engine.trial import run_trial, workplace_of
from tune_app.errors import SearchAborted
from tune_app.ledger.baseline import require_baseline
from tune_app.ledger.folder import ExperimentFolder, stored_text
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.reading import find_trial
from tune_app.spec.experiment import NAME
from tune_app.stages.epochs import epochs_by_stage, epochs_done
from tune_app.terminal.progress import doing, following


@dataclass(frozen=True)
class Reproduction:
    """What came out when a trial was made again: both records, and the new packed file."""

    first: TrialRecord
    again: TrialRecord
    artifact: StoragePath

    @property
    def same_file(self) -> bool:
        """Whether both packed files are equal, byte for byte."""
        first, again = self.first.result, self.again.result
        assert isinstance(first, Completed) and isinstance(again, Completed), "both have a result"  # noqa: PT018
        return first.artifact_sha256 == again.artifact_sha256

    @property
    def changed(self) -> list[str]:
        """Returns what is different in the environment, such as "torch: 2.14.0 → 2.15.0"."""
        old, new = self.first.environment, self.again.environment
        return [f"{name}: {old.get(name)} → {new.get(name)}" for name in new if old.get(name) != new.get(name)]


def again_name(record: TrialRecord) -> str:
    """Returns the name of the experiment that makes a trial again: the label, as far as names allow, with -again."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", record.assignment.label) + "-again"
    return name if re.match(NAME, name) else f"{record.assignment.trial_id}-again"


def reproduce(folder: ExperimentFolder, name: str, target: StoragePath | None = None) -> Reproduction:
    """Makes baseline, stages and packed file of a trial once more in a new folder, in this process.

    Nothing of the experiment is read but its spec and the trial's record; `name` is the trial's, as in `find_trial`.
    The target, a folder that is not there yet, becomes an experiment of this one trial. None: `again_name`, here.

    Raises:
        ConfigError: there is no such trial, the target exists or can be no experiment's folder, or the data set is
            another one.
        SearchAborted: the trial failed this time.
        TrialFailure: the baseline failed.
        StorageUnavailable: the target cannot be written.
    """
    first = find_trial(folder, name)
    target = _new_place(storage_path(again_name(first)) if target is None else target)
    # The last part of the path is the name of an experiment.
    spec = folder.read_spec().model_copy(update={"storage": str(target.parent), "name": target.name})
    with doing("loading data"):
        data = experiment_data(folder)
    work = first.assignment
    try:
        config = spec.trial(work.params, work.rung, repeat=work.repeat)
    except InfeasiblePoint as err:
        raise ConfigError(f"{work.label} cannot be made again: {err}.") from err
    copy = ExperimentFolder(spec.folder)
    replace(copy.spec_file, stored_text(spec))
    epochs = epochs_by_stage(config, fingerprint=data.fingerprint)
    with following(
        f"training {work.label} again, epochs",
        total=sum(epochs.values()),
        done=lambda: epochs_done(copy.stages, epochs),
    ):
        make_baseline(spec, data, threads=require_baseline(folder).threads)
        again = run_trial(work, spec, copy, workplace_of(spec, data))
    if not isinstance(again.result, Completed):
        raise SearchAborted(f"{first.assignment.label} gave no result this time: {again.reason}")
    return Reproduction(first, again, copy.packed_file(again.assignment.trial_id))


def _new_place(target: StoragePath) -> StoragePath:
    """Returns a folder that can become an experiment's, or refuses it."""
    if not re.match(NAME, target.name):
        raise ConfigError(
            "a folder for one trial is an experiment, and its name must have letters, digits, '.', '_' and '-' alone, "
            f"64 at most, but got {target.name!r}."
        )
    if exists(target):
        raise ConfigError(f"{target} exists: give a new folder.")
    return target
