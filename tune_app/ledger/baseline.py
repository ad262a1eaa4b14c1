"""The shared baseline of an experiment: made once, remembered, compared on every resume."""

import math
import re

from pydantic import Field

from trainables.config import Architecture, Frozen, unsealed
from trainables.errors import ConfigError, CorruptFile
from trainables.printable import Printable
from trainables.results import METRICS, TOP, Count, Seconds, Share
from trainables.storage import read_bytes
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec

UNTRAINED = "untrained baseline: accuracies mean nothing"
OLDER_THREADS = re.compile(rb"[1-9][0-9]{0,3}\n")
"""What an older version wrote of the threads of a baseline."""


class ClassImages(Frozen):
    """How many training images a class has."""

    name: Printable
    images: Count


class BegunBaseline(Frozen):
    """What is known of a baseline that is not finished yet; its threads must stay the same."""

    threads: int = Field(ge=1, description="torch's threads")
    cores: Count = Field(0, description="cores of the machine where it began; 0: an older version did not note them")
    key: Printable = Field("", description="stage key, under which its epochs are saved; empty: as with cores")


class BaselineInfo(Frozen):
    """What a search needs to know of the baseline."""

    key: Printable = Field(description="stage key, which names data, split, model, schedule and seed")
    fingerprint: Printable = Field(description="SHA-256 of the training and validation data")
    accuracy: Share = Field(description="fraction right on the validation split, fp32")
    top5_accuracy: Share | None = Field(None, description="these four as in `Scores`; null in older files")
    balanced_accuracy: Share | None = None
    macro_f1: Share | None = None
    cross_entropy: float | None = Field(None, ge=0)
    n: Count
    accuracy_outside: Share | None = Field(
        None, description="fraction right on test images, of an imported baseline that training images validate"
    )
    n_outside: Count = Field(0, description="the number of these test images")
    classes: int = Field(ge=1)
    largest_class: ClassImages | None = Field(None, description="these two: null in files of an older version")
    smallest_class: ClassImages | None = None
    parameters: Count
    size_bytes: Count = Field(description="4 bytes per parameter: the numerator of every compression ratio")
    macs: Count = Field(description="multiply-accumulates of one image")
    bops: Count = Field(description="32 · 32 for each of them")
    activation_bytes: Count = Field(description="all activations of one image, fp32")
    peak_activation_bytes: Count = Field(description="most activations that are alive at once, fp32")
    seconds: Seconds = Field(description="what it took in the run that made it")
    threads: int | None = Field(
        None, description="torch's threads when it was made, and whenever it is made again; null: those of a trial"
    )
    untrained: bool = Field(False, description="a placeholder with random weights: accuracies mean nothing")
    imported: Printable = Field("", description="which tensors of a checkpoint had other names; empty: none")
    architecture: Architecture | None = Field(None, description="null in files of an older version")

    def reference(self, spec: ExperimentSpec) -> dict[str, float]:
        """Returns the corner from which hypervolume is measured, by metric.

        The scores of chance, which finds every class equally likely, and what the baseline costs in fp32, unless the
        spec says otherwise.
        """
        chance = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), 1 / self.classes)
        chance |= {"top5_accuracy": min(1.0, TOP / self.classes), "cross_entropy": math.log(self.classes)}
        values = {**self.metrics(), **chance}
        return {name: spec.reference.get(name, values[name]) for name in METRICS}

    @property
    def title(self) -> str:
        """The baseline's name where its accuracy is shown."""
        return "untrained baseline" if self.untrained else "baseline"

    def metrics(self) -> dict[str, float]:
        """Returns what the baseline would measure as a trial: what can be an objective, by column, as far as known."""
        known = {"compression_ratio": 1.0, "sparsity_achieved": 0.0}
        values = {name: known[name] if name in known else getattr(self, name) for name in METRICS}
        return {name: float(value) for name, value in values.items() if value is not None}


def caveat(spec: ExperimentSpec) -> str:
    """Returns what everybody must be told who sees accuracies of an experiment, parted by `; `; empty: nothing."""
    images = spec.base.data.images
    few = "" if images is None else f"rehearsal: at most {images:,} images of each split (data.images)"
    return "; ".join(filter(None, (UNTRAINED if spec.base.baseline.PLACEHOLDER else "", few)))


def read_baseline(folder: ExperimentFolder) -> BaselineInfo | None:
    """Reads the stored baseline; None when it was not made yet.

    Raises:
        CorruptFile: the file is not what was written.
    """
    try:
        return unsealed(read_bytes(folder.baseline_file), BaselineInfo)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as err:
        raise CorruptFile(f"{folder.baseline_file} is damaged: delete it, and the next run makes it again.") from err


def read_begun_baseline(folder: ExperimentFolder) -> BegunBaseline | None:
    """Reads what is known of a baseline since it began; None when none began yet.

    Raises:
        CorruptFile: the file is not what was written.
    """
    file = folder.baseline_threads_file
    try:
        content = read_bytes(file)
        if OLDER_THREADS.fullmatch(content):
            return BegunBaseline(threads=int(content))
        return unsealed(content, BegunBaseline, older=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as err:
        raise CorruptFile(f"{file} is damaged: delete it, and the next run begins the baseline again.") from err


def require_baseline(folder: ExperimentFolder) -> BaselineInfo:
    """Returns the stored baseline.

    Raises:
        ConfigError: it was not made yet.
        CorruptFile: the file is not what was written.
    """
    found = read_baseline(folder)
    if found is None:
        begun = "it trains, or was cut off (`tune-app summary` says how far it is); go on with `tune-app run`."
        way = "run `tune-app run` first." if read_begun_baseline(folder) is None else begun
        raise ConfigError(f"{folder.path} has no baseline yet: {way}")
    return found
