"""The Grafana dashboard shows the gauges that a search has, by the names that Prometheus sees."""

import json
import re
from pathlib import Path

import pytest

from tests.tune_app.factories import REFERENCE, make_record, make_spec
from trainables.errors import ConfigError
from tune_app.engine.live_view import Status
from tune_app.frontier.points import frontier
from tune_app.on_ray.gauges import DESCRIPTIONS, readings
from tune_app.on_ray.grafana import as_json, write_dashboard


def test_every_gauge_has_a_panel_of_its_own() -> None:
    shown = [
        re.search(r"ray_tune_app_(\w+)\{experiment=~", target["expr"])[1]  # type: ignore[index]
        for panel in json.loads(as_json())["panels"]
        for target in panel["targets"]
    ]
    assert shown == list(DESCRIPTIONS)


def test_the_file_is_written_again_but_no_other_one_replaced(tmp_path: Path) -> None:
    write_dashboard(tmp_path / "ours.json")
    write_dashboard(tmp_path / "ours.json")
    assert (tmp_path / "ours.json").read_text() == as_json()
    for text in ("mine", "[]", '{"uid": "another"}'):
        (tmp_path / "mine.json").write_text(text)
        with pytest.raises(ConfigError, match="is no dashboard of ours"):
            write_dashboard(tmp_path / "mine.json")
        assert (tmp_path / "mine.json").read_text() == text
    with pytest.raises(ConfigError, match="is a folder"):
        write_dashboard(tmp_path)


def test_panels_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in json.loads(as_json())["panels"]]
    cells = [(p["x"] + dx, p["y"] + dy) for p in places for dx in range(p["w"]) for dy in range(p["h"])]
    assert len(cells) == len(set(cells))


def test_readings_are_what_the_records_say(tmp_path: Path) -> None:
    records = [
        make_record(0, {"w_bits": 2}, 0.8, 100_000),
        make_record(1, {"w_bits": 4}, 0.9, 200_000),
        make_record(2, {"w_bits": 8}, 0.7, 300_000),
        make_record(3, {"w_bits": 3}, state="failed"),
    ]
    status = Status(make_spec(tmp_path), records=records, running=2, reference=REFERENCE)
    found = readings(status)
    assert {name for name, _ in found} == set(DESCRIPTIONS)
    assert {label: found["trials", label] for label in ("complete", "failed", "invalid", "running")} == {
        "complete": 3,
        "failed": 1,
        "invalid": 0,
        "running": 2,
    }
    assert (found["best", "accuracy"], found["best", "size_bytes"]) == (0.9, 100_000)
    assert found["frontier_size", ""] == 2
    assert found["hypervolume", ""] == status.hypervolume(status.frontier()) > 0


def test_the_frontier_is_computed_once_for_all_gauges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = Status(make_spec(tmp_path), records=[make_record(0, {"w_bits": 2}, 0.8, 100_000)], reference=REFERENCE)
    asked: list[object] = []
    monkeypatch.setattr("tune_app.engine.live_view.frontier", lambda *given: asked.append(given) or frontier(*given))
    readings(status)
    assert len(asked) == 1


def test_without_records_there_is_something_to_read(tmp_path: Path) -> None:
    found = readings(Status(make_spec(tmp_path)))
    assert found["frontier_size", ""] == 0
    assert found["hypervolume", ""] == 0.0
