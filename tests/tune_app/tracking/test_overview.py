"""What trackers show of an experiment as a whole."""

from dataclasses import replace
from pathlib import Path

from tests.tune_app.factories import make_experiment, make_record, make_untrained, store_baseline
from tune_app.tracking.overview import parallel_coordinates, read_overview


def test_the_frontier_comes_first_and_in_order_of_size(tmp_path: Path) -> None:
    overview = read_overview(make_experiment(tmp_path))
    sizes = [row["size_bytes"] for row in overview.frontier]
    assert sizes == [60_000, 90_000, 250_000]
    assert [row["size_bytes"] for row in overview.points[:3]] == sizes
    assert len(overview.points) == 5
    assert (overview.x, overview.y) == ("size_bytes", "accuracy")
    assert overview.columns[:7] == (
        *("label", "prune_frac", "w_bits", "a_bits"),
        *("accuracy", "size_bytes", "compression_ratio"),
    )
    assert overview.table(overview.frontier)[0][:6] == ["p50_w4_a8", 0.5, 4, 8, 0.88, 60_000]


def test_totals_are_those_of_the_summary(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    store_baseline(folder)
    overview = read_overview(folder)
    assert overview.totals.items() >= {"trials": 6, "complete": 5, "frontier_points": 3, "best_accuracy": 0.95}.items()
    assert overview.totals["hypervolume"] > 0
    config = overview.info.config
    assert (config["baseline_accuracy"], config["data.name"], config["budget"]) == (0.95, "digits", 10)
    assert config["baseline.model.name"] == "mobilenet_v2"
    assert overview.knee in {row["trial_id"] for row in overview.frontier}


def test_charts_of_a_placeholder_say_so(tmp_path: Path) -> None:
    placeholder, trained = make_untrained(tmp_path / "placeholder"), make_experiment(tmp_path / "trained")
    titles = [parallel_coordinates(read_overview(f))["layout"]["title"]["text"] for f in (placeholder, trained)]
    assert titles == ["toy: 5 points (untrained baseline: accuracies mean nothing)", "toy: 5 points"]


def test_an_experiment_without_a_trial_has_an_overview(tmp_path: Path) -> None:
    overview = read_overview(make_experiment(tmp_path, []))
    assert (overview.records, overview.knee, list(overview.points)) == (0, "", [])
    assert parallel_coordinates(overview)["data"][0]["dimensions"][0] == {"label": "prune_frac", "values": []}


def test_a_parameter_that_some_points_lack_has_a_tick_for_that(tmp_path: Path) -> None:
    space = {"prune_frac": [0.3, 0.5], "importance": ["l1", "bn_taylor"], "w_bits": [4], "a_bits": [8]}
    records = [
        make_record(0, {"prune_frac": 0.3, "importance": "bn_taylor", "w_bits": 4, "a_bits": 8}),
        make_record(1, {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}, 0.8, 50_000),
    ]
    figure = parallel_coordinates(read_overview(make_experiment(tmp_path, records, space=space)))
    assert figure["data"][0]["dimensions"][1] == {
        "label": "importance",
        "values": [1, 0],
        "tickvals": [0, 1],
        "ticktext": ["bn_taylor", "–"],
    }


def test_numbers_that_some_points_lack_are_in_their_order(tmp_path: Path) -> None:
    records = [make_record(i, {"w_bits": 4, **more}) for i, more in enumerate(({"bits": 16}, {"bits": 4}, {}))]
    folder = make_experiment(tmp_path, records, space={"w_bits": [4], "a_bits": [8], "prune_frac": [0]})
    overview = replace(read_overview(folder), columns=("bits",), parameters=("bits",))
    axis = parallel_coordinates(overview)["data"][0]["dimensions"][0]
    order = dict(zip([row["number"] for row in overview.points], axis["values"], strict=True))
    assert (axis["ticktext"], order) == (["4", "16", "–"], {0: 1, 1: 0, 2: 2})


def test_runs_of_one_point_are_one_point(tmp_path: Path) -> None:
    point = {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}
    records = [make_record(i, point, repeat=i) for i in range(3)]
    figure = parallel_coordinates(read_overview(make_experiment(tmp_path, records, repeats={"seeds": 3})))
    assert figure["layout"]["title"]["text"] == "toy: 1 point in 3 runs"
