"""All commands say the same of a point: after the spec changed, after it ran again, and where a record is damaged."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Result
from tests.tune_app.factories import (
    SPACE,
    make_experiment,
    make_record,
    make_spec,
    store_baseline,
    store_files,
    tabulate,
)
from trainables.config import QuantAwareTrain, Schedule, digest
from tune_app.artifacts import reproduce
from tune_app.drawing.frontier_info import frontier_info
from tune_app.findings.pick import Wish, pick
from tune_app.findings.summary import summarize
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.reading import find_trial
from tune_app.report.contents import read_contents
from tune_app.report.overview import cards
from tune_app.report.pareto import pareto_info
from tune_app.run.stored_spec import claim
from tune_app.stages.running import running_trials
from tune_app.tables.at_rest import known_trials
from tune_app.tracking.optuna_journal import write_journal

Cli = Callable[..., Result]


def point(prune_frac: float, w_bits: int, a_bits: int = 8) -> dict[str, Any]:
    return {"prune_frac": prune_frac, "w_bits": w_bits, "a_bits": a_bits}


def experiment(storage: Path, records: list[TrialRecord] | None = None, **changes: Any) -> ExperimentFolder:
    folder = make_experiment(storage, records, tables=False, **changes)
    store_baseline(folder)
    tabulate(folder)
    return store_files(folder)


def change(folder: ExperimentFolder, **changes: Any) -> None:
    """What `run` does with a changed spec before it starts a trial."""
    with Lease(folder) as lease:
        assert claim(lease, make_spec(folder.path.parent, **changes))


@pytest.fixture
def repeated(tmp_path: Path) -> ExperimentFolder:
    """A point of two runs, 90,000 bytes in the mean and 11.25x, and a smaller one; no objective is the size."""
    runs = [
        make_record(0, point(0.0, 8), 0.95, 100_000),
        make_record(1, point(0.0, 8), 0.93, 80_000, repeat=1),
        make_record(2, point(0.3, 4), 0.90, 60_000),
    ]
    return experiment(
        tmp_path,
        runs,
        repeats={"seeds": 2},
        objectives={"cross_entropy": "minimize", "macs": "minimize"},
        constraints=["size_bytes <= 95KB"],
    )


def test_a_repeated_point_lies_at_the_means_of_its_runs_in_everything(repeated: ExperimentFolder) -> None:
    best = summarize(repeated).best["accuracy"]
    assert best.values["size_bytes"] == 90_000
    assert best.values["accuracy"] == pytest.approx(0.94)
    assert best.values["compression_ratio"] == 11.25
    assert pick(repeated, Wish(max_bytes=95_000)).point.label == best.label
    assert pick(repeated, Wish(min_ratio=11)).point.label == best.label
    [card] = [card for card in cards(read_contents(repeated)) if card.name == "Best accuracy"]
    assert card.value.startswith("94.00 %")
    assert card.detail.startswith("90.0 KB, 11.2x")


def test_a_wider_space_is_answered_before_its_first_trial_ends(tmp_path: Path, cli: Cli) -> None:
    folder = experiment(tmp_path)
    change(folder, space={**SPACE, "w_bits.depthwise": [4, 8]})
    assert known_trials(folder)["w_bits.depthwise"].null_count == 6
    assert cli("summary", folder.path).code == 0
    assert cli("frontier", folder.path, "--where", '"w_bits.depthwise" = 4').code == 0


def test_another_reference_counts_at_once(tmp_path: Path) -> None:
    folder = experiment(tmp_path)
    change(folder, reference={"accuracy": 0.87, "size_bytes": 300_000})
    gains = dict(
        zip(*(known_trials(folder)[n].to_pylist() for n in ("label", "hypervolume_contribution")), strict=True)
    )
    assert gains["p0_w8_a8"] == pytest.approx((0.95 - 0.93) * (300_000 - 250_000))


def test_findings_tell_points_apart_by_a_parameter_that_the_space_lost(tmp_path: Path) -> None:
    records = [
        make_record(
            2 * i + wide, point(prune, 8, 8 if wide else 4), 0.95 - 0.01 * i if wide else 0.5, 250_000 - 9_000 * i
        )
        for i, prune in enumerate((0.0, 0.3, 0.5))
        for wide in (True, False)
    ]
    folder = experiment(tmp_path, records)
    change(folder, space={name: SPACE[name] for name in ("prune_frac", "w_bits")})
    said = [finding.text for finding in summarize(folder).findings]
    assert any("3 of 6 points are" in text or "points are as near" in text for text in said), said
    assert not any("loses 2" in text or "72.00 %" in text for text in said)


def rekeyed(record: TrialRecord) -> TrialRecord:
    """The record of the same point by an older version of a stage: under another key."""
    work = record.assignment
    older = work.model_copy(update={"config_key": digest(["older", dict(work.params)])})
    return record.model_copy(update={"assignment": older})


@pytest.fixture
def run_again(tmp_path: Path) -> ExperimentFolder:
    """Three points that ran by an older version of a stage at 60 %, and again at 93 to 95 %."""
    points = [point(0.0, 8), point(0.3, 8), point(0.5, 8)]
    old = [rekeyed(make_record(i, p, 0.60, 100_000 - 10_000 * i)) for i, p in enumerate(points)]
    new = [make_record(3 + i, p, 0.95 - 0.01 * i, 100_000 - 10_000 * i) for i, p in enumerate(points)]
    return experiment(tmp_path, [*old, *new])


def test_of_two_records_of_a_run_the_newest_counts_everywhere(run_again: ExperimentFolder) -> None:
    nearest = summarize(run_again).findings[0].text
    assert nearest.startswith("smallest within 1 pp of the baseline: p30_w8_a8, 94.00 %")
    assert nearest.endswith("; 2 of 3 points are as near")
    drawn, reported = frontier_info(run_again), pareto_info(read_contents(run_again))
    assert [mark.y for mark in drawn.tried] == [mark.y for mark in reported.tried]
    assert len(drawn.tried) == 3
    assert find_trial(run_again, "p30_w8_a8").metrics()["accuracy"] == 0.94


def test_a_damaged_record_is_left_out_by_every_command(tmp_path: Path, cli: Cli) -> None:
    folder = experiment(tmp_path)
    best = summarize(folder).best["accuracy"]
    record = folder.trials / f"{best.trial_id}.json"
    record.write_bytes(record.read_bytes()[:100])
    assert summarize(folder).best["accuracy"].label == "p30_w4_a8"
    assert pick(folder, Wish(max_bytes=10**6)).point.label == "p30_w4_a8"
    assert len(frontier_info(folder).frontier) == len(read_contents(folder).frontier) == 2
    assert best.label not in cli("frontier", folder.path).out


def test_a_baseline_without_a_right_answer_has_no_score(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    store_baseline(folder, 0.0)
    assert summarize(folder).score is None
    assert summarize(folder).best


def test_of_two_balanced_points_all_name_the_same(tmp_path: Path) -> None:
    records = [make_record(0, point(0, 8), 0.95, 250_000), make_record(1, point(0, 4), 0.95, 100_000)]
    folder = experiment(tmp_path, records, objectives={"accuracy": "maximize"})
    contents = read_contents(folder)
    assert contents.balanced is not None
    names = {
        contents.label(contents.balanced),
        pick(folder, Wish()).point.label,
        summarize(folder).best["balanced"].label,
    }
    assert names == {"p0_w4_a8"}


@pytest.fixture
def without_rung(tmp_path: Path) -> Iterator[ExperimentFolder]:
    """Trials of a rung that the spec no longer has, one of them in flight, and a driver that is alive."""
    schedule = Schedule(epochs=2, lr=0.1)
    base = make_spec(tmp_path).base.model_copy(update={"quantize": QuantAwareTrain(kind="qat", schedule=schedule)})
    records = [make_record(i, point(prune, 8), rung="ptq") for i, prune in enumerate((0, 0.3))]
    records += [make_record(2, point(0, 8), 0.9)]
    rungs = {"rungs": [{"name": "ptq", "qat_epochs": 0}]}
    folder = experiment(tmp_path, records, base=base, fidelity=rungs)
    change(folder, base=base, fidelity=None)
    with Lease(folder) as lease:
        lease.save_in_flight([make_record(9, point(0.5, 4), rung="ptq").assignment])
        yield folder


def test_trials_of_a_rung_that_the_spec_lost_still_count(
    without_rung: ExperimentFolder, tmp_path: Path, cli: Cli
) -> None:
    assert "rungs: 1 full, 2 ptq" in cli("summary", without_rung.path).out
    assert running_trials(without_rung, without_rung.read_spec(), "f") == []
    assert write_journal(without_rung, tmp_path / "study.log") == {"toy": 1, "toy@ptq": 2}


def test_a_trial_of_a_rung_that_the_spec_lost_is_not_made_again(
    without_rung: ExperimentFolder, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "experiment_data", lambda _: None)
    for _ in range(2):
        done = cli("reproduce", without_rung.path, "p30_w8_a8@ptq", "--output", tmp_path / "again", columns=200)
        assert done.code == 2
        assert "p30_w8_a8@ptq cannot be made again: the spec has no rung 'ptq': its rungs are full." in done.err
    assert not (tmp_path / "again").exists()
