from pathlib import Path

from tests.tune_app.factories import REFERENCE, make_record, make_spec, rehearsal
from tests.tune_app.search.test_ladder import closed_form, drive, make_laddered, open_proposer
from trainables.results import StageRun
from tune_app.ledger.baseline import BaselineInfo
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.run.outcome import Outcome, summary
from tune_app.search.ladder import agreements
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.totals import totals_of

BASELINE = BaselineInfo(
    key="k",
    fingerprint="f",
    accuracy=0.95,
    n=100,
    classes=10,
    parameters=250_000,
    size_bytes=1_000_000,
    macs=1,
    bops=1,
    activation_bytes=1,
    peak_activation_bytes=1,
    seconds=1.0,
)


def make_outcome(spec: ExperimentSpec, records: list[TrialRecord]) -> Outcome:
    totals = totals_of(records, spec, BASELINE.reference(spec))
    return Outcome(ExperimentFolder(spec.folder), BASELINE, totals, len(records), "2 trials")


def test_the_trials_the_frontier_and_the_training_are_counted(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    first, second = make_record(0, {"w_bits": 4}, 0.9, 100), make_record(1, {"w_bits": 8}, 0.8, 200)
    shared = [StageRun(kind="prune", key="p", seconds=30.0, cached=False)]
    first = first.model_copy(update={"result": first.result.model_copy(update={"stages": shared})})
    again = [StageRun(kind="prune", key="p", seconds=0.5, cached=True)]
    second = second.model_copy(update={"result": second.result.model_copy(update={"stages": again})})
    lines = summary(make_outcome(spec, [first, second]), spec)
    assert lines == [
        f"{spec.folder}: 2 trials (2 new), 2 complete, 1 on the frontier; ended with 2 trials",
        "training: 30 s, 30 s more saved by the stage cache",
    ]


def test_what_was_taken_over_is_no_training_of_this_run(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    taken = make_record(0, {"w_bits": 4}).model_copy(update={"taken_from": "demo"})
    lines = summary(make_outcome(spec, [taken, make_record(1, {"w_bits": 8})]), spec)
    assert lines[1:] == [
        "training: 2 s, 0 s more saved by the stage cache",
        "taken over: 1 trial from demo, with 2 s of training there",
    ]


def test_rungs_are_counted_and_their_agreement_is_said(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, budget={"trials": 14})
    done = drive(open_proposer(spec))
    lines = summary(make_outcome(spec, done), spec)
    assert lines[2].startswith("rungs: 24 ptq, ")
    assert lines[2].endswith(" short, 14 full")
    assert lines[4].startswith("  short against full: rank correlation of accuracy ")
    assert lines[4].endswith("size_bytes 1.00 (14 points)")


def test_a_rung_that_was_skipped_is_named(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, budget={"trials": 20}, fidelity={"min_pairs": 6}, sampler={"name": "random"})
    done = drive(open_proposer(spec), deceive=True)
    lines = summary(make_outcome(spec, done), spec)
    assert [line.endswith("skipped from then on") for line in lines[3:]] == [True, True]


def test_repeats_are_no_part_of_the_agreement(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path)
    done = drive(open_proposer(spec), stop_after=30)
    full = next(r for r in done if r.assignment.rung == "full")
    work = full.assignment.model_copy(update={"repeat": 1})
    again = closed_form(work)
    assert agreements([*done, again], spec, REFERENCE) == agreements(done, spec, REFERENCE)
    assert summary(make_outcome(spec, [*done, again]), spec)[2].endswith("; 1 repeats of full")


def test_a_rehearsal_is_called_one(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    short = spec.model_copy(update={"base": rehearsal(tmp_path)})
    plain, said = (summary(make_outcome(s, [make_record(0, {"w_bits": 4})]), s) for s in (spec, short))
    assert set(said) - set(plain) == {"rehearsal: at most 5,000 images of each split (data.images)"}
