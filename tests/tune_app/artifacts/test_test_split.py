"""The test split, from results that are there already: which are used, and what they say about the choice."""

import pytest

from tests.tune_app.factories import make_experiment, make_record
from trainables.errors import CorruptFile
from trainables.results import SCORES, Scores
from trainables.storage import StoragePath, read_bytes, remove, replace, sha256
from tune_app.artifacts.test_split import finalize
from tune_app.ledger.baseline import BaselineInfo
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.test_results import HeldOut, store_held_out
from tune_app.tables.trials import read_table

POINTS = [{"prune_frac": 0.3, "w_bits": bits, "a_bits": 8} for bits in (2, 4, 8)]


def with_artifact(record: TrialRecord) -> TrialRecord:
    """The record of an artifact whose bytes are its trial id."""
    digest = sha256(record.assignment.trial_id.encode())
    return record.model_copy(update={"result": record.result.model_copy(update={"artifact_sha256": digest})})


def evaluated(storage: StoragePath, records: list[TrialRecord], test: dict[int, float]) -> ExperimentFolder:
    """An experiment with artifacts, whose baseline and whose trials of these numbers have test results."""
    folder = make_experiment(storage, records)
    for record in records:
        place = folder.artifacts / record.assignment.trial_id
        replace(place / "model.mbq", record.assignment.trial_id.encode())
        if record.assignment.number in test:
            store_held_out(place, HeldOut(accuracy=test[record.assignment.number], n=1_000))
    counts = dict.fromkeys(("macs", "bops", "activation_bytes", "peak_activation_bytes", "parameters", "size_bytes"), 9)
    info = BaselineInfo(key="k", fingerprint="f", accuracy=0.97, n=179, classes=10, seconds=1.0, **counts)
    replace(folder.baseline_file, info.model_dump_json().encode())
    store_held_out(folder.baseline_file.parent, HeldOut(accuracy=0.96, n=1_000))
    return folder


def test_the_gap_is_the_mean_over_the_frontier_beside_that_of_the_baseline(storage: StoragePath) -> None:
    records = [with_artifact(make_record(i, p, 0.8 + i / 20, 50_000 + i)) for i, p in enumerate(POINTS)]
    folder = evaluated(storage, records, {0: 0.77, 1: 0.80, 2: 0.90})
    final = finalize(folder)
    assert final.gap == pytest.approx((0.03 + 0.05 + 0.00) / 3)
    assert final.baseline_gap == pytest.approx(0.01)
    assert [[r.accuracy for r in point.values()] for point in final.frontier] == [[0.77], [0.80], [0.90]]
    table = read_table(folder.trials_table)
    assert table["test_accuracy_mean"].to_pylist() == [0.77, 0.80, 0.90]
    assert table["test_accuracy_sd"].null_count == 3


def test_all_runs_of_a_frontier_point_are_tested_each_compared_with_itself(storage: StoragePath) -> None:
    accuracies = [0.95, 0.85, 0.84]
    runs = [with_artifact(make_record(i, POINTS[1], a, 50_000, repeat=i)) for i, a in enumerate(accuracies)]
    worse = with_artifact(make_record(3, POINTS[2], 0.80, 60_000))
    failed = make_record(4, POINTS[1], repeat=3, state="failed")
    folder = evaluated(storage, [*runs, worse, failed], {0: 0.87, 1: 0.85, 2: 0.80})
    final = finalize(folder)
    assert final.gap == pytest.approx((0.08 + 0.00 + 0.04) / 3)
    assert [list(point) for point in final.frontier] == [[run.assignment.trial_id for run in runs]]
    table = read_table(folder.trials_table)
    assert table["test_accuracy"].to_pylist() == [0.87, 0.85, 0.80, None, None]
    means, spreads = (table[f"test_accuracy_{kind}"].to_pylist() for kind in ("mean", "sd"))
    assert means == [*[pytest.approx(0.84)] * 3, None, pytest.approx(0.84)]
    assert spreads == [*[pytest.approx(0.036056, abs=1e-6)] * 3, None, pytest.approx(0.036056, abs=1e-6)]


@pytest.mark.parametrize("harm", ["altered", "missing"])
def test_an_artifact_that_is_not_the_measured_one_ends_it(harm: str, storage: StoragePath) -> None:
    record = with_artifact(make_record(0, POINTS[0], 0.9, 50_000))
    folder = evaluated(storage, [record], {})
    path = folder.artifacts / record.assignment.trial_id / "model.mbq"
    replace(path, read_bytes(path) + b"x") if harm == "altered" else remove(path)
    with pytest.raises(CorruptFile, match=r"is missing: its trial must be run again|SHA-256 differs"):
        finalize(folder)


@pytest.mark.parametrize(("known", "loads"), [({}, 1), ({0: 0.9, 1: 0.9, 2: 0.9}, 0)])
def test_the_test_split_is_loaded_once_for_all_that_has_no_result(
    known: dict[int, float], loads: int, storage: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def load(config: object, device: object) -> range:
        asked.append(config)
        return range(100)

    monkeypatch.setattr("trainables.data.data_sets.load_test_images", load)
    scores = Scores(accuracy=0.5, top5_accuracy=0.9, balanced_accuracy=0.45, macro_f1=0.4, cross_entropy=2.0)
    monkeypatch.setattr("trainables.measure.packed_scores", lambda content, images, device: scores)
    records = [with_artifact(make_record(i, p, 0.8 + i / 20, 50_000 + i)) for i, p in enumerate(POINTS)]
    folder = evaluated(storage, records, known)
    final = finalize(folder)
    assert len(asked) == loads
    assert {result.n for point in final.frontier for result in point.values()} == {100 if loads else 1_000}
    table = read_table(folder.trials_table).select([f"test_{name}" for name in SCORES]).to_pylist()
    assert [set(row.values()) for row in table] == [set(vars(scores).values()) if loads else {0.9, None}] * 3
