"""What Prometheus reads of a search: names, tags and last values."""

import re
from typing import Any

import pytest

from tests.browser import require
from tests.cluster.live.conftest import TRIALS, Shown
from tests.cluster.live.prometheus import Prometheus
from tune_app.on_ray.gauges import DESCRIPTIONS
from tune_app.on_ray.grafana import dashboard, metric
from tune_app.tables.query import frontier_frame

pytestmark = pytest.mark.ray


def watcher(shown: Shown) -> Prometheus:
    require(shown.prometheus, "prometheus (apt-get install prometheus)")
    assert shown.prometheus is not None
    return shown.prometheus


def series(shown: Shown, name: str, label: str = "experiment") -> dict[str, float]:
    """The last value of a gauge, by a label."""
    found = watcher(shown).query(f'last_over_time({metric(name)}{{experiment="demo"}}[15m])')
    return {labels[label]: value for labels, value in found}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_every_gauge_arrives_with_its_experiment(name: str, shown: Shown) -> None:
    assert series(shown, name).keys() == {"demo"}


def test_trials_are_counted_by_state(shown: Shown) -> None:
    assert series(shown, "trials", "state") == {"complete": TRIALS, "invalid": 0, "failed": 0, "running": 0}


def test_the_last_values_are_those_of_the_frontier(shown: Shown) -> None:
    frame = frontier_frame(shown.folder.path)
    assert series(shown, "frontier_size") == {"demo": len(frame)}
    best = series(shown, "best", "objective")
    assert best == {"accuracy": frame["accuracy"].max(), "size_bytes": frame["size_bytes"].min()}
    assert series(shown, "hypervolume")["demo"] > 0


@pytest.mark.parametrize("panel", dashboard()["panels"], ids=lambda panel: panel["title"])
def test_every_panel_for_grafana_has_something_to_show(panel: dict[str, Any], shown: Shown) -> None:
    [target] = panel["targets"]
    found = watcher(shown).history(target["expr"].replace("$experiment", "demo"))
    named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    assert found
    assert all(labels.keys() == named for labels in found)
