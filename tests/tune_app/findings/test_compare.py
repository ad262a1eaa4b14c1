"""Two experiments are measured with one measure."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tune_app.factories import (
    make_experiment,
    make_record,
    make_records,
    make_untrained,
    rehearsal,
    store_baseline,
)
from trainables.errors import ConfigError
from tune_app.drawing.frontier_info import frontier_info
from tune_app.drawing.frontier_plot import save_comparison_plot
from tune_app.findings.compare import compare_experiments, coverage
from tune_app.ledger.folder import ExperimentFolder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[ExperimentFolder, ExperimentFolder]:
    """The second has a better middle, the same small point, and no large one."""
    first = make_experiment(tmp_path)
    store_baseline(first, 0.95)
    better = [
        make_record(0, {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}, 0.94, 85_000),
        make_record(1, {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}, 0.88, 60_000),
    ]
    second = make_experiment(tmp_path, better, name="other")
    store_baseline(second, 0.96)
    return first, second


def test_each_side_says_what_it_covers_and_beats(pair: tuple[ExperimentFolder, ExperimentFolder]) -> None:
    found = compare_experiments(*pair)
    assert [side.name for side in found.sides] == ["toy", "other"]
    assert [len(side.points) for side in found.sides] == [3, 2]
    assert found.first.coverage == pytest.approx(1 / 2)  # the equal one
    assert found.second.coverage == pytest.approx(2 / 3)
    assert [p.label for p in found.first.winners] == []
    assert [p.label for p in found.second.winners] == ["p30_w4_a8"]
    assert [side.baseline_accuracy for side in found.sides] == [0.95, 0.96]


def test_the_volumes_are_those_of_one_reference(pair: tuple[ExperimentFolder, ExperimentFolder]) -> None:
    found = compare_experiments(*pair)
    assert found.reference == {"accuracy": 0.1, "size_bytes": 1e6}
    # Strips from the right, (accuracy - 0.1) wide in accuracy.
    first = 0.85 * (1e6 - 250_000) + 0.83 * (250_000 - 90_000) + 0.78 * (90_000 - 60_000)
    second = 0.84 * (1e6 - 85_000) + 0.78 * (85_000 - 60_000)
    assert [side.hypervolume for side in found.sides] == pytest.approx([first, second])


def test_a_worse_corner_of_either_is_the_corner_of_both(tmp_path: Path) -> None:
    folders = []
    for name, corner in (("a", {"accuracy": 0.5}), ("b", {"size_bytes": 2e6})):
        folder = make_experiment(tmp_path, name=name, reference=corner)
        store_baseline(folder)
        folders.append(folder)
    assert compare_experiments(*folders).reference == {"accuracy": 0.1, "size_bytes": 2e6}


def test_an_experiment_against_its_copy_is_a_draw(tmp_path: Path) -> None:
    folders = [make_experiment(tmp_path, name=name) for name in ("a", "b")]
    for folder in folders:
        store_baseline(folder)
    found = compare_experiments(*folders)
    assert [(side.coverage, side.winners) for side in found.sides] == [(1.0, []), (1.0, [])]
    assert found.first.hypervolume == found.second.hypervolume > 0


def test_an_experiment_without_results_covers_nothing(tmp_path: Path) -> None:
    full, empty = make_experiment(tmp_path, name="full"), make_experiment(tmp_path, [], name="empty", tables=False)
    for folder in (full, empty):
        store_baseline(folder)
    found = compare_experiments(full, empty)
    assert (found.second.hypervolume, found.second.coverage, found.first.coverage) == (0.0, 0.0, 0.0)


def test_each_side_has_the_caveat_of_its_own_spec(tmp_path: Path) -> None:
    whole, few = (
        make_experiment(tmp_path, name="whole"),
        make_experiment(tmp_path, name="few", base=rehearsal(tmp_path)),
    )
    for folder in (whole, few):
        store_baseline(folder)
    for pair in ((whole, few), (few, whole)):
        said = {side.name: side.caveat for side in compare_experiments(*pair).sides}
        assert (said["whole"], said["few"][:10]) == ("", "rehearsal:")


def test_other_objectives_are_refused(tmp_path: Path) -> None:
    one = make_experiment(tmp_path, name="one")
    two = make_experiment(tmp_path, name="two", objectives={"accuracy": "maximize", "bops": "minimize"}, tables=False)
    with pytest.raises(ConfigError, match=r"accuracy \(maximize\), bops \(minimize\): only experiments with the same"):
        compare_experiments(one, two)
    with pytest.raises(ConfigError, match="is named twice"):
        compare_experiments(one, one)
    (tmp_path / "link").symlink_to(tmp_path / "one")
    with pytest.raises(ConfigError, match=r"one and .*link are the same folder: name two"):
        compare_experiments(one, ExperimentFolder(tmp_path / "link"))
    with pytest.raises(ConfigError, match="has no baseline yet"):
        compare_experiments(one, make_experiment(tmp_path, make_records()[:1], name="three"))


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 10_000))
def test_coverage_is_that_of_comparing_every_pair(n: int, m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 3, (n, 2)).astype(float), rng.integers(0, 3, (m, 2)).astype(float)
    slow = [any((x <= y).all() for x in a) for y in b]
    assert coverage(a, b) == (sum(slow) / len(slow) if slow else 0.0)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_picture_holds_both(suffix: str, pair: tuple[ExperimentFolder, ExperimentFolder], tmp_path: Path) -> None:
    path = tmp_path / f"both.{suffix}"
    save_comparison_plot({folder.path.name: frontier_info(folder) for folder in pair}, path)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG") or (b"toy" in content and b"other" in content)


def test_the_picture_names_the_side_that_is_a_placeholder(tmp_path: Path) -> None:
    trained = make_experiment(tmp_path, name="trained")
    store_baseline(trained)
    infos = {"trained": frontier_info(trained)}
    both_infos = {**infos, "placeholder": frontier_info(make_untrained(tmp_path, name="placeholder"))}
    for shown, name in ((both_infos, "both"), (infos, "trained")):
        save_comparison_plot(shown, tmp_path / f"{name}.svg")
    both = (tmp_path / "both.svg").read_text()
    assert "<!-- placeholder: untrained baseline: accuracies mean nothing -->" in both
    assert {"placeholder: untrained baseline, fp32", "trained: baseline, fp32"} <= set(
        re.findall("<!-- (.*?) -->", both)
    )
    assert "untrained" not in (tmp_path / "trained.svg").read_text()


@pytest.mark.parametrize("names", [("_old", "new"), ("a$x^^", "b$")])
def test_a_name_in_the_picture_is_a_name_whatever_it_holds(names: tuple[str, str], tmp_path: Path) -> None:
    folder, path = make_experiment(tmp_path), tmp_path / "both.svg"
    store_baseline(folder)
    save_comparison_plot(dict.fromkeys(names, frontier_info(folder)), path)
    drawn = [text.strip() for text in re.findall("<!-- (.*?) -->", path.read_text())]
    assert {*names, *(f"{name}: baseline, fp32" for name in names)} <= {*drawn}
    assert f"frontiers of {names[0]} (3) and {names[1]} (3)" in drawn
