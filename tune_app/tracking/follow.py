"""Follower: replays an experiment's files into a tracker, each run and each epoch once.

The ledger and the stages hold everything that a tracker is shown, so nothing runs in a trial's process, and it works
the same beside a search, after it, and after one that was interrupted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.results import Completed
from trainables.storage import exists, names, redact
from tune_app.ledger.baseline import caveat, read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord
from tune_app.terminal.progress import track
from tune_app.tracking.curves import Curves, Started
from tune_app.tracking.hyperparameters import hyperparameters, trial_hyperparameters, varied
from tune_app.tracking.memory import Memory
from tune_app.tracking.overview import NAME
from tune_app.tracking.protocol import Artifact, Overview, RunEnd, RunInfo, TrackedRun, Tracker, Value

BASELINE = "baseline"
"""The name of the baseline's run."""
FEW = 20
"""New records above this number are read in one pass over the ledger, fewer of them one by one."""


@dataclass
class _Shown:
    """A run that was begun at the tracker, and the last of its steps that was shown."""

    run: TrackedRun
    step: int


class Follower:
    """Shows one tracker what happens in one experiment."""

    def __init__(self, folder: ExperimentFolder, tracker: Tracker, memory: Memory, *, done: Iterable[str] = ()) -> None:
        """Opens an experiment for a tracker; the trials in `done` were shown elsewhere and are not shown again."""
        self._folder, self._tracker, self._memory = folder, tracker, memory
        self._spec = folder.read_spec()
        self._curves = Curves(folder, self._spec)
        self._open: dict[str, _Shown] = {}
        self._damaged: set[str] = set()
        self._overview = 0
        self.done = memory.done() | set(done)
        """What needs nothing more: ids of trials, and the baseline."""

    def look(self) -> int:
        """Shows what is new; returns the number of runs that ended.

        Raises:
            TrackerUnavailable: the tracker stopped answering; what was shown is remembered.
            StorageUnavailable: the experiment's folder does not answer.
        """
        started = self._curves.started()
        records = self._new_records()
        try:
            self._show_baseline()
            for record in track(records, "showing runs", total=len(records)):
                self._finish(record, started)
            if self._tracker.live:
                self._catch_up_all()
        finally:
            self._memory.save()
        return len(records)

    def show(self, overview: Overview) -> None:
        """Shows the experiment as a whole, unless it was shown as it is.

        Raises:
            TrackerUnavailable: as in `look`.
        """
        if overview.records and self.wants(overview.content):
            self._tracker.show(overview)
            self._overview = overview.content

    @property
    def live(self) -> bool:
        """Whether somebody may be looking at the tracker now."""
        return self._tracker.live

    def wants(self, content: int) -> bool:
        """Whether an overview of this content says something else than the last one, or more."""
        last = self._overview or self._memory.step(NAME)
        return content > last or content // 2 != last // 2

    def close(self) -> None:
        """Leaves the runs that are not done, and remembers what was shown.

        Raises:
            TrackerUnavailable: as in `look`.
        """
        self._catch_up_all()
        for trial_id, shown in self._open.items():
            shown.run.leave()
            self._memory.note(trial_id, shown.step)
        self._open = {}
        self._tracker.close()
        if self._overview:
            self._memory.note(NAME, self._overview)
        self._memory.save()

    def _show_baseline(self) -> None:
        """Shows the baseline as a run of its own, once it is made."""
        made = None if BASELINE in self.done else read_baseline(self._folder)
        if made is None:
            return
        epochs = self._curves.of_baseline(made.key)
        known = hyperparameters(self._spec.base).items()
        config = {path: value for path, value in known if path.startswith(("baseline.", "data."))}
        run = self._tracker.open(self._run_info(BASELINE, BASELINE, BASELINE, config))
        run.log([epoch for epoch in epochs if epoch.step > (run.last_step or 0)])
        run.finish(RunEnd("complete", made.metrics(), {"seconds": made.seconds}))
        self.done.add(BASELINE)
        self._memory.note(BASELINE, len(epochs), done=True)

    def _new_records(self) -> list[TrialRecord]:
        """Returns the records that were not shown, in order of proposal; a damaged one is left out."""
        found = {name.removesuffix(".json") for name in names(self._folder.trials, "*.json")}
        new = found - self.done - self._damaged
        ledger = Ledger(self._folder.trials)
        every = ledger.read()[0] if len(new) > FEW else [ledger.find(trial_id) for trial_id in sorted(new)]
        records = [record for record in every if record is not None and record.assignment.trial_id in new]
        self._damaged |= new - {record.assignment.trial_id for record in records}
        return sorted(records, key=lambda r: (r.assignment.number, r.assignment.attempt))

    def _at_work(self) -> list[Assignment]:
        """Returns the trials that have begun and have no record, as the driver and the workers say."""
        begun = {name.removesuffix(".json") for name in names(self._folder.heartbeats, "*.json")} - self.done
        if not begun:
            return []
        return [work for work in Lease(self._folder).in_flight() if work.trial_id in begun]

    def _finish(self, record: TrialRecord, started: Started) -> None:
        trial_id = record.assignment.trial_id
        shown = self._catch_up(record.assignment, started, begin=True)
        assert shown is not None, "a run that ends has begun"
        shown.run.finish(_end(record, self._folder))
        self._open.pop(trial_id)
        self.done.add(trial_id)
        self._memory.note(trial_id, shown.step, done=True)

    def _catch_up_all(self) -> None:
        started = self._curves.started()
        for work in self._at_work():
            self._catch_up(work, started)

    def _catch_up(self, work: Assignment, started: Started, *, begin: bool = False) -> _Shown | None:
        """Shows the epochs of a trial that are new; its run begins with the first of them, or when `begin` says so."""
        epochs, known = self._curves.of(work, started), self._memory.step(work.trial_id)
        shown = self._open.get(work.trial_id)
        if shown is None and (begin or any(epoch.step > known for epoch in epochs)):
            run = self._tracker.open(self._info(work))
            # The tracker's own word counts more: what was sent may not have arrived.
            shown = self._open[work.trial_id] = _Shown(run, known if run.last_step is None else run.last_step)
        if shown is None:
            return None
        new = [epoch for epoch in epochs if epoch.step > shown.step]
        if new:
            shown.run.log(new)
            shown.step = new[-1].step
            if self._tracker.live:
                self._memory.note(work.trial_id, shown.step)
        return shown

    def _info(self, work: Assignment) -> RunInfo:
        return self._run_info(work.trial_id, work.label, "trial", trial_hyperparameters(self._spec, work))

    def _run_info(self, run_id: str, name: str, kind: str, config: Mapping[str, Value]) -> RunInfo:
        return RunInfo(
            run_id=f"{self._spec.name}-{run_id}",
            name=name,
            group=self._spec.name,
            kind=kind,
            config=config,
            caveat=caveat(self._spec),
            varied=varied(self._spec),
            objectives=tuple(dict.fromkeys([*self._spec.objectives, *self._spec.metrics])),
        )


def _end(record: TrialRecord, folder: ExperimentFolder) -> RunEnd:
    result = record.result
    facts: dict[str, Value] = {
        **record.environment,
        "started_at": record.started_at,
        "seconds": record.seconds,
        "stages": ", ".join(stage.kind for stage in result.stages),
        "stages_cached": ", ".join(stage.kind for stage in result.stages if stage.cached),
    }
    if record.reason:
        facts["reason"] = redact(record.reason)
    parts = {} if result.measurement is None else result.measurement.size_breakdown
    metrics = {**record.measured(), **{f"size/{part}": float(size) for part, size in parts.items()}}
    return RunEnd(record.state, metrics, facts, _artifact(record, folder))


def _artifact(record: TrialRecord, folder: ExperimentFolder) -> Artifact | None:
    """Returns the packed file of a trial; None if there is none, it was removed, or it lies in the experiment that it
    was taken over from."""
    path, result = folder.packed_file(record.assignment.trial_id), record.result
    if not isinstance(result, Completed) or not exists(path):
        return None
    uri, file = (path.resolve().as_uri(), path) if isinstance(path, Path) else (redact(str(path)), None)
    return Artifact(uri, result.artifact_sha256, result.measurement.size_bytes, file)
