"""Searches for small versions of a trained network; `tune_app.Experiment` runs and reads them from Python.

What is named here is imported when it is used, so that `import tune_app` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainables.errors import TuneAppError
    from trainables.network_file import load_network
    from tune_app.api.experiment import Experiment
    from tune_app.api.point import Point
    from tune_app.spec.experiment import ExperimentSpec
    from tune_app.spec.yaml_file import load_spec

__all__ = ["Experiment", "ExperimentSpec", "Point", "TuneAppError", "load_network", "load_spec"]
_HOMES = {
    "Experiment": "tune_app.api.experiment",
    "ExperimentSpec": "tune_app.spec.experiment",
    "Point": "tune_app.api.point",
    "TuneAppError": "trainables.errors",
    "load_network": "trainables.network_file",
    "load_spec": "tune_app.spec.yaml_file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
