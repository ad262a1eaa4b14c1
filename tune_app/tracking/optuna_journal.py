"""An experiment as an Optuna study, for whatever reads Optuna's journal files, such as optuna-dashboard."""

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from search_spaces.parameters import Value
from search_spaces.rungs import FULL
from trainables.errors import ConfigError
from trainables.storage import StoragePath, exists, read_bytes, refuse_folder, replace
from tune_app.frontier.objectives import judged
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.reading import read_records
from tune_app.spec.experiment import ExperimentSpec
from tune_app.terminal.progress import track

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

WRITTEN_BY = "written_by_tune_app_of"
"""An attribute of the last study in a journal: the experiment that wrote it."""


def write_journal(folder: ExperimentFolder, path: StoragePath) -> dict[str, int]:
    """Writes a journal file and returns the number of trials of each study in it.

    A file that this experiment wrote before is replaced, unless somebody has added to it since.

    The full schedule is a study of the experiment's name, every other rung one of its own (`<name>@<rung>`): values
    of different rungs do not belong together.

    Raises:
        ConfigError: there is another file, or a folder.
        CorruptFile: the stored spec is damaged.
        StorageUnavailable: a file cannot be read or written.
    """
    spec, records = folder.read_spec(), read_records(folder)
    refuse_folder(path, such_as=f"{spec.name}.log")
    if exists(path) and not _is_ours(path, spec):
        raise ConfigError(f"{path} is not what this command wrote, or somebody has added to it: name a new file.")
    import optuna
    from optuna.storages.journal import JournalStorage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    log = _memory_backend()
    storage, counts = JournalStorage(log), {}
    for rung in dict.fromkeys([FULL, *spec.rungs, *(r.assignment.rung for r in records)]):
        found = [r for r in records if r.assignment.rung == rung]
        if found or rung == FULL:
            name = spec.name if rung == FULL else f"{spec.name}@{rung}"
            study = optuna.create_study(storage=storage, study_name=name, directions=list(spec.objectives.values()))
            fill(study, found, spec)
            counts[name] = len(found)
    study.set_user_attr(WRITTEN_BY, spec.name)  # the last line: whoever adds one shows it
    lines = (json.dumps(entry, separators=(",", ":")) for entry in log.entries)
    replace(path, ("\n".join(lines) + "\n").encode())
    return counts


def _is_ours(path: StoragePath, spec: ExperimentSpec) -> bool:
    """Whether a file is a journal that this experiment wrote, and nobody has added to it."""
    try:
        last = json.loads(read_bytes(path).rstrip(b"\n").rpartition(b"\n")[2])
    except ValueError:
        return False
    return isinstance(last, dict) and last.get("user_attr") == {WRITTEN_BY: spec.name}


def fill(study: "optuna.Study", records: Sequence[TrialRecord], spec: ExperimentSpec) -> None:
    """Adds trials of one rung to a study with their parameters, objectives, bounds, times and what else was measured.

    The study has one direction for each objective of the spec. A trial without a usable result is a failed one with
    its reason; parameters keep their own values (what samplers see are indices).
    """
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(spec.objectives))
    seen = distributions((r.assignment.params for r in records), spec)
    shown = track(records, f"writing {study.study_name}", total=len(records))
    study.add_trials(_trial(record, seen, spec) for record in shown)


def distributions(points: Iterable[Mapping[str, Value]], spec: ExperimentSpec) -> dict[str, "BaseDistribution"]:
    """Returns for each parameter a distribution that covers its values, those of points beside the space included."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values: dict[str, dict[Value, None]] = {name: dict.fromkeys(p.values) for name, p in spec.space.root.items()}
    for point in points:
        for name, value in point.items():
            values.setdefault(name, {})[value] = None
    found: dict[str, BaseDistribution] = {}
    for name, known in values.items():
        numbers = [value for value in known if not isinstance(value, str)]
        if len(numbers) < len(known):
            found[name] = CategoricalDistribution(list(known))
        elif all(isinstance(value, int) for value in numbers):
            found[name] = IntDistribution(int(min(numbers)), int(max(numbers)))
        else:
            found[name] = FloatDistribution(float(min(numbers)), float(max(numbers)))
    return found


def _trial(record: TrialRecord, known: Mapping[str, "BaseDistribution"], spec: ExperimentSpec) -> "FrozenTrial":
    from optuna.trial import TrialState, create_trial

    work, metrics = record.assignment, judged(record, spec)
    complete = bool(metrics) and all(math.isfinite(metrics[name]) for name in spec.objectives)
    trial = create_trial(
        state=TrialState.COMPLETE if complete else TrialState.FAIL,
        values=[metrics[name] for name in spec.objectives] if complete else None,
        params=dict(work.params),
        distributions={name: known[name] for name in work.params},
        user_attrs=_attributes(record, spec),
        constraints={str(c): c.violation(metrics[c.metric]) for c in spec.constraints} if complete else None,
    )
    trial.datetime_start, trial.datetime_complete = _times(record)
    return trial


def _attributes(record: TrialRecord, spec: ExperimentSpec) -> dict[str, Any]:
    work = record.assignment
    about = {"label": work.label, "trial_id": work.trial_id, "state": record.state, "seed": work.seed}
    if_any = {name: value for name, value in (("repeat", work.repeat), ("reason", record.reason)) if value}
    measured = {name: value for name, value in record.metrics().items() if name not in spec.objectives}
    return {**about, **if_any, **{name: value for name, value in measured.items() if math.isfinite(value)}}


def _times(record: TrialRecord) -> tuple[datetime, datetime]:
    try:
        began = datetime.fromisoformat(record.started_at)
    except ValueError:  # a text for people: of no matter for the study
        began = datetime.fromtimestamp(0).astimezone()
    return began, began + timedelta(seconds=record.seconds)


def _memory_backend() -> Any:
    """Returns a journal in memory, so that the file appears whole, also in an object store."""
    from optuna.storages.journal import BaseJournalBackend

    class Memory(BaseJournalBackend):
        def __init__(self) -> None:
            self.entries: list[dict[str, Any]] = []

        def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
            return self.entries[log_number_from:]

        def append_logs(self, logs: list[dict[str, Any]]) -> None:
            # Through JSON, as a file would: what is read must not change with what was given.
            self.entries += json.loads(json.dumps(logs))

    return Memory()
