"""Makes the baseline of an experiment, or finds it in the stage cache."""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from trainables.config import BaselineImport, data_packages, sealed, stage_keys, stage_packages
from trainables.errors import ConfigError, OutOfMemory, TuneAppError
from trainables.storage import create_once, replace, storage_path
from tune_app.engine.images import load_images
from tune_app.engine.trial import unexpected, workplace_of
from tune_app.ledger.baseline import BaselineInfo, BegunBaseline, ClassImages, read_baseline, read_begun_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.measured import refuse_undefined
from tune_app.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from trainables.data.data_sets import DataSet
    from trainables.models.model import Model
    from trainables.stages.stage import StageResult
    from trainables.stages.workplace import Workplace

BUSY, LOOK_S, LOOKS = 0.25, 0.5, 4
"""The share of a machine's cores with which it counts as busy, in each of so many looks of so many seconds. Torch's
threads wait for each other: with two busy programs beside it on two cores, a baseline of small images did not end in
four minutes with two threads, and took 19 seconds with one."""
OUTSIDE = 2_000
"""Test images on which an imported network is tried. More: seconds; fewer: only a large difference is seen."""


def prepare(spec: ExperimentSpec, *, cores: float, gpu: float) -> tuple[BaselineInfo, "DataSet"]:
    """Loads the data and makes the baseline or finds it, on a machine with so many free cores.

    Raises:
        TuneAppError: as `load_images` and `make_baseline` do, and for what else a loader raises.
    """
    with _in_one_line("the data set"):
        data = load_images(spec)
    return make_baseline(spec, data, threads=free_threads(spec, cores), gpu=gpu), data


def make_baseline(
    spec: ExperimentSpec, data: "DataSet", *, threads: int | None = None, gpu: float | None = None
) -> BaselineInfo:
    """Trains or imports the baseline, or finds it in the stage cache, and stores it. Runs in a worker.

    The teacher is made with it, with the same threads of torch: those of the spec, else those that an unfinished one
    began with, else these, else those of a trial; and with this share of a GPU, else a first trial's. What was made
    before is made again with its own threads.

    Raises:
        ConfigError: the data set or checkpoint is another one than when the experiment began, or an objective is
            undefined for its classes.
        CorruptFile: a file of the baseline is not what was written.
        TrialFailure: training failed, or the GPU's memory was not enough.
    """
    from trainables.pipeline import run_stages, run_teacher

    refuse_undefined(spec, classes=data.classes)
    folder = ExperimentFolder(spec.folder)
    stored = read_baseline(folder)
    key = stage_keys(spec.base, fingerprint=data.fingerprint)[0]
    if stored is not None:
        _refuse_another(stored, spec, key=key, fingerprint=data.fingerprint)
    asked = spec.resources.baseline_cpu
    threads = asked or threads or max(1, int(spec.resources.cpu))
    if stored is None:
        begun = _begun(folder, threads, key)
        threads = asked or begun.threads
    workplace = workplace_of(spec, data, gpu=gpu, first_threads=threads)
    started = time.perf_counter()
    with _in_one_line("the baseline or its teacher"):
        result, _ = run_stages(spec.base, spec.base.stages()[:1], workplace)
        if stored is not None:
            return stored
        seconds = time.perf_counter() - started
        info = BaselineInfo(key=key, seconds=seconds, threads=threads, **_measured(result, spec, workplace))
        create_once(folder.baseline_file, sealed(info))
        run_teacher(spec.base, workplace)  # after the note of its threads
    return info


@contextlib.contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Makes an error of ours of any other one, which ended this.

    Where the GPU's memory was not enough, no smaller share of it was tried before.
    """
    from trainables.device import is_out_of_memory

    try:
        yield
    except TuneAppError:
        raise
    except Exception as err:
        if is_out_of_memory(err):
            raise OutOfMemory(
                f"{what} ran out of GPU memory: give the schedules that train them a smaller "
                "batch_size, or run it on a GPU with more memory, or with resources.gpu: 0."
            ) from err
        raise unexpected(err, at=f"{what} could not be made (-v shows where it ended): ") from err


def _begun(folder: ExperimentFolder, threads: int, key: str) -> BegunBaseline:
    """Returns what is known of a baseline that began and was not finished; notes it, if it begins now.

    One of other data that was given up before it ended is forgotten.
    """
    begins = BegunBaseline(threads=threads, cores=os.cpu_count() or 0, key=key)
    begun = read_begun_baseline(folder)
    if begun is not None and begun.key in ("", key):
        return begun
    replace(folder.baseline_threads_file, sealed(begins))
    return begins


def _refuse_another(stored: BaselineInfo, spec: ExperimentSpec, *, key: str, fingerprint: str) -> None:
    """Raises ConfigError where the data or the stage are not those of the stored baseline."""
    if stored.key == key:
        return
    what = "data set" if stored.fingerprint != fingerprint else "baseline stage"
    packages = sorted({*data_packages(spec.base.data), *stage_packages(spec.base.baseline)})
    here = f" (here it is made by {', '.join(packages)})" if packages else ""
    raise ConfigError(f"the {what} is not the one that {spec.folder} began with{here}: restore it or use another name.")


def _measured(result: "StageResult", spec: ExperimentSpec, workplace: "Workplace") -> dict[str, Any]:
    """Measures a baseline: what `BaselineInfo` says of its data, its costs and its scores."""
    from trainables.costs.counts import counted_metrics
    from trainables.models.model import fp32_bytes
    from trainables.train.evaluation import score

    data, model = workplace.data, result.model()
    return {
        "fingerprint": data.fingerprint,
        "classes": data.classes,
        **_class_counts(data),
        "size_bytes": fp32_bytes(result.architecture),
        **counted_metrics(model, result.architecture),
        **vars(score(workplace.device.place(model), workplace.val)),
        "n": len(data.val),
        **_outside(spec, model, workplace),
        "untrained": spec.base.baseline.PLACEHOLDER,
        "imported": _imported(spec, model),
        "architecture": result.architecture,
    }


def free_threads(spec: ExperimentSpec, cores: float) -> int | None:
    """Returns the threads for a baseline that is yet to be made: one for each core; None where others use the machine.

    None also says that the number is known already.
    """
    if spec.resources.baseline_cpu is not None or read_baseline(ExperimentFolder(spec.folder)) is not None:
        return None
    quiet = any(psutil.cpu_percent(interval=LOOK_S) < 100 * BUSY for _ in range(LOOKS))
    return max(1, int(cores)) if quiet else None


def _class_counts(data: "DataSet") -> dict[str, ClassImages]:
    """Returns the classes with the most and the fewest training images; of equal ones the first."""
    counts = np.bincount(data.train.labels, minlength=data.classes)
    names = data.names or [f"class {i}" for i in range(data.classes)]
    places = {"largest_class": counts.argmax(), "smallest_class": counts.argmin()}
    return {which: ClassImages(name=names[i], images=counts[i]) for which, i in places.items()}


def _outside(spec: ExperimentSpec, model: "Model", workplace: "Workplace") -> dict[str, Any]:
    """Measures an imported network on test images where training images validate: it may have been trained on these.

    The result is shown, and no point is chosen by it.
    """
    from trainables.data.data_sets import load_test_images
    from trainables.train.loop import evaluate

    data = spec.base.data
    if not isinstance(spec.base.baseline, BaselineImport) or data.validation.source != "train":
        return {}
    images = load_test_images(data, workplace.device.torch).sample(OUTSIDE, spec.base.seed)
    accuracy = evaluate(workplace.device.place(model), images)
    return {"accuracy_outside": accuracy, "n_outside": len(images)}


def _imported(spec: ExperimentSpec, model: "Model") -> str:
    """Says how the names of an imported checkpoint were matched, as far as the file is still there."""
    from trainables.baseline import read_import

    config = spec.base.baseline
    if config.network:
        return _about_network(config.network, model)
    if not isinstance(config, BaselineImport):
        return ""
    try:
        return read_import(config, model).summary
    except ConfigError:  # the stage came from the cache
        return ""


def _about_network(place: str, model: "Model") -> str:
    """Says where a captured network came from: parameters, how names matched, the accuracy that its file names."""
    from trainables.graph.network_file import read_network_file
    from trainables.models.units import count_parameters

    try:
        about = read_network_file(storage_path(place)).about
    except ConfigError:  # the stage came from the cache
        return ""
    parts = [f"{count_parameters(model):,} parameters"]
    if "matched" in about:
        parts.append(f"{about['matched']} tensors of {about['checkpoint']}")
    parts += [str(about["renamed"])] if about.get("renamed") else []
    parts += [f"a copy for each place that uses {', '.join(about['copies'])}"] if about.get("copies") else []
    parts += [f"{name} {value:g} says the file" for name, value in about.get("reported", {}).items()]
    return f"{about.get('network', place)}: {', '.join(parts)}"
