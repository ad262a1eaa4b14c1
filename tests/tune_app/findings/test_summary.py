"""What an experiment has found, at any time of its life."""

import json
from pathlib import Path

import pytest

from tests.tune_app.factories import (
    make_baseline_info,
    make_experiment,
    make_record,
    make_records,
    rehearsal,
    store_baseline,
)
from tests.tune_app.search.test_ladder import make_laddered
from trainables.storage import replace
from tune_app.findings.summary import summarize


def test_best_points_baseline_and_totals(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    store_baseline(folder)
    found = summarize(folder)
    assert {name: point.label for name, point in found.best.items()} == {
        "accuracy": "p0_w8_a8",
        "compression": "p50_w4_a8",
        "balanced": "p30_w4_a8",
    }
    assert (found.frontier_size, found.totals.trials) == (3, {"complete": 5, "invalid": 1})
    assert (found.totals.done, found.budget, found.totals.repeats) == (6, 10, 0)
    # Each trial, also the failed one, computed its own stage.
    assert found.totals.training_seconds == pytest.approx(6 * 1.5)
    assert found.totals.failures == {"Diverged": 1}
    expected = 0.85 * (1e6 - 250_000) + 0.83 * (250_000 - 90_000) + 0.78 * (90_000 - 60_000)
    assert found.hypervolume == pytest.approx(expected)


def test_people_read_lines_and_programs_a_document(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    store_baseline(folder)
    found = summarize(folder)
    text = "\n".join(found.lines())
    for words in (
        "toy: 6 of 10 trials of the full schedule; all: 5 complete, 1 invalid",
        "baseline: 95.00 % (90.76 to 97.35), 1.00 MB in fp32",
        "best balanced: p30_w4_a8, 93.00 % (88.29 to 95.90), 90.0 KB, 11.1x (-2.00 pp)",
        "in brackets: the 95 % interval of an accuracy that is read on 179 images",
        "frontier: 3 points, hypervolume",
        "failed: 1 of Diverged",
    ):
        assert words in text
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert document["best"]["accuracy"]["size_bytes"] == 250_000
    assert document["baseline"]["accuracy"] == 0.95
    assert [finding["kind"] for finding in document["findings"]] == ["near_baseline", "knee", "precision"]
    assert document["findings"][0]["text"] in text
    assert document["totals"]["trials"] == {"complete": 5, "invalid": 1}


def test_other_objectives_are_told_of_points_and_of_the_baseline(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, objectives={"macro_f1": "maximize", "size_bytes": "minimize"})
    store_baseline(folder)
    found = summarize(folder)
    text = "\n".join(found.lines())
    assert "baseline: 95.00 % (90.76 to 97.35), 1.00 MB in fp32, macro F1 93.00 %" in text
    assert "best balanced: p30_w4_a8, 93.00 % (88.29 to 95.90), 90.0 KB, 11.1x (-2.00 pp), macro F1 91.00 %" in text
    document = found.document()
    assert document["baseline"]["macro_f1"] == pytest.approx(0.93)
    assert document["best"]["balanced"]["macro_f1"] == pytest.approx(0.91)


def test_the_balanced_score_of_an_earlier_system_is_told_by_its_formula(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    store_baseline(folder)
    found = summarize(folder)
    assert found.score is not None
    assert (found.score.point.label, found.score.value) == (
        "p50_w4_a8", pytest.approx(0.6 * 0.88 / 0.95 + 0.4 * (1_000_000 / 60_000) / 50)
    )  # fmt: skip
    formula = "0.6 * accuracy / baseline accuracy + 0.4 * compression ratio / 50"
    assert f"best by the score of an earlier system, seed_002 ({formula}): p50_w4_a8, 0.689" in found.lines()
    document = found.document()["balanced_score"]
    assert (document["formula"], document["label"]) == (formula, "p50_w4_a8")
    assert found.best["balanced"].label == "p30_w4_a8"  # that of `pick` and the report: the knee


def test_nothing_is_found_in_the_accuracies_of_a_placeholder(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    info = make_baseline_info().model_copy(update={"untrained": True})
    replace(folder.baseline_file, info.model_dump_json().encode())
    found = summarize(folder)
    assert (found.findings, found.score, found.frontier_size) == ((), None, 3)


def test_a_budget_that_was_lowered_is_told_as_one(tmp_path: Path) -> None:
    found = summarize(make_experiment(tmp_path, budget={"trials": 5}))
    assert found.lines()[0].startswith("toy: 6 trials (budget 5) of the full schedule; ")


def test_what_a_warm_start_brought_is_told_apart(tmp_path: Path) -> None:
    records = make_records()
    records[1:4] = [record.model_copy(update={"taken_from": "before"}) for record in records[1:4]]
    found = summarize(make_experiment(tmp_path, records))
    assert (found.totals.done, found.totals.training_seconds) == (6, pytest.approx(3 * 1.5))
    assert found.document()["totals"]["taken_over"] == {"before": {"trials": 3, "training_seconds": 4.5}}
    assert "taken over: 3 trials from before, with 4 s of training there" in found.lines()


def test_rungs_and_repeats_are_told_apart(tmp_path: Path) -> None:
    point = {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}
    more = [make_record(20, point, rung="ptq"), make_record(21, point, 0.91, 90_000, repeat=1)]
    laddered = make_laddered(tmp_path)
    changes = {"base": laddered.base, "fidelity": laddered.fidelity, "repeats": {"seeds": 3}}
    folder = make_experiment(tmp_path, [*make_records(), *more], **changes)
    found = summarize(folder)
    assert (found.totals.rungs, found.totals.repeats) == ({"ptq": 1, "full": 6}, 1)
    assert found.best["balanced"].values["accuracy"] == pytest.approx(0.92)
    assert "rungs: 1 ptq, 6 full; 1 repeat" in found.lines()


@pytest.mark.parametrize("records", [[], [make_record(0, {"w_bits": 2}, state="failed")]], ids=["empty", "failures"])
def test_without_results_there_are_still_totals(records: list, tmp_path: Path) -> None:  # type: ignore[type-arg]
    found = summarize(make_experiment(tmp_path, records, tables=False))
    assert (found.best, found.frontier_size, found.hypervolume, found.baseline) == ({}, 0, None, None)
    assert found.totals.done == len(records)
    assert found.lines()[0].startswith(f"toy: {len(records)} of 10 trials")
    json.dumps(found.document(), allow_nan=False)


def test_a_rehearsal_is_called_one(tmp_path: Path) -> None:
    short = summarize(make_experiment(tmp_path / "a", base=rehearsal(tmp_path)))
    assert short.lines()[1] == "rehearsal: at most 5,000 images of each split (data.images)"
    assert short.document()["images"] == 5000
    whole = summarize(make_experiment(tmp_path / "b"))
    assert "rehearsal" not in "\n".join(whole.lines())
    assert whole.document()["images"] is None
