"""run_search: start and resume are this one path — lease, baseline, replay, search, tables."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console

from trainables.errors import ConfigError
from trainables.results import SCORES
from trainables.storage import exists, remove_tree
from tune_app.engine.engine import Engine, ReadySearch
from tune_app.engine.live_view import LiveView, Status
from tune_app.engine.stop_signal import StopSignal
from tune_app.errors import SearchAborted
from tune_app.ledger.baseline import BaselineInfo, read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Damaged, Ledger, TrialRecord, in_full, latest
from tune_app.ledger.measured import refuse_undefined, refuse_unmeasured
from tune_app.ledger.reading import without_file
from tune_app.ledger.versions import refuse_other_versions
from tune_app.run.outcome import Outcome
from tune_app.run.stored_spec import claim
from tune_app.run.warm_start import compare, take_over
from tune_app.search.bounds import open_bounds
from tune_app.search.keys import remembered_keys, steps_of
from tune_app.search.proposer import Proposer
from tune_app.search.repeats import wants_repeats
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.trials import rows_without_record, tables_are_current, write_tables
from tune_app.tracking.beside import tracked


def run_baseline(spec: ExperimentSpec, *, engine: Engine | None = None, console: Console | None = None) -> BaselineInfo:
    """Makes the experiment's baseline, or finds it; on Ray unless another engine is given.

    Raises:
        TuneAppError: see the leaves in `trainables.errors` and `tune_app.errors`.
        Interrupted: SIGINT or SIGTERM; the same call goes on from the last epoch.
    """
    folder = ExperimentFolder(spec.folder)
    console = console or Console(stderr=True)
    with _experiment(spec, folder, console), LiveView(Status(spec), console=console, stages=folder.stages) as view:
        known = read_baseline(folder)
        if known is not None:
            return known
        engine = engine or _on_ray()
        with engine.session():
            return engine.prepare(spec, view)[0]


def run_search(
    spec: ExperimentSpec,
    *,
    engine: Engine | None = None,
    warm_start: ExperimentFolder | None = None,
    console: Console | None = None,
    retry_failed: bool = False,
) -> Outcome:
    """Runs what is left of the budget, first taking over what another experiment found out.

    Trials run on Ray unless another engine is given. With `retry_failed`, trials that failed by an error or a lost
    worker run once more, each as a new attempt.

    Raises:
        TuneAppError: see the leaves in `trainables.errors` and `tune_app.errors`.
        Interrupted: SIGINT or SIGTERM; the same call goes on where this one stopped.
    """
    folder, console = ExperimentFolder(spec.folder), console or Console(stderr=True)
    with (
        _experiment(spec, folder, console) as lease,
        tracked(spec, folder, console),
        LiveView(Status(spec), console=console, stages=folder.stages) as view,
    ):
        ledger, known = Ledger(folder.trials), read_baseline(folder)
        records, damaged = ledger.read()
        current = not damaged and tables_are_current(folder)
        removed = [] if current else rows_without_record(folder)
        ledger.quarantine(damaged)
        newest, quarantined = latest(records), [d.path.name for d in damaged]
        refuse_other_versions(newest, spec)
        if known is not None and _is_spent(newest, spec, retry_failed=retry_failed):  # nothing to do needs no cluster
            if not current:
                write_tables(lease, newest, spec, reference=known.reference(spec))
            _refuse_empty(newest, spec)
            why, gone = f"{spec.budget.trials} trials", without_file(folder, newest)
            return Outcome(folder, known, newest, 0, quarantined, why, removed=removed, without_file=gone)
        engine = engine or _on_ray()
        with engine.session():
            baseline, data = engine.prepare(spec, view)
            proposer = _replay(spec, folder, baseline, lease, warm_start, view, retry_failed=retry_failed)
            before, started = len(proposer.records), time.monotonic()
            engine.run(ReadySearch(spec, folder, lease, proposer, baseline, view), data)
            seconds = time.monotonic() - started
        records, damaged = _still_there(proposer.records, folder)
    _refuse_empty(proposer.records, spec)
    return Outcome(
        folder,
        baseline,
        records,
        new=len(proposer.records) - before,
        quarantined=quarantined,
        why=proposer.done or "every point of the space",
        seconds=seconds,
        removed=removed,
        damaged=damaged,
        without_file=without_file(folder, records),
    )


def _on_ray() -> Engine:
    """Imports Ray, which takes seconds, where there is something to do."""
    with StopSignal():  # an exception out of a long import may get lost
        from tune_app.on_ray.engine import OnRay

    return OnRay()


def _is_spent(records: list[TrialRecord], spec: ExperimentSpec, *, retry_failed: bool) -> bool:
    if retry_failed and any(r.state == "failed" for r in records):
        return False
    return in_full(records) >= spec.budget.trials and not wants_repeats(records, spec)


def _replay(
    spec: ExperimentSpec,
    folder: ExperimentFolder,
    baseline: BaselineInfo,
    lease: Lease,
    warm_start: ExperimentFolder | None,
    view: LiveView,
    *,
    retry_failed: bool,
) -> Proposer:
    """Returns a proposer that knows every record, of this experiment and of the one that it starts from."""
    key_of = remembered_keys(spec, baseline.fingerprint)
    advice: list[TrialRecord] = []
    if warm_start is not None:
        found = compare(Ledger(warm_start.trials).read()[0], warm_start.read_spec(), spec, key_of)
        taken, advice = take_over(found.results, warm_start, folder), found.advice
        view.phase(f"{warm_start.path}: {taken} results taken over, {len(advice)} records as advice")
    return Proposer(
        spec,
        key_of=key_of,
        steps_of=lambda params, rung: steps_of(spec, baseline.fingerprint, params, rung),
        reference=baseline.reference(spec),
        records=Ledger(folder.trials).read()[0],
        in_flight=lease.in_flight(),
        advice=advice,
        bounds=open_bounds(spec, baseline.architecture),
        retry_failed=retry_failed,
    )


def _still_there(records: Sequence[TrialRecord], folder: ExperimentFolder) -> tuple[list[TrialRecord], list[Damaged]]:
    """Reads the ledger again at the end: returns the records that are there, and what is in the place of others."""
    stored, damaged = Ledger(folder.trials).read()
    known = {record.assignment.trial_id for record in stored}
    gone = [record.assignment.trial_id for record in records if record.assignment.trial_id not in known]
    harmed = {file.path.stem for file in damaged}
    damaged += [Damaged(folder.trials / f"{name}.json", f"{name}.json: removed") for name in gone if name not in harmed]
    return [record for record in records if record.assignment.trial_id in known], damaged


def _refuse_empty(records: list[TrialRecord], spec: ExperimentSpec) -> None:
    if any(r.state == "complete" for r in records) or not records:
        return
    reason, count = Counter(r.reason for r in records).most_common(1)[0]
    raise SearchAborted(f"none of {len(records)} trials of {spec.name!r} completed; {count} ended with: {reason}")


def _refuse_unmeasured(spec: ExperimentSpec, folder: ExperimentFolder) -> None:
    """Refuses what cannot be judged by, before the stored spec changes; most specs are known to be well."""
    if (baseline := read_baseline(folder)) is not None:
        refuse_undefined(spec, classes=baseline.classes)
        if {*spec.metrics} & {*SCORES} - {"accuracy"}:
            refuse_unmeasured(spec, latest(Ledger(folder.trials).read()[0]))


@contextlib.contextmanager
def _experiment(spec: ExperimentSpec, folder: ExperimentFolder, console: Console) -> Iterator[Lease]:
    """Holds the lease on a claimed experiment. Input that is refused before anything ended leaves no folder."""
    existed = exists(folder.path)
    try:
        with Lease(folder) as lease:
            _refuse_unmeasured(spec, folder)
            changed = claim(folder, spec)
            if changed:
                console.print(f"changed since the last run: {'; '.join(changed)}", highlight=False, soft_wrap=True)
            yield lease
    except ConfigError:
        if not existed and read_baseline(folder) is None:
            remove_tree(folder.path)
        raise
