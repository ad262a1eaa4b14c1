"""Rungs without Ray: who climbs, in which order, and what a restart remembers."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from search_spaces.rungs import FULL
from search_spaces.samplers import MAX_ASKS, SAMPLERS
from tests.tune_app.factories import REFERENCE, drive_with, make_record, make_spec, make_steps
from trainables.config import QuantAwareTrain, Schedule, digest
from tune_app.ledger.ledger import Assignment, TrialRecord
from tune_app.search.ladder import Ladder
from tune_app.search.proposer import Proposer
from tune_app.spec.experiment import ExperimentSpec

QAT = QuantAwareTrain(kind="qat", schedule=Schedule(epochs=9, lr=0.1))
RUNGS = [{"name": "ptq", "qat_epochs": 0}, {"name": "short", "qat_epochs": 2}]
LOSS = {"ptq": 1.0, "short": 0.3, "full": 0.0}
SPACE = {"prune_frac": [0.0, 0.2, 0.4, 0.6], "w_bits": [2, 4, 8], "a_bits": [4, 8]}


def make_laddered(tmp_path: Path, *, fidelity: dict[str, Any] | None = None, **changes: Any) -> ExperimentSpec:
    plain = make_spec(tmp_path)
    base = plain.base.model_copy(update={"quantize": QAT})
    ladder = {"rungs": RUNGS, "eta": 3, **(fidelity or {})}
    return make_spec(tmp_path, **{"base": base, "space": SPACE, "fidelity": ladder, "sampler": "tpe", **changes})


def closed_form(work: Assignment, *, deceive: bool = False) -> TrialRecord:
    """Few bits lose much without training; with `deceive`, a rung below the last ranks accuracy upside down."""
    p, w, a = (float(work.params.get(n, d)) for n, d in (("prune_frac", 0), ("w_bits", 8), ("a_bits", 8)))
    true = 0.95 - 0.3 * p**2 - 0.2 / 2**w - 0.1 / 2**a
    accuracy = 1 - true if deceive and work.rung != FULL else true - LOSS[work.rung] * 2 / 2**w
    size = round(1e6 * (1 - p) * w / 32) + int(a)
    record = make_record(work.number, work.params, accuracy, size)
    return record.model_copy(update={"assignment": work})


def open_proposer(spec: ExperimentSpec, records: Sequence[TrialRecord] = (), **more: Any) -> Proposer:
    return Proposer(
        spec, key_of=lambda p, _=0: digest(dict(p)), steps_of=make_steps, reference=REFERENCE, records=records, **more
    )


def drive(proposer: Proposer, *, parallel: int = 3, stop_after: int | None = None, **form: Any) -> list[TrialRecord]:
    return drive_with(proposer, lambda work: closed_form(work, **form), parallel=parallel, stop_after=stop_after)


def count(records: Sequence[TrialRecord]) -> Counter[str]:
    return Counter(r.assignment.rung for r in records)


@pytest.mark.parametrize("sampler", [n for n in SAMPLERS.names() if SAMPLERS[n].asks == MAX_ASKS and n != "ehvi"])
def test_a_point_climbs_rung_by_rung_and_never_twice(sampler: str, tmp_path: Path) -> None:
    done = drive(open_proposer(make_laddered(tmp_path, sampler={"name": sampler}, budget={"trials": 2})))
    places = [(r.assignment.config_key, r.assignment.rung) for r in done]
    assert len(set(places)) == len(places)
    for i, (key, rung) in enumerate(places):
        below = {"ptq": None, "short": "ptq", FULL: "short"}[rung]
        assert below is None or (key, below) in places[:i]
    assert count(done)[FULL] == 2
    assert [r.assignment.number for r in done] == sorted({r.assignment.number for r in done})


def test_one_in_eta_of_a_rung_climbs_while_there_are_new_points(tmp_path: Path) -> None:
    done = drive(open_proposer(make_laddered(tmp_path, sampler={"name": "grid"}, budget={"trials": 2})), parallel=1)
    assert count(done) == {"ptq": 18, "short": 6, FULL: 2}


def test_when_no_new_point_is_left_the_best_of_the_rest_climb(tmp_path: Path) -> None:
    done = drive(open_proposer(make_laddered(tmp_path, budget={"trials": 1000})))
    assert count(done) == dict.fromkeys(("ptq", "short", FULL), 24)


def test_eta_one_runs_every_point_at_every_rung(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, fidelity={"eta": 1}, sampler={"name": "grid"}, budget={"trials": 1000})
    done = drive(open_proposer(spec), parallel=1)
    assert count(done) == dict.fromkeys(("ptq", "short", FULL), 24)
    assert [r.assignment.rung for r in done] == ["ptq", "short", FULL] * 24


def test_few_bits_get_their_turn_although_they_are_bad_without_training(tmp_path: Path) -> None:
    done = drive(open_proposer(make_laddered(tmp_path, budget={"trials": 4})))
    finished = [r.assignment.params["w_bits"] for r in done if r.assignment.rung == FULL]
    assert {2, 8} <= set(finished)


def test_the_full_rung_alone_decides_the_budget(tmp_path: Path) -> None:
    proposer = open_proposer(make_laddered(tmp_path, budget={"trials": 1}))
    done = drive(proposer)
    assert count(done)[FULL] == 1
    assert proposer.next() is None


@pytest.mark.parametrize("cut", [1, 5, 11, 20])
def test_a_restart_in_the_middle_of_a_rung_goes_on(cut: int, tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, sampler={"name": "grid"}, budget={"trials": 3})
    whole = drive(open_proposer(spec), parallel=1)
    dying = open_proposer(spec)
    first = drive(dying, parallel=1, stop_after=cut)
    running = dying.next()
    assert running is not None
    again = open_proposer(spec, first, in_flight=dying.pending)
    rest = drive(again, parallel=1)
    assert rest[0].assignment == running
    assert [r.assignment.model_dump() for r in [*first, *rest]] == [r.assignment.model_dump() for r in whole]


@pytest.mark.parametrize("sampler", ["random", "grid"])
def test_rungs_that_mislead_are_skipped_and_their_points_run_in_full(sampler: str, tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, fidelity={"min_pairs": 6}, sampler={"name": sampler}, budget={"trials": 20})
    proposer = open_proposer(spec)
    done = drive(proposer, deceive=True)
    agreements = proposer.ladder.agreements()
    assert [a.rung for a in agreements if a.dropped] == ["ptq", "short"]
    assert all(a.correlation["accuracy"] < 0 < a.correlation["size_bytes"] for a in agreements)
    assert count(done)[FULL] == 20
    assert {r.assignment.rung for r in done[-8:]} == {FULL}
    places = [(r.assignment.config_key, r.assignment.rung) for r in done]
    assert len(set(places)) == len(places)


def test_a_rung_that_predicts_is_kept_and_reported(tmp_path: Path) -> None:
    proposer = open_proposer(make_laddered(tmp_path, budget={"trials": 14}))
    drive(proposer)
    low, high = proposer.ladder.agreements()
    assert (low.rung, low.above, high.rung, high.above) == ("ptq", "short", "short", FULL)
    assert high.pairs == 14
    assert not low.dropped
    assert not high.dropped
    assert high.correlation["size_bytes"] == pytest.approx(1.0)


def test_a_failed_point_does_not_climb(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path, sampler={"name": "grid"})
    ladder = Ladder(spec, REFERENCE)
    for i, point in enumerate(itertools.islice(spec.space.grid(), 6)):
        ladder.add(make_record(i, point, 0.9 - i / 100, 100 + i, "failed" if i == 0 else "complete", rung="ptq"))
    climbing = ladder.next(())
    assert climbing is not None
    assert climbing[0].assignment.number == 1
    assert climbing[1] == "short"


def test_bounds_on_what_training_changes_do_not_count_below_the_full_rung(tmp_path: Path) -> None:
    bounds = ["accuracy >= 0.95", "size_bytes <= 150"]
    ladder = Ladder(make_laddered(tmp_path, constraints=bounds, fidelity={"eta": 2}), REFERENCE)
    points = [{"prune_frac": p, "w_bits": 2, "a_bits": 8} for p in (0.0, 0.2)]
    ladder.add(make_record(0, points[0], 0.99, 200, rung="ptq"))  # outside by its size
    ladder.add(make_record(1, points[1], 0.30, 140, rung="ptq"))
    climbing = ladder.next(())
    assert climbing is not None
    assert climbing[0].assignment.number == 1


@pytest.mark.parametrize(
    ("rungs", "words"),
    [
        ([{"name": "full", "qat_epochs": 0}], "none of them 'full'"),
        ([{"name": "a", "qat_epochs": 0}, {"name": "a", "qat_epochs": 1}], "different names"),
        ([{"name": "a", "qat_epochs": 2}, {"name": "b", "qat_epochs": 1}], "must rise"),
        ([{"name": "a", "qat_epochs": 9}], "fewer epochs than the full schedule's 9"),
        ([], "at least 1 item"),
    ],
)
def test_rungs_rise_and_stay_below_the_full_schedule(rungs: list[Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=words):
        make_laddered(tmp_path, fidelity={"rungs": rungs})


def test_rungs_need_something_to_shorten(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"choose base\.quantize\.kind: qat"):
        make_spec(tmp_path, fidelity={"rungs": RUNGS})
