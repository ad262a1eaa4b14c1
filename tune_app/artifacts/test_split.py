"""The test split, once, for the baseline and the runs of the frontier's points only. Selection never sees it."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

from trainables.errors import ConfigError
from trainables.results import Scores
from trainables.storage import StoragePath
from tune_app.frontier.points import frontier, group_runs
from tune_app.ledger.baseline import BaselineInfo, read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.reading import name_damaged, read_ledger, verified_artifact
from tune_app.ledger.test_results import HeldOut, read_held_out, store_held_out
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.at_rest import ledger_state, settle
from tune_app.tables.totals import totals_of
from tune_app.terminal.progress import track
from tune_app.terminal.shell import command

if TYPE_CHECKING:
    from trainables.data.images import Images
    from trainables.device import Device

    TestSplit = Callable[[], tuple[Images, Device]]
    """Loads the test split when it is first called."""


@dataclass(frozen=True)
class Final:
    """Test results of the baseline and of every complete run of each frontier point."""

    baseline: HeldOut
    frontier: list[dict[str, HeldOut]]
    """For each point the results of its runs, by trial id."""
    gap: float
    """Validation minus test accuracy, of the points' means, mean over the frontier: what choosing on validation images
    flatters, and more."""
    baseline_gap: float
    """Validation minus test accuracy of the baseline, which the search did not choose."""


def finalize(folder: ExperimentFolder) -> Final:
    """Evaluates what has no test result yet, decoding every artifact from its bytes, and rewrites the tables.

    Raises:
        ConfigError: there is nothing to evaluate, or the data set is not at hand.
        CorruptFile: an artifact is not the file that was measured.
        LeaseHeld: a search is running on this experiment.
    """
    with Lease(folder) as lease:
        spec, baseline, seen = folder.read_spec(), read_baseline(folder), ledger_state(folder)
        records, damaged = read_ledger(folder)
        name_damaged(damaged)
        front = [group.complete for group in frontier(group_runs(records, spec), spec)]
        if baseline is None or not front:
            raise ConfigError(f"{folder.path} has no frontier yet: run `tune-app run` first.")
        runs = [run for point in front for run in point]
        tested = track([None, *runs], "evaluating on the test split", total=1 + len(runs))
        split = cache(partial(_load_test_split, spec))
        found = [
            _test_baseline(split, folder, baseline) if r is None else _test_record(r, split, folder) for r in tested
        ]
        corner = baseline.reference(spec)
        totals = totals_of(records, spec, corner)
        settle(lease, records, spec, totals, reference=corner, seen=None if damaged else seen)
    reference, known = found[0], {r.assignment.trial_id: f for r, f in zip(runs, found[1:], strict=True)}
    results = [{run.assignment.trial_id: known[run.assignment.trial_id] for run in point} for point in front]
    gaps = [
        statistics.fmean(r.metrics()["accuracy"] - known[r.assignment.trial_id].accuracy for r in point)
        for point in front
    ]
    return Final(reference, results, gap=statistics.fmean(gaps), baseline_gap=baseline.accuracy - reference.accuracy)


def require_tested(folder: ExperimentFolder, record: TrialRecord | None) -> None:
    """Raises ConfigError where `finalize` has not evaluated a trial, or the baseline (None), on the test split.

    Raises:
        CorruptFile: the result is not what was written.
    """
    if record is None:
        place, whose = folder.baseline_file.parent, "the baseline"
    else:
        place, whose = folder.artifacts / record.assignment.trial_id, record.assignment.label
    if read_held_out(place) is None:
        raise ConfigError(
            f"{whose} has no result on the test split, which is read once, after the search, for the baseline and the "
            f"frontier alone: run `{command('finalize', folder.path)}`, or choose a point of the frontier."
        )


def _load_test_split(spec: ExperimentSpec) -> "tuple[Images, Device]":
    """Loads the test split to the device that evaluates."""
    from trainables.data.data_sets import load_test_images
    from trainables.device import choose_device

    device = choose_device(gpu_share=1)
    return load_test_images(spec.base.data, device.torch), device


def _test_record(record: TrialRecord, split: "TestSplit", folder: ExperimentFolder) -> HeldOut:
    """Returns the test result of a run, whose packed file must be the one that was measured."""
    from trainables.measure import packed_scores

    content = verified_artifact(record, folder)
    place = folder.artifacts / record.assignment.trial_id
    return _tested(place, split, lambda images, device: packed_scores(content, images, device))


def _test_baseline(split: "TestSplit", folder: ExperimentFolder, baseline: BaselineInfo) -> HeldOut:
    """Returns the test result of the baseline."""
    from trainables.stages.files import read_stage
    from trainables.train.evaluation import score

    def scores(images: "Images", device: "Device") -> Scores:
        return score(device.place(read_stage(folder.stages / baseline.key).model()), images)

    return _tested(folder.baseline_file.parent, split, scores)


def _tested(place: StoragePath, split: "TestSplit", scores: "Callable[[Images, Device], Scores]") -> HeldOut:
    """Returns the result that is stored in a folder, or measures the scores on the test split and stores them."""
    known = read_held_out(place)
    if known is not None:
        return known
    images, device = split()
    return store_held_out(place, HeldOut(**vars(scores(images, device)), n=len(images)))
