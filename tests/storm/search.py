"""A small real search that children of this process run, so that a test can kill them where it wants."""

import io
import os
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path

import sklearn.datasets  # noqa: F401  (what a child needs is imported once, here)
from rich.console import Console
from torch import nn

import trainables.pipeline  # noqa: F401
from tests.specs import tiny_spec
from trainables.config import Baseline, BaselineTrain, DataConfig
from trainables.storage import StoragePath, names, read_many
from tune_app.engine.in_process import InProcess
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger
from tune_app.run.search import run_search
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.own_network import with_captured_network

TRIALS = 12
FAILED = 70
"""The exit code of a child whose search ended with an error, which its standard error names."""
Facts = dict[str, tuple[str, dict[str, float], str]]


def small_network() -> nn.Sequential:
    """A network that has what a search needs, and no layer more."""
    first = [nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    second = [nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(256, 10))


def quick_spec(storage: StoragePath) -> ExperimentSpec:
    """Twelve trials on digits of 8x8: two networks, one of them pruned, in six widths of weights, not trained again."""
    tiny = tiny_spec(storage)
    base = tiny.base.model_dump()
    schedule = base["baseline"]["schedule"] | {"epochs": 3, "batch_size": 32, "lr": 0.05}
    base["baseline"] = _captured(
        BaselineTrain(network="tests.storm.search:small_network", schedule=schedule), tiny.base.data
    )
    base["prune"]["fine_tune"] |= {"epochs": 1, "batch_size": 32}
    base["quantize"] = {"kind": "ptq", "rounding": "nearest", "scheme": {"observer": "minmax"}}
    space = {"prune_frac": [0.0, 0.5], "w_bits": [2, 3, 4, 5, 6, 8], "a_bits": [8]}
    changes = {"base": base, "space": space, "budget": {"trials": TRIALS}}
    return ExperimentSpec.model_validate({**tiny.model_dump(), **changes})


@cache
def _scratch() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="storm-network-")


def _captured(baseline: BaselineTrain, data: DataConfig) -> Baseline:
    """The configuration with its network as a file, which lies where no fault comes."""
    return with_captured_network(baseline, data, Path(_scratch().name), seed=0)


def in_child(work: Callable[[], object]) -> int:
    """Does some work in a child of this process, and returns its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(FAILED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def search(spec: ExperimentSpec) -> None:
    """Runs what is left of a search in this process, and is satisfied only if nothing is missing at its end."""
    run_search(spec, engine=InProcess(), console=Console(file=io.StringIO())).check()


def facts(folder: ExperimentFolder) -> Facts:
    """What no fault may change: state, numbers and packed file of each point."""
    records, damaged = Ledger(folder.trials).read()
    assert not damaged
    return {r.assignment.label: (r.state, r.metrics(), getattr(r.result, "artifact_sha256", "")) for r in records}


def record_files(folder: ExperimentFolder) -> dict[str, bytes]:
    """The content of every record, by its file's name."""
    found = names(folder.trials, "*.json")
    contents = read_many(folder.trials / name for name in found)
    return {name: content for name, content in zip(found, contents, strict=True) if isinstance(content, bytes)}


def undisturbed(place: Path, counted: Callable[[], Callable[[], int]]) -> tuple[Facts, int]:
    """What a search finds that nothing happens to, and how many operations a counter counts meanwhile."""
    spec = quick_spec(place)

    def run() -> None:
        count = counted()
        search(spec)
        (place / "count").write_text(str(count()))

    assert in_child(run) == 0
    return facts(ExperimentFolder(spec.folder)), int((place / "count").read_text())
