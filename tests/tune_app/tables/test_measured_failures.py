"""A trial that was refused after its measurement: its numbers are shown, and are no result, however good they are."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tune_app.factories import (
    REFERENCE,
    make_experiment,
    make_record,
    make_records,
    of_older_version,
    store_baseline,
    store_files,
)
from tests.tune_app.search.test_ladder import make_laddered
from tests.tune_app.search.test_proposer import open_proposer, optuna_trials
from tests.tune_app.tracking.test_optuna_journal import load
from trainables.config import digest
from tune_app.drawing.frontier_info import REFUSED as REFUSED_KINDS
from tune_app.drawing.frontier_info import frontier_info
from tune_app.engine.live_view import Status
from tune_app.findings.compare import compare_experiments
from tune_app.findings.pick import Wish, pick
from tune_app.findings.summary import summarize
from tune_app.frontier.chance import probabilities
from tune_app.frontier.points import group_runs
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger, Params, TrialRecord, latest
from tune_app.report.contents import read_contents
from tune_app.report.coordinates import CoordinatesInfo, coordinates_info
from tune_app.report.importance import importance_info
from tune_app.report.pareto import pareto_info
from tune_app.report.rungs import rung_pairs
from tune_app.report.sizes import sizes_info
from tune_app.report.volume import volume_info
from tune_app.run.warm_start import compare as compare_for_warm_start
from tune_app.search.budget import Spent
from tune_app.spec.experiment import SamplerConfig
from tune_app.tables.growth import trace_frame
from tune_app.tables.query import frontier_frame
from tune_app.tables.trials import read_table
from tune_app.tracking.optuna_journal import write_journal
from tune_app.tracking.overview import read_overview

BALANCED = {"balanced_accuracy": "maximize", "size_bytes": "minimize"}
REFUSED: Params = {"prune_frac": 0.3, "w_bits": 2, "a_bits": 8}


def refused(*, measured: bool, number: int = 6, repeat: int = 0, rung: str = "full") -> TrialRecord:
    """Better than every other trial in everything, and no result."""
    return make_record(
        number, REFUSED, 1.0, 1000, "invalid", kind="Collapsed", measured=measured, repeat=repeat, rung=rung
    )


def experiment(storage: Path, *, measured: bool) -> ExperimentFolder:
    """The same trials of both rungs; the refused ones are the best of each, if their numbers counted."""
    laddered = make_laddered(storage)
    cheap = [make_record(20 + r.assignment.number, r.assignment.params, 0.8, rung="ptq") for r in make_records()]
    runs = [refused(measured=measured), refused(measured=measured, number=7, rung="ptq")]
    again = make_record(8, make_records()[0].assignment.params, 1.0, 1000, "invalid", repeat=1, measured=measured)
    folder = make_experiment(
        storage, [*make_records(), *runs, again, *cheap], base=laddered.base, fidelity=laddered.fidelity
    )
    store_baseline(folder)
    return folder


def records_of(folder: ExperimentFolder) -> list[TrialRecord]:
    return latest(Ledger(folder.trials).read()[0])


def optuna_study(folder: ExperimentFolder) -> Any:
    path = Path(str(folder.path)) / "study.log"
    return [(t.state, t.values, t.user_attrs) for name in write_journal(folder, path) for t in load(path, name).trials]


def taken_by_samplers(folder: ExperimentFolder) -> Any:
    spec = folder.read_spec().model_copy(update={"sampler": SamplerConfig(name="tpe")})
    proposer = open_proposer(spec, records_of(folder))
    return [(t.state, t.values) for t in optuna_trials(proposer)]


def found_by_ehvi(folder: ExperimentFolder) -> Any:
    """What a new trial must improve; that a network at chance is poor is known to the surrogates too."""
    proposer = open_proposer(folder.read_spec(), records_of(folder))
    strategy: Any = proposer._strategy
    return strategy._front.tolist()


def standings(folder: ExperimentFolder) -> Any:
    proposer = open_proposer(folder.read_spec(), records_of(folder))
    return proposer.ladder.agreements()


def of_groups(folder: ExperimentFolder) -> Any:
    groups = group_runs(records_of(folder), folder.read_spec())
    return [(g.mean, g.sd, g.feasible) for g in groups], probabilities(groups, folder.read_spec())


def volumes(folder: ExperimentFolder) -> Any:
    return Spent(folder.read_spec(), REFERENCE, records_of(folder)).volumes


def table_of_the_frontier(folder: ExperimentFolder) -> Any:
    table = read_table(folder.frontier_table)
    return table.to_pylist(), table.schema.metadata[b"tune_app.hypervolume"]


def live(folder: ExperimentFolder) -> Any:
    status = Status(folder.read_spec(), records=records_of(folder), reference=REFERENCE)
    return status.best(), [g.point for g in status.frontier()], status.failed


def advice(folder: ExperimentFolder) -> Any:
    spec = folder.read_spec()
    found = compare_for_warm_start(
        records_of(folder), spec, spec, lambda params, repeat=0: digest(["other", dict(params), repeat])
    )
    return found.results, found.advice


def of_results(info: CoordinatesInfo) -> Any:
    """The axes, and the lines of points with a result."""
    kept = [i for i, kind in enumerate(info.kinds) if kind not in REFUSED_KINDS]
    axes = [
        dataclasses.replace(dimension, heights=tuple(dimension.heights[i] for i in kept))
        for dimension in info.dimensions
    ]
    return axes, [(info.rows[i], info.kinds[i]) for i in kept]


READERS: dict[str, Callable[[ExperimentFolder], Any]] = {
    "frontier": lambda folder: frontier_frame(folder.path).to_dict("records"),
    "frontier.parquet": table_of_the_frontier,
    "best states": lambda folder: frontier_frame(folder.path, all=True, where="state = 'complete'").to_dict("records"),
    "feasible": lambda folder: frontier_frame(folder.path, all=True, where="feasible").to_dict("records"),
    "pick": lambda folder: [
        pick(store_files(folder), wish).point.label
        for wish in (Wish(), Wish(max_bytes=100_000), Wish(max_drop=0.5), Wish(knee=True))
    ],
    "groups": of_groups,
    "stopping": volumes,
    "trace": lambda folder: trace_frame(folder.path).to_dict("records"),
    "live": live,
    "summary": summarize,
    "plot": lambda folder: dataclasses.replace(frontier_info(folder), refused={}),
    "samplers": taken_by_samplers,
    "ehvi": found_by_ehvi,
    "rungs": standings,
    "optuna": optuna_study,
    "warm start": advice,
    "tracker": lambda folder: read_overview(folder).points,
    "report: Pareto": lambda folder: dataclasses.replace(pareto_info(read_contents(folder)), refused={}),
    "report: coordinates": lambda folder: of_results(coordinates_info(read_contents(folder))),
    "report: rungs": lambda folder: [
        dataclasses.replace(pairs, refused=()) for pairs in rung_pairs(read_contents(folder))
    ],
    "report: sizes": lambda folder: sizes_info(read_contents(folder)),
    "report: volume": lambda folder: volume_info(read_contents(folder)),
    "report: importance": lambda folder: importance_info(read_contents(folder)),
}


def as_text(found: Any, folder: ExperimentFolder) -> str:
    """To compare values that hold NaN, and paths of two folders."""
    return repr(found).replace(str(folder.path.parent), "")


@pytest.mark.parametrize("name", READERS)
def test_no_reader_takes_a_refused_measurement_for_a_result(name: str, tmp_path: Path) -> None:
    plain = experiment(tmp_path / "plain", measured=False)
    measured = experiment(tmp_path / "other", measured=True)
    assert as_text(READERS[name](measured), measured) == as_text(READERS[name](plain), plain)
    shown = frontier_frame(measured.path, all=True, where="state = 'invalid' and rung = 'full'")
    assert set(shown["accuracy"].dropna()) == {1.0}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("changes", [{"objectives": BALANCED}, {"constraints": ["cross_entropy <= 1"]}])
def test_no_reader_breaks_on_a_result_of_an_older_version(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """One that lacks what the spec judges by, which a run refuses, is no result."""
    laddered = make_laddered(tmp_path, fidelity={"rungs": [{"name": "ptq", "qat_epochs": 0}]})
    cheap = [make_record(20 + r.assignment.number, r.assignment.params, 0.8, rung="ptq") for r in make_records()]
    records = [*make_records(), *cheap]
    older = [of_older_version(r) if i in {3, 9} else r for i, r in enumerate(records)]
    folder = make_experiment(tmp_path, older, base=laddered.base, fidelity=laddered.fidelity, **changes)
    store_baseline(folder)
    assert READERS[name](folder) is not None
    assert frontier_frame(folder.path)["label"].tolist() == ["p30_w4_a8", "p0_w8_a8"]
    whole = frontier_frame(folder.path, all=True).set_index("number")
    assert (whole["state"][3], whole["accuracy"][3], bool(whole["feasible"][3])) == ("complete", 0.88, False)


def test_two_experiments_are_compared_by_their_results(tmp_path: Path) -> None:
    sides = [experiment(tmp_path / str(measured), measured=measured) for measured in (False, True)]
    first, second = compare_experiments(*sides).sides
    assert (first.hypervolume, first.coverage, first.winners) == (second.hypervolume, second.coverage, second.winners)


def test_a_refused_measurement_is_in_its_record_and_no_metric(tmp_path: Path) -> None:
    ledger, record = Ledger(tmp_path), refused(measured=True)
    ledger.add(record)
    found = ledger.find(record.assignment.trial_id)
    assert found == record
    assert found.result.measurement is not None
    assert found.metrics() == {}


def test_records_of_older_versions_are_read(tmp_path: Path) -> None:
    """They have neither a measurement of a failed trial nor metrics of stages."""
    ledger = Ledger(tmp_path)
    for record in (make_records()[0], refused(measured=False)):
        ledger.add(record)
        path = tmp_path / f"{record.assignment.trial_id}.json"
        body = json.loads(path.read_text())["record"]
        body["result"].pop("measurement" if record.state != "complete" else "", None)
        for stage in body["result"]["stages"]:
            del stage["metrics"]
        path.write_text(json.dumps({"schema": 1, "sha256": digest(body), "record": body}))
        assert "metrics" not in path.read_text()
        assert ledger.find(record.assignment.trial_id) == record
