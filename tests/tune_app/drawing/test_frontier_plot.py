import dataclasses
import json
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.tune_app.factories import (
    BASELINE_BYTES,
    make_experiment,
    make_record,
    make_records,
    make_untrained,
    store_baseline,
)
from trainables.errors import ConfigError, CorruptFile
from trainables.storage import replace
from tune_app.drawing.frontier_info import FrontierInfo, Mark, frontier_info
from tune_app.drawing.frontier_plot import save_frontier_plot


def texts(path: Path, info: FrontierInfo) -> str:
    """All text of the figure: an SVG holds each string in a comment before its outlines."""
    save_frontier_plot(info, path)
    ElementTree.parse(path)
    return path.read_text()


def test_the_data_of_the_figure(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, constraints=["accuracy >= 0.9"])
    info = frontier_info(folder)
    assert [p.label for p in info.dominated] == ["p50_w8_a8", "p30_w8_a8"]
    assert info.frontier == (Mark("p30_w4_a8", 90_000, 0.93, w_bits=4), Mark("p0_w8_a8", 250_000, 0.95, w_bits=8))
    assert [p.label for p in info.infeasible] == ["p50_w4_a8"]
    assert (info.experiment, info.baseline, info.stepped) == ("toy", None, True)
    assert (info.x.metric, info.x.direction, info.y.metric, info.y.direction) == (
        "size_bytes",
        "minimize",
        "accuracy",
        "maximize",
    )


def test_the_baseline_is_shown_when_it_is_known(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    store_baseline(folder, 0.96)
    info = frontier_info(folder)
    assert info.baseline == Mark("baseline", BASELINE_BYTES, 0.96)
    assert info.x.log  # 60,000 to 1,000,000 bytes
    assert "baseline, fp32" in texts(tmp_path / "with.svg", info)


def test_the_figure_of_a_placeholder_says_so(tmp_path: Path) -> None:
    trained = make_experiment(tmp_path / "trained")
    store_baseline(trained)
    shown = texts(tmp_path / "placeholder.svg", frontier_info(make_untrained(tmp_path / "placeholder")))
    for text in ("untrained baseline: accuracies mean nothing", "untrained baseline, fp32", "toy: 3 of 5 trials"):
        assert f"<!-- {text}" in shown
    assert "untrained" not in texts(tmp_path / "trained.svg", frontier_info(trained))


@pytest.mark.parametrize("body", [{"accuracy": 0.9}, [1], {"accuracy": None, "size_bytes": 3}])
def test_a_damaged_baseline_is_named(tmp_path: Path, body: object) -> None:
    folder = make_experiment(tmp_path)
    replace(folder.baseline_file, json.dumps(body).encode())
    with pytest.raises(CorruptFile, match=r"baseline\.json"):
        frontier_info(folder)


def test_the_baseline_has_a_place_on_every_axis(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, objectives={"macs": "minimize", "compression_ratio": "maximize"})
    store_baseline(folder)
    assert frontier_info(folder).baseline == Mark("baseline", 100_000_000, 1.0)


def test_sizes_within_one_decade_are_linear_and_others_say_that_they_are_not(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path)
    info = frontier_info(folder)
    assert (info.x.log, info.x.title) == (False, "size of the packed file (KB)")
    assert "(log scale)" not in texts(tmp_path / "linear.svg", info)
    store_baseline(folder, 0.96)
    info = frontier_info(folder)
    assert (info.x.log, info.x.title) == (True, "size of the packed file in KB (log scale)")
    shown = texts(tmp_path / "log.svg", info)
    assert "size of the packed file (log scale)" in shown
    assert re.search(r"<!-- [0-9.]+ % -->", shown)


@pytest.mark.parametrize(
    ("objectives", "x", "y", "stepped"),
    [
        ({"size_bytes": "minimize", "accuracy": "maximize"}, "size_bytes", "accuracy", True),
        ({"size_bytes": "minimize", "parameters": "minimize"}, "size_bytes", "parameters", True),
        ({"compression_ratio": "maximize"}, "accuracy", "compression_ratio", False),
        ({"accuracy": "maximize", "macs": "minimize"}, "macs", "accuracy", True),
        (
            {"peak_activation_bytes": "minimize", "sparsity_achieved": "maximize"},
            "peak_activation_bytes",
            "sparsity_achieved",
            True,
        ),
        (
            {"accuracy": "maximize", "size_bytes": "minimize", "parameters": "minimize"},
            "size_bytes",
            "accuracy",
            False,
        ),
    ],
)
def test_the_objectives_choose_the_axes(
    tmp_path: Path, objectives: dict[str, str], x: str, y: str, stepped: bool
) -> None:
    info = frontier_info(make_experiment(tmp_path, objectives=objectives))
    assert (info.x.metric, info.y.metric, info.stepped) == (x, y, stepped)
    save_frontier_plot(info, tmp_path / "f.svg")


def test_a_png_has_1200_by_800_pixels(tmp_path: Path) -> None:
    path = tmp_path / "new" / "f.PNG"
    save_frontier_plot(frontier_info(make_experiment(tmp_path)), path)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1200, 800)


def test_the_same_data_give_the_same_file(tmp_path: Path) -> None:
    info = frontier_info(make_experiment(tmp_path))
    for suffix in ("svg", "png"):
        first, second = tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix}"
        save_frontier_plot(info, first)
        save_frontier_plot(info, second)
        assert first.read_bytes() == second.read_bytes()


def test_the_figure_names_points_axes_and_bits(tmp_path: Path) -> None:
    shown = texts(tmp_path / "f.svg", frontier_info(make_experiment(tmp_path)))
    for text in ("p50_w4_a8", "p30_w4_a8", "p0_w8_a8", "frontier, 4-bit weights", "frontier, 8-bit weights"):
        assert text in shown
    assert "toy: 3 of 5 trials on the frontier" in shown
    assert "size of the packed file" in shown
    assert "100 KB" in shown
    assert "p50_w8_a8" not in shown  # dominated
    assert "baseline" not in shown


def test_crowded_points_are_not_all_named(tmp_path: Path) -> None:
    records = [make_record(i, {"w_bits": 4, "step": i}, 0.9 + i / 1e5, 100_000 + i) for i in range(200)]
    info = frontier_info(make_experiment(tmp_path, records))
    assert len(info.frontier) == 200
    shown = texts(tmp_path / "f.svg", info)
    assert 2 <= sum(f"<!-- {p.label} -->" in shown for p in info.frontier) < 120


def test_an_experiment_without_a_complete_trial_says_so(tmp_path: Path) -> None:
    failed = [r for r in make_records() if r.state != "complete"]
    for records in (failed, []):
        info = frontier_info(make_experiment(tmp_path / str(len(records)), records))
        assert info.tried == ()
        assert "no complete trial yet" in texts(tmp_path / "f.svg", info)


def test_a_point_that_ran_several_times_lies_at_its_means(tmp_path: Path) -> None:
    params = {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}
    records = [make_record(i, params, 0.9 - i / 50, 60_000 + i * 100, repeat=i) for i in range(3)]
    info = frontier_info(make_experiment(tmp_path, records))
    assert info.tried == info.frontier == (Mark("p50_w4_a8", 60_100, pytest.approx(0.88), w_bits=4),)


def test_only_the_full_rung_is_shown(tmp_path: Path) -> None:
    records = [make_record(0, {"w_bits": 4}), make_record(1, {"w_bits": 8}, rung="short")]
    assert [p.label for p in frontier_info(make_experiment(tmp_path, records)).tried] == ["w4"]


@pytest.mark.parametrize("name", ["f.pdf", "f", "f.html", ".png"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    info = frontier_info(make_experiment(tmp_path))
    with pytest.raises(ConfigError, match=r"\.png or \.svg"):
        save_frontier_plot(info, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_matplotlib_is_loaded_on_use_alone() -> None:
    check = (
        "import sys, tune_app.drawing.frontier_plot; "
        "sys.exit(any(m in sys.modules for m in ('matplotlib', 'torch', 'ray')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_ratio_over_more_than_a_decade_has_plain_numbers_along_its_axis(tmp_path: Path) -> None:
    records = [make_record(i, {"w_bits": 2 + i}, 0.9 + i / 100, size) for i, size in enumerate((20_000, 500_000))]
    spec = {"objectives": {"accuracy": "maximize", "compression_ratio": "maximize"}}
    info = frontier_info(make_experiment(tmp_path, records, **spec))
    assert info.x.log or info.y.log
    shown = texts(tmp_path / "ratio.svg", info)
    assert "<!-- 20 -->" in shown
    assert "math" not in shown


def test_names_that_cannot_fit_are_not_laid_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a frontier of thousands the figure took a minute."""
    from matplotlib.axes import Axes

    made: list[str] = []

    def counted(axes: Any, text: str, *places: Any, **style: Any) -> Any:
        made.append(text)
        return annotate(axes, text, *places, **style)

    annotate = Axes.annotate
    monkeypatch.setattr(Axes, "annotate", counted)
    places = [(1_000, 0.1), *((100_000 + i, 0.9 + i / 100_000) for i in range(200)), (900_000, 0.99)]
    marks = tuple(Mark(f"p{i}_w4_a8", size, accuracy) for i, (size, accuracy) in enumerate(places))
    info = dataclasses.replace(frontier_info(make_experiment(tmp_path, [])), frontier=marks)
    shown = re.findall("<!-- (p.*) -->", texts(tmp_path / "f.svg", info))
    assert (shown, len(made) < 100) == (["p0_w4_a8", "p1_w4_a8", "p2_w4_a8", "p201_w4_a8"], True), len(made)


def test_a_loss_has_plain_numbers_along_its_axis(tmp_path: Path) -> None:
    """Not `80 m`, which are milli."""
    records = [make_record(i, {"w_bits": 2 + i}, 0.9 + i / 50, 50_000 * (i + 1)) for i in range(4)]
    info = frontier_info(make_experiment(tmp_path, records, objectives=["cross_entropy", "size_bytes"]))
    assert "<!-- 0.08 -->" in texts(tmp_path / "loss.svg", info)
