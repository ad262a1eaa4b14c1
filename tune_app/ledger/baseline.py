"""The shared baseline of an experiment: made once, remembered, compared on every resume."""

import time
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from trainables.config import Architecture, BaselineImport, Frozen, data_packages, stage_keys, stage_packages
from trainables.errors import ConfigError, CorruptFile
from trainables.results import METRICS
from trainables.storage import create_once, read_bytes
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from trainables.data.data_sets import DataSet
    from trainables.models.model import Model

UNTRAINED = "untrained baseline: accuracies mean nothing"


class BaselineInfo(Frozen):
    """What a search needs to know of the baseline."""

    key: str = Field(description="stage key, which names data, split, model, schedule and seed")
    fingerprint: str = Field(description="SHA-256 of the training and validation data")
    accuracy: float = Field(description="fraction right on the validation split, fp32")
    n: int
    classes: int
    parameters: int
    size_bytes: int = Field(description="4 bytes per parameter: the numerator of every compression ratio")
    macs: int = Field(description="multiply-accumulates of one image")
    bops: int = Field(description="32 · 32 for each of them")
    activation_bytes: int = Field(description="all activations of one image, fp32")
    peak_activation_bytes: int = Field(description="most activations that are alive at once, fp32")
    seconds: float = Field(description="what it took in the run that made it")
    untrained: bool = Field(default=False, description="a placeholder with random weights: accuracies mean nothing")
    imported: str = Field(default="", description="which tensors of a checkpoint had other names; empty: none")
    architecture: Architecture | None = Field(default=None, description="null in files of an older version")

    def reference(self, spec: ExperimentSpec) -> dict[str, float]:
        """The corner from which hypervolume is measured, by metric.

        Chance accuracy, and what the baseline costs in fp32, unless the spec says otherwise.
        """
        values = {**self.metrics(), "accuracy": 1 / self.classes}
        return {name: spec.reference.get(name, values[name]) for name in METRICS}

    @property
    def title(self) -> str:
        """What it is called where its accuracy is shown."""
        return "untrained baseline" if self.untrained else "baseline"

    def metrics(self) -> dict[str, float]:
        """As a trial of its own: what can be an objective, by column."""
        known = {"compression_ratio": 1.0, "sparsity_achieved": 0.0}
        return {name: float(known[name] if name in known else getattr(self, name)) for name in METRICS}


def caveat(spec: ExperimentSpec) -> str:
    """What everybody must be told who sees accuracies of an experiment; empty: nothing."""
    return UNTRAINED if spec.base.baseline.kind == "untrained" else ""


def read_baseline(folder: ExperimentFolder) -> BaselineInfo | None:
    """The stored baseline, or None when it was not made yet.

    Raises:
        CorruptFile: the file is not what was written.
    """
    try:
        return BaselineInfo.model_validate_json(read_bytes(folder.baseline_file))
    except FileNotFoundError:
        return None
    except ValidationError as err:
        raise CorruptFile(f"{folder.baseline_file} is damaged: delete it, and the next run makes it again.") from err


def make_baseline(spec: ExperimentSpec, data: "DataSet") -> BaselineInfo:
    """Trains or imports the baseline, or finds it in the stage cache, and stores it. Runs in a worker.

    Raises:
        ConfigError: the data set or checkpoint is another one than when the experiment began.
        TrialFailure: training failed.
    """
    from trainables.costs.counts import count
    from trainables.measure import baseline_bytes
    from trainables.models.units import count_parameters
    from trainables.pipeline import run_stages
    from trainables.stages.workplace import open_workplace

    folder = ExperimentFolder(spec.folder)
    stored = read_baseline(folder)
    key = stage_keys(spec.base, fingerprint=data.fingerprint)[0]
    if stored is not None and stored.key != key:
        what = "data set" if stored.fingerprint != data.fingerprint else "baseline stage"
        packages = sorted({*data_packages(spec.base.data), *stage_packages(spec.base.baseline)})
        here = f" (here it is made by {', '.join(packages)})" if packages else ""
        raise ConfigError(
            f"the {what} is not the one that {folder.path} began with{here}: restore it or use another name."
        )
    # The share of a trial, although it trains alone: the order of a sum depends on the number of threads, and
    # the baseline should be the same network on every machine.
    share = spec.resources
    workplace = open_workplace(data, folder.stages, cpu=share.cpu, gpu=share.gpu_at_first, compile=share.compile)
    started = time.perf_counter()
    result, _ = run_stages(spec.base, spec.base.stages()[:1], workplace)
    if stored is not None:
        return stored
    model = result.model()
    counts = count(model, result.architecture)
    info = BaselineInfo(
        key=key,
        fingerprint=data.fingerprint,
        accuracy=result.metrics["val_accuracy"],
        n=len(data.val),
        classes=data.classes,
        parameters=count_parameters(model),
        size_bytes=baseline_bytes(result.architecture),
        macs=counts.macs,
        bops=counts.bops,
        activation_bytes=counts.activation_bytes,
        peak_activation_bytes=counts.peak_activation_bytes,
        seconds=time.perf_counter() - started,
        untrained=spec.base.baseline.kind == "untrained",
        imported=_imported(spec, model),
        architecture=result.architecture,
    )
    create_once(folder.baseline_file, info.model_dump_json(indent=1).encode() + b"\n")
    return info


def _imported(spec: ExperimentSpec, model: "Model") -> str:
    """How the names of an imported checkpoint were matched, as far as the file is still there."""
    from trainables.baseline import read_import

    config = spec.base.baseline
    if not isinstance(config, BaselineImport):
        return ""
    try:
        return read_import(config, model).summary
    except ConfigError:  # the stage came from the cache
        return ""
