"""A point is picked for a reason that can be checked."""

from pathlib import Path

import pytest

from tests.tune_app.factories import make_experiment, make_record, make_records, store_baseline, store_files
from trainables.errors import ConfigError, CorruptFile
from trainables.storage import remove
from tune_app.findings.pick import Wish, pick
from tune_app.ledger.folder import ExperimentFolder


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    """Frontier: 95 % in 250 KB (4x), 93 % in 90 KB (11.1x), 88 % in 60 KB (16.7x); baseline 95 %."""
    made = store_files(make_experiment(tmp_path))
    store_baseline(made)
    return made


@pytest.mark.parametrize(
    ("wish", "label", "words"),
    [
        (Wish(), "p30_w4_a8", "the knee of 3 frontier points"),
        (Wish(max_drop=0.02), "p30_w4_a8", "the smallest of 2 (of 3) frontier points that are within 2 pp of the"),
        (Wish(max_drop=0.0), "p0_w8_a8", "the smallest of 1 (of 3)"),
        (Wish(max_bytes=90_000), "p30_w4_a8", "the most accurate of 2 (of 3) frontier points that are at most 90.0 KB"),
        (Wish(max_bytes=89_999), "p50_w4_a8", "the most accurate of 1 (of 3)"),
        (
            Wish(min_ratio=4),
            "p0_w8_a8",
            "the most accurate of 3 (of 3) frontier points that are at least 4.00x smaller",
        ),
        (Wish(min_ratio=12), "p50_w4_a8", "at least 12.0x smaller"),
        (Wish(max_drop=0.1, max_bytes=300_000), "p30_w4_a8", "the knee of 3 (of 3)"),
        (Wish(max_drop=0.02, knee=True), "p0_w8_a8", "the knee of 2 (of 3)"),
        (Wish(where="w_bits = 4"), "p30_w4_a8", "the knee of 2 (of 3) frontier points where w_bits = 4"),
        (
            Wish(where="w_bits = 4", max_drop=0.5),
            "p50_w4_a8",
            "within 50 pp of the baseline's 95.00 % where w_bits = 4",
        ),
    ],
)
def test_the_bounds_decide(wish: Wish, label: str, words: str, folder: ExperimentFolder) -> None:
    found = pick(folder, wish)
    assert found.point.label == label
    assert words in found.why
    assert found.artifact == folder.artifacts / found.point.trial_id / "model.mbq"
    assert found.drop == pytest.approx(0.95 - found.point.values["accuracy"])


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(max_bytes=10_000), "none of 3 frontier points is at most 10.0 KB: the smallest, p50_w4_a8, has 60.0 KB"),
        (Wish(min_ratio=50), "at least 50.0x smaller: the smallest, p50_w4_a8, has 60.0 KB (16.7x)"),
        (Wish(where="w_bits = 2"), "none of 3 frontier points satisfies 'w_bits = 2'"),
        (Wish(max_drop=0.01, max_bytes=100_000), "none of 2 frontier points is within 1 pp of the baseline's 95.00 %"),
        (Wish(max_bytes=59_999), "is at most 59,999 bytes: the smallest, p50_w4_a8, has 60,000 bytes (16.6666"),
        (Wish(min_ratio=16.67), "at least 16.67x smaller: the smallest, p50_w4_a8, has 60,000 bytes (16.666666"),
        (
            Wish(where="w_bits = 4", max_drop=0.019999),
            "within 1.9999 pp of the baseline's 95 %: the most accurate, p30_w4_a8, has 93 %",
        ),
    ],
)
def test_what_cannot_be_had_is_said_with_what_comes_nearest(wish: Wish, words: str, folder: ExperimentFolder) -> None:
    with pytest.raises(ConfigError) as caught:
        pick(folder, wish)
    assert words in str(caught.value)


def test_runs_of_a_point_are_picked_by_their_mean(tmp_path: Path) -> None:
    point = {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}
    lucky = [make_record(9, point, 0.97, 80_000), make_record(10, point, 0.85, 80_000, repeat=1)]
    folder = store_files(make_experiment(tmp_path, [r for r in make_records() if r.assignment.number != 1] + lucky))
    store_baseline(folder)
    found = pick(folder, Wish(max_bytes=85_000)).point
    assert (found.label, found.values["accuracy"]) == ("p30_w4_a8", pytest.approx(0.91))
    # One of its runs alone is within 2 points.
    assert pick(folder, Wish(max_drop=0.02)).point.label == "p30_w8_a8"


@pytest.mark.parametrize("records", [[], [make_record(0, {"w_bits": 2}, state="failed")]], ids=["empty", "failures"])
def test_without_a_frontier_there_is_nothing_to_pick(records: list, tmp_path: Path) -> None:  # type: ignore[type-arg]
    folder = make_experiment(tmp_path, records, tables=False)
    with pytest.raises(ConfigError, match="has no frontier yet"):
        pick(folder, Wish())


def test_without_a_baseline_there_is_no_drop(tmp_path: Path) -> None:
    folder = store_files(make_experiment(tmp_path))
    with pytest.raises(ConfigError, match="has no baseline yet"):
        pick(folder, Wish(max_drop=0.01))
    assert pick(folder, Wish()).drop is None


def test_a_point_whose_packed_file_is_gone_is_no_choice(folder: ExperimentFolder) -> None:
    remove(folder.packed_file(pick(folder, Wish(knee=True)).point.trial_id))
    with pytest.raises(CorruptFile, match=r"packed file of p30_w4_a8, the knee of 3 .* is gone: `tune-app reproduce"):
        pick(folder, Wish(knee=True))
    assert pick(folder, Wish(max_drop=0.0)).point.label == "p0_w8_a8"
