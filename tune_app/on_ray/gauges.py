"""Gauges: the numbers of a search on Ray's metrics endpoint, for Prometheus and Ray's dashboard."""

from collections import Counter

from ray.util.metrics import Gauge

from tune_app.engine.live_view import Status
from tune_app.ledger.training_cost import seconds_saved, training_seconds

DESCRIPTIONS = {
    "trials": "Finished trials by state; running ones are those that have no record yet.",
    "best": "Best value of an objective so far.",
    "frontier_size": "Points on the Pareto frontier.",
    "hypervolume": "Hypervolume of the frontier, as in frontier.parquet.",
    "training_seconds": "Seconds that stages took which trials computed themselves.",
    "cache_hits": "Stages that the cache answered.",
    "seconds_saved": "Seconds of training that the cache made unnecessary.",
}
LABELS = {"trials": ("state",), "best": ("objective",)}


class Gauges:
    """What the live view shows, as gauges `tune_app_…` with the experiment as a tag."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._gauges = {
            name: Gauge(f"tune_app_{name}", description, tag_keys=("experiment", *LABELS.get(name, ())))
            for name, description in DESCRIPTIONS.items()
        }
        for gauge in self._gauges.values():
            gauge.set_default_tags({"experiment": status.spec.name})

    def show(self) -> None:
        """Sets every gauge to what the status says now."""
        for (name, label), value in readings(self._status).items():
            tags = dict(zip(LABELS.get(name, ()), (label,), strict=False))
            self._gauges[name].set(value, tags=tags)


def readings(status: Status) -> dict[tuple[str, str], float]:
    """Returns the value of every gauge by name and label; the label is empty where a gauge has none."""
    records = list(status.records)
    states = Counter(r.state for r in records)
    front = status.frontier()
    stages = [stage for record in records for stage in record.result.stages]
    return {
        **{("trials", state): float(states[state]) for state in ("complete", "invalid", "failed")},
        ("trials", "running"): float(status.running),
        **{("best", name): value for name, value in status.best().items()},
        ("frontier_size", ""): float(len(front)),
        ("hypervolume", ""): status.hypervolume(front),
        ("training_seconds", ""): sum(map(training_seconds, records)),
        ("cache_hits", ""): float(sum(stage.cached for stage in stages)),
        ("seconds_saved", ""): seconds_saved(records),
    }
