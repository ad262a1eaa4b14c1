"""Findings: what tables made by hand say in words, and what holds of every table."""

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tune_app.factories import make_experiment, make_record, store_baseline
from tune_app.findings.findings import FEW, NEAR, Finding, findings, is_width
from tune_app.findings.summary import summarize
from tune_app.findings.tried import Tried, frontier_of, tried

BASELINE = 0.95
PARAMETERS = ("prune_frac", "w_bits", "a_bits")


def row(params: Mapping[str, Any], accuracy: float | None, size_bytes: int = 0, **changes: Any) -> dict[str, Any]:
    """A row of the table; without an accuracy the network was at chance."""
    label = "_".join(f"{name}{value}" for name, value in params.items())
    measured = {"accuracy": accuracy, "size_bytes": size_bytes, "compression_ratio": 1e6 / (size_bytes or 1)}
    state = (
        {"state": "complete", "reason": ""} if accuracy is not None else {"state": "invalid", "reason": "Collapsed: x"}
    )
    about = {"label": label, "rung": "full", "number": 0, "attempt": 1, "repeat": 0, "feasible": accuracy is not None}
    return {**params, **measured, **state, **about, **changes}


def grid() -> list[dict[str, Any]]:
    """Two shares by four widths: 8 to 4 bits costs 0.4 pp, 3 bits 1.2 pp more, 2 bits everything."""
    found = []
    for prune, width in itertools.product((0.0, 0.25, 0.5), (2, 3, 4, 8)):
        lost = {8: 0.0, 4: 0.004, 3: 0.016, 2: 1.0}[width] + 0.02 * prune
        accuracy = None if width == 2 else round(BASELINE - lost, 6)
        found.append(row({"prune_frac": prune, "w_bits": width}, accuracy, int(100_000 * width * (1 - prune))))
    return found


def say(rows: Sequence[Mapping[str, Any]], *, images: int | None = None, **about: Any) -> dict[str, list[Finding]]:
    """The findings by their kind."""
    found: dict[str, list[Finding]] = {}
    for finding in findings(tried(rows, PARAMETERS), baseline_accuracy=BASELINE, images=images, **about):
        found.setdefault(finding.kind, []).append(finding)
    return found


def test_the_sentences_of_a_small_grid() -> None:
    texts = [finding.text for finding in findings(tried(grid(), PARAMETERS), baseline_accuracy=BASELINE, images=250)]
    assert texts == [
        "smallest within 1 pp of the baseline: prune_frac0.25_w_bits4, 94.10 % (-0.90 pp, within the noise), 300 KB, "
        "3.33x; 5 of 9 points are as near",
        "knee of the frontier's 5 points, where it bends most: prune_frac0.0_w_bits4 (94.60 %, 400 KB); the next "
        "larger point gains 0.40 pp for 100 % more bytes, the next smaller one loses 0.50 pp for 25 % fewer",
        "cliff: from prune_frac0.5_w_bits4 (93.60 %, 200 KB) to prune_frac0.5_w_bits3 (92.40 %, 150 KB): -1.20 pp "
        "(within the noise) for 25 % fewer bytes, the largest of the frontier's 4 steps",
        "every point with w_bits 2 is at chance or diverged (3 points); at 3 the best of 3 points loses 1.60 pp",
        "prune_frac 0 to 0.25: -0.50 pp (an image or less), 0.75x the bytes (median of 3 pairs); 0.25 to 0.5: -0.50 pp "
        "(an image or less), 0.67x the bytes (median of 3 pairs)",
        "w_bits 8 to 4: -0.40 pp (an image or less), 0.50x the bytes (median of 3 pairs); 4 to 3: -1.20 pp, 0.75x the "
        "bytes (median of 3 pairs)",
        "accuracies are of 250 validation images: one image is 0.40 pp",
    ]


def test_numbers_come_with_the_sentences() -> None:
    found = say(grid())
    [width], [knee] = found["width"], found["knee"]
    assert {**width.facts} == {
        "parameter": "w_bits",
        **{"holds_at": 3, "loss_there": pytest.approx(0.016), "points_there": 3},
        **{"collapses_at": 2, "loss": None, "points": 3},
    }
    assert knee.facts["larger"] == pytest.approx({"accuracy_change": 0.004, "size_change": 1.0})
    json.dumps([finding.document() for each in found.values() for finding in each], allow_nan=False)


def test_a_width_that_only_loses_much_has_its_loss_told() -> None:
    rows = [
        row({"w_bits": w, "prune_frac": p}, a - p / 100, 1000 * w + p)
        for w, a in ((2, 0.5), (4, 0.94))
        for p in range(3)
    ]
    [width] = say(rows)["width"]
    assert width.text == "with w_bits 2 the best of 3 points loses 45.00 pp; at 4 the best of 3 points loses 1.00 pp"


def test_the_narrowest_width_that_holds_is_told_as_such() -> None:
    rows = [row({"w_bits": w, "prune_frac": p}, 0.96, 1000 * w + p) for w in (4, 8) for p in range(3)]
    [width] = say(rows)["width"]
    assert width.text == "w_bits 4, the narrowest: the best of 3 points gains 1.00 pp"


def test_a_sweep_of_one_width_says_where_it_collapses() -> None:
    accuracies = {2: None, 3: 0.4, 4: 0.93, 6: 0.945, 8: 0.95}
    rows = [row({"w_bits": w, "prune_frac": 0.5}, a, 1000 * w) for w, a in accuracies.items()]
    [width] = say(rows)["width"]
    assert (
        width.text
        == "with w_bits 3 and below the best of 2 points loses 55.00 pp; at 4 the best of 1 point loses 2.00 pp"
    )
    assert say([*rows, row({"w_bits": 4, "prune_frac": 0.25}, 0.9, 4000)]).get("width") is None  # no sweep any more


def test_widths_that_fail_with_everything_else_are_not_blamed() -> None:
    rows = [row({"w_bits": w, "prune_frac": p}, None) for w in (4, 8) for p in range(3)]
    assert say(rows) == {}


def test_nothing_within_a_point_is_said_with_the_nearest_one() -> None:
    rows = [row({"w_bits": w}, 0.9 + w / 1000, 1000 * w) for w in (4, 6, 8)]
    [near] = say(rows)["near_baseline"]
    assert near.text == "none of 3 points is within 1 pp of the baseline; the best, w_bits8, loses 4.20 pp"


def test_effects_are_those_of_pairs_that_differ_in_one_parameter() -> None:
    """The sampler tried 4 bits with much pruning alone: the medians by width would say that bits cost 10 pp."""
    pairs = [row({"w_bits": w, "prune_frac": p}, 0.9 - p / 10, 1000 * w) for w in (4, 8) for p in range(3)]
    skewed = [row({"w_bits": 4, "prune_frac": p}, 0.3, 4000) for p in range(10, 20)]
    [effect] = say([*pairs, *skewed])["effect"]
    assert effect.text == "w_bits 8 to 4: +0.00 pp, 0.50x the bytes (median of 3 pairs)"


def test_pairs_without_a_network_are_counted() -> None:
    rows = [
        row({"w_bits": w, "prune_frac": p}, None if w == 4 and p > 2 else 0.9, 1000 * w)
        for w in (4, 8)
        for p in range(5)
    ]
    [effect] = [e for e in say(rows)["effect"] if e.facts["parameter"] == "w_bits"]
    assert effect.text.endswith("(median of 3 pairs, 2 more at chance or diverged)")


def test_effects_of_names_are_against_the_first_name() -> None:
    order = {"l1": 0.9, "l2": 0.91, "random": 0.8}
    rows = [row({"importance": name, "w_bits": w}, a, 1000 * w) for name, a in order.items() for w in (4, 6, 8)]
    points = tried(rows, ("importance", "w_bits"))
    texts = [f.text for f in findings(points, baseline_accuracy=None) if f.facts.get("parameter") == "importance"]
    assert texts == [
        "importance l1 to l2: +1.00 pp, 1.00x the bytes (median of 3 pairs); l1 to random: -10.00 pp, 1.00x the bytes "
        "(median of 3 pairs)"
    ]


def test_runs_of_a_point_count_as_their_mean_and_errors_as_nothing() -> None:
    point = {"w_bits": 4}
    rows = [
        row(point, 0.92, 100, repeat=1),
        row(point, 0.90, 100, label="first"),
        row(point, None, repeat=2),
        row({"w_bits": 8}, None, state="failed", reason="WorkerLost: gone"),
        row({"w_bits": 6}, 0.5, 100, rung="ptq"),
    ]
    assert tried(rows, PARAMETERS) == [Tried("first", point, pytest.approx(0.91), 100, 1e4, feasible=True)]


def test_points_outside_the_bounds_are_not_recommended() -> None:
    rows = [row({"w_bits": w}, 0.95, 1000 * w, feasible=w > 2) for w in (2, 4, 6, 8)]
    [near] = say(rows)["near_baseline"]
    assert near.facts["label"] == "w_bits4"


def test_other_objectives_have_no_knee_and_no_cliff_here() -> None:
    assert {"knee", "cliff"} <= set(say(grid()))
    assert not {"knee", "cliff"} & set(say(grid(), plane=False))


@pytest.mark.parametrize(
    ("name", "width"),
    [("w_bits", True), ("a_bits.depthwise", True), ("edge_bits", True), ("budget_bytes", False), ("prune_frac", False)],
)
def test_parameters_that_are_widths(name: str, width: bool) -> None:
    assert is_width(name) == width


def test_the_knee_is_the_balanced_point_of_the_summary(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    store_baseline(folder)
    found = summarize(folder)
    [knee] = [finding for finding in found.findings if finding.kind == "knee"]
    assert knee.facts["label"] == found.best["balanced"].label


def test_an_experiment_with_one_trial_has_no_findings(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, [make_record(0, {"prune_frac": 0, "w_bits": 4, "a_bits": 8})])
    store_baseline(folder)
    assert summarize(folder).findings == ()


tables = st.lists(
    st.builds(
        row,
        st.fixed_dictionaries(
            {"w_bits": st.sampled_from([2, 3, 4, 8]), "prune_frac": st.sampled_from([0.0, 0.3, 0.5])}
        ),
        st.none() | st.floats(0.1, 1.0),
        st.integers(1, 10**7),
    ),
    unique_by=lambda r: (r["w_bits"], r["prune_frac"]),
    max_size=12,
)


@given(tables)
def test_every_sentence_has_enough_points_behind_it(rows: list[dict[str, Any]]) -> None:
    is_sweep = len({r["prune_frac"] for r in rows}) == 1 and len({r["w_bits"] for r in rows}) >= FEW
    for finding in itertools.chain.from_iterable(say(rows).values()):
        counts = [finding.facts.get(name) for name in ("of", "points_there")]
        counts += [step["pairs"] for step in finding.facts.get("steps", [])]
        # Of a sweep of one width, a single point of a value says what the value does.
        least = 1 if finding.facts.get("parameter") == "w_bits" and finding.kind == "width" and is_sweep else FEW
        assert all(count >= least for count in counts if count is not None)
        json.dumps(finding.document(), allow_nan=False)


@given(tables)
def test_no_point_nearer_than_a_point_is_smaller_than_the_one_that_is_named(rows: list[dict[str, Any]]) -> None:
    points = tried(rows, PARAMETERS)
    near = [p.size_bytes for p in points if p.accuracy is not None and p.accuracy >= BASELINE - NEAR - 1e-12]
    for finding in say(rows).get("near_baseline", []):
        assert (finding.facts.get("size_bytes"), finding.facts["points"]) == (min(near, default=None), len(near))


@given(tables)
def test_effects_are_medians_over_all_pairs_compared_one_by_one(rows: list[dict[str, Any]]) -> None:
    points = [point for point in tried(rows, PARAMETERS) if point.accuracy is not None]
    for finding in say(rows).get("effect", []):
        name = finding.facts["parameter"]
        for step in finding.facts["steps"]:
            changes = [
                b.accuracy - a.accuracy  # type: ignore[operator]
                for a, b in itertools.permutations(points, 2)
                if {**a.params, name: step["to"]} == b.params and a.params[name] == step["from"]
            ]
            assert (step["pairs"], step["accuracy_change"]) == (len(changes), statistics.median(changes))


@given(tables)
def test_the_order_of_the_trials_changes_no_number(rows: list[dict[str, Any]]) -> None:
    def numbers(found: Mapping[str, list[Finding]]) -> list[str]:
        return sorted(f.text for kind in ("width", "effect", "cliff") for f in found.get(kind, []))

    assert numbers(say(rows)) == numbers(say(rows[::-1]))


@given(tables)
def test_the_frontier_rises_in_both(rows: list[dict[str, Any]]) -> None:
    front = frontier_of(tried(rows, PARAMETERS))
    for small, large in itertools.pairwise(front):
        assert small.size_bytes < large.size_bytes
        assert small.accuracy is not None
        assert large.accuracy is not None
        assert small.accuracy < large.accuracy


def test_a_knee_that_is_the_largest_point_says_what_is_fewer() -> None:
    rows = [row({"w_bits": 2 * i}, 0.79 + i / 100, 1_000 * i) for i in (1, 2, 3)]
    [knee] = say(rows)["knee"]
    assert knee.text.endswith("w_bits6 (82.00 %, 3.00 KB); the next smaller one loses 1.00 pp for 33 % fewer bytes")
