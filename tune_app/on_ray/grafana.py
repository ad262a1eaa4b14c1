"""A Grafana dashboard of the gauges, for the Grafana that Ray's dashboard embeds."""

import json
from pathlib import Path
from typing import Any

from trainables.errors import ConfigError
from trainables.storage import exists, refuse_folder, replace
from tune_app.on_ray.gauges import DESCRIPTIONS, LABELS

UID = "tuneApp"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"training_seconds": "s", "seconds_saved": "s"}
WIDTH, HEIGHT = 12, 8
"""The size of a panel in Grafana's grid of 24 columns: two stand side by side."""
EXPERIMENT = {
    "name": "experiment",
    "type": "query",
    "datasource": SOURCE,
    "query": "label_values(ray_tune_app_trials, experiment)",
    "refresh": 2,
    "multi": True,
    "includeAll": True,
    "allValue": ".*",
}
"""The variable that chooses experiments; all of them at first."""


def metric(name: str) -> str:
    """Returns what Prometheus calls a gauge: Ray puts a prefix before ours."""
    return f"ray_tune_app_{name}"


def dashboard() -> dict[str, Any]:
    """Returns the dashboard as Grafana's JSON model: one panel for each gauge, a variable for the experiment."""
    return {
        "uid": UID,
        "title": "tune-app",
        "tags": ["ray", "tune-app"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "datasource", "type": "datasource", "query": "prometheus", "hide": 2}, EXPERIMENT]
        },
        "panels": [_panel(i, name, text) for i, (name, text) in enumerate(DESCRIPTIONS.items())],
    }


def write_dashboard(path: Path) -> None:
    """Writes the dashboard's file, or again.

    Raises:
        ConfigError: the path is that of a folder, or of a file that is no such dashboard.
    """
    refuse_folder(path, such_as="tune-app.json")
    if exists(path):
        try:
            ours = json.loads(path.read_bytes())["uid"] == UID
        except (OSError, ValueError, KeyError, TypeError):
            ours = False
        if not ours:
            raise ConfigError(f"{path} is there, and is no dashboard of ours: name another file, or remove it.")
    replace(path, as_json().encode())


def as_json() -> str:
    """Returns the content of the dashboard's file."""
    return json.dumps(dashboard(), indent=1) + "\n"


def _panel(i: int, name: str, text: str) -> dict[str, Any]:
    tags = ("experiment", *LABELS.get(name, ()))
    return {
        "id": i + 1,
        "type": "timeseries",
        "title": name.replace("_", " "),
        "description": text,
        "datasource": SOURCE,
        "gridPos": {"x": WIDTH * (i % 2), "y": HEIGHT * (i // 2), "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": UNITS.get(name, "short")}, "overrides": []},
        "targets": [
            {
                "refId": "A",
                "datasource": SOURCE,
                # A search that went on has a series of each of its drivers: Ray adds tags of its own.
                "expr": f'max by ({", ".join(tags)}) ({metric(name)}{{experiment=~"$experiment"}})',
                "legendFormat": " ".join(f"{{{{{tag}}}}}" for tag in tags),
            }
        ],
    }
