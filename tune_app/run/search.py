"""run_search: start and resume are this one path — lease, baseline, replay, search, tables."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

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
from tune_app.ledger.ledger import Ledger, Params, TrialRecord, latest
from tune_app.ledger.measured import refuse_undefined, refuse_unmeasured
from tune_app.run.outcome import Outcome
from tune_app.run.stock import Stock, settle_search, take_stock
from tune_app.run.stored_spec import claim
from tune_app.run.warm_start import compare, take_over
from tune_app.search.bounds import open_bounds
from tune_app.search.keys import remembered_keys, steps_of
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.at_rest import recall, settle
from tune_app.tables.totals import Totals
from tune_app.tables.trials import rows_without_file
from tune_app.terminal.progress import note
from tune_app.tracking.beside import tracked


def run_baseline(spec: ExperimentSpec, *, engine: Engine | None = None, console: Console | None = None) -> BaselineInfo:
    """Makes the experiment's baseline, or finds it; on Ray unless another engine is given.

    Raises:
        TuneAppError: see the leaves in `trainables.errors` and `tune_app.errors`.
        Interrupted: SIGINT or SIGTERM; the same call goes on from the last epoch.
    """
    folder = ExperimentFolder(spec.folder)
    console = console or Console(stderr=True)
    with _experiment(spec, folder, console), LiveView(Status(spec), console=console) as view:
        known = read_baseline(folder)
        if known is not None:
            return known
        _refuse_misfits(spec)
        engine = engine or _on_ray()
        with engine.session(spec):
            return engine.prepare(spec, view)[0]


def run_search(
    spec: ExperimentSpec,
    *,
    engine: Engine | None = None,
    warm_start: ExperimentFolder | None = None,
    console: Console | None = None,
    retry_failed: bool = False,
    only: Sequence[Params] = (),
) -> Outcome:
    """Runs what is left of the budget, first taking over what another experiment found out.

    Trials run on Ray unless another engine is given. With `retry_failed`, trials that failed by an error or a lost
    worker run once more, each as a new attempt. With `only`, these points run in full instead, on the grid or off it.

    Raises:
        ConfigError: `only` names a point that no trial could have.
        TuneAppError: see the leaves in `trainables.errors` and `tune_app.errors`.
        Interrupted: SIGINT or SIGTERM; the same call goes on where this one stopped.
    """
    began, folder, console = time.monotonic(), ExperimentFolder(spec.folder), console or Console(stderr=True)
    for point in only:
        spec.space.check_point(point, spec.base)
    with (
        _experiment(spec, folder, console) as lease,
        tracked(spec, folder, console),
        LiveView(Status(spec, began), console=console) as view,
    ):
        known, stock = read_baseline(folder), take_stock(folder, spec)
        spent = None if known is None or only else _spent(lease, spec, known, stock, retry_failed=retry_failed)
        if known is not None and spent is not None:
            outcome = Outcome(folder, known, spent, new=0, why=f"{spec.budget.trials} trials")
        else:
            if known is None:
                _refuse_misfits(spec)
            outcome = _searched(
                lease, spec, engine or _on_ray(), warm_start, view, retry_failed=retry_failed, only=only
            )
        return replace(
            outcome,
            quarantined=stock.quarantined,
            removed=stock.removed,
            without_file=rows_without_file(folder),
        )


def _searched(
    lease: Lease,
    spec: ExperimentSpec,
    engine: Engine,
    warm_start: ExperimentFolder | None,
    view: LiveView,
    *,
    retry_failed: bool,
    only: Sequence[Params],
) -> Outcome:
    """Runs trials until the search is at its end, and writes the tables; of a part of it too."""
    folder = lease.folder
    with engine.session(spec):
        baseline, data = engine.prepare(spec, view)
        proposer = _replay(spec, folder, baseline, lease, warm_start, view, retry_failed=retry_failed, only=only)
        before, started = len(proposer.records), time.monotonic()
        search = ReadySearch(spec, folder, lease, proposer, baseline, view)
        try:
            engine.run(search, data)
        except BaseException:
            search.tables.now()
            raise
        seconds = time.monotonic() - started
        totals, damaged = settle_search(lease, spec, baseline, proposer.records)
    _refuse_empty(proposer.records, spec)
    return Outcome(
        folder,
        baseline,
        totals,
        new=len(proposer.records) - before,
        why=proposer.done or "every point of the space",
        seconds=seconds,
        damaged=damaged,
        asked=proposer.asked,
    )


def _on_ray() -> Engine:
    """Imports Ray, which takes seconds, where there is something to do."""
    with StopSignal():  # an exception out of a long import may get lost
        from tune_app.on_ray.engine import OnRay

    return OnRay()


def is_spent(totals: Totals, spec: ExperimentSpec, *, retry_failed: bool) -> bool:
    """Whether nothing is left to run: the budget is spent, and no point wants another run or failed and is to run."""
    again = retry_failed and totals.trials.get("failed", 0) > 0
    return totals.done >= spec.budget.trials and not totals.wants_repeats and not again


def _spent(
    lease: Lease, spec: ExperimentSpec, baseline: BaselineInfo, stock: Stock, *, retry_failed: bool
) -> Totals | None:
    """Returns the totals of a search that has nothing more to do, and sees to its tables; None: it goes on."""
    totals = stock.totals(spec, baseline)
    if not is_spent(totals, spec, retry_failed=retry_failed):
        return None
    lease.check()
    if stock.recalled is None:
        reference = baseline.reference(spec)
        settle(lease, stock.records, spec, totals, reference=reference, seen=stock.seen)
        _refuse_empty(stock.records, spec)
    return totals


def _replay(
    spec: ExperimentSpec,
    folder: ExperimentFolder,
    baseline: BaselineInfo,
    lease: Lease,
    warm_start: ExperimentFolder | None,
    view: LiveView,
    *,
    retry_failed: bool,
    only: Sequence[Params],
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
        only=only,
        began=view.status.began,
    )


def _refuse_misfits(spec: ExperimentSpec) -> None:
    """Refuses networks that others trained and that are not for this data set: here, not after the start of Ray."""
    with StopSignal():  # an exception out of a long import may get lost
        from trainables.baseline import refuse_misfit

    refuse_misfit(spec.base.baseline, spec.base.data)
    if spec.base.teacher is not None:
        refuse_misfit(spec.base.teacher, spec.base.data)


def _refuse_empty(records: list[TrialRecord], spec: ExperimentSpec) -> None:
    if any(r.state == "complete" for r in records) or not records:
        return
    reason, count = Counter(r.reason for r in records).most_common(1)[0]
    raise SearchAborted(f"none of {len(records)} trials of {spec.name!r} completed; {count} ended with: {reason}")


def _refuse_unmeasured(spec: ExperimentSpec, folder: ExperimentFolder) -> None:
    """Refuses what cannot be judged by, before the stored spec changes; most specs are known to be well."""
    if (baseline := read_baseline(folder)) is not None:
        refuse_undefined(spec, classes=baseline.classes)
        doubtful = {*spec.metrics} & {*SCORES} - {"accuracy"}
        if doubtful and not (folder.holds(spec) and recall(folder) is not None):
            refuse_unmeasured(spec, latest(Ledger(folder.trials).read()[0]))


@contextlib.contextmanager
def _experiment(spec: ExperimentSpec, folder: ExperimentFolder, console: Console) -> Iterator[Lease]:
    """Holds the lease on a claimed experiment. Input that is refused before anything ended leaves no folder."""
    existed = exists(folder.path)
    with Lease(folder) as lease:
        try:
            _refuse_unmeasured(spec, folder)
            changed = claim(lease, spec)
            if changed:
                note(f"changed since the last run: {'; '.join(changed)}", on=console)
            yield lease
        except ConfigError:
            ours = not existed and lease.generation == 1 and lease.is_held  # before the next one has it
            if ours and read_baseline(folder) is None:
                remove_tree(folder.path)
            raise
