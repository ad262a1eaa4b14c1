"""Subject: a network whose mistakes are looked at, its images, and the baseline beside it (torch is imported on
use)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainables.config import DATASETS, DataConfig
from trainables.storage import StoragePath
from tune_app.artifacts.export import experiment_data
from tune_app.artifacts.test_split import require_tested
from tune_app.ledger.baseline import read_baseline, require_baseline
from tune_app.ledger.folder import PACKED, ExperimentFolder
from tune_app.ledger.reading import find_trial, verified_artifact

if TYPE_CHECKING:
    from trainables.data.data_sets import DataSet
    from trainables.data.images import ImageSet
    from trainables.network_file import Network

Split = Literal["val", "test"]
BASELINE = "baseline"
YAML = {".yaml", ".yml"}


@dataclass(frozen=True)
class About:
    """What people call a network, where it comes from, and what judges it; empty where that is not known."""

    label: str
    data: str
    experiment: str = ""
    trial_id: str = ""
    size_bytes: int | None = None
    split: Split = "val"

    @property
    def split_name(self) -> str:
        """What people call the split: `validation` or `test`."""
        return "validation" if self.split == "val" else self.split


@dataclass(frozen=True)
class Subject:
    """A network, the data set that judges it, and the baseline it is compared with.

    Its images are those of the validation split unless there is a `test` split.
    """

    about: About
    network: "Network"
    data: "DataSet"
    baseline: "Network | None" = None
    test: "ImageSet | None" = None

    @property
    def images(self) -> "ImageSet":
        """The images that the network is judged on."""
        return self.data.val if self.test is None else self.test


def trial_subject(folder: ExperimentFolder, name: str, *, split: Split = "val") -> Subject:
    """Returns a trial by label, id or unique start of an id, decoded from its packed file; or the `baseline` alone.

    Its images are those of the validation split, or of the test split where `finalize` has evaluated it on that.

    Raises:
        ConfigError: as in `find_trial`, `experiment_data` and `require_tested`, or there is no baseline yet.
        CorruptFile: the artifact or the baseline is not what was written.
    """
    from trainables.network_file import packed_network, stage_network

    record = None if name == BASELINE else find_trial(folder, name)
    if split == "test":
        require_tested(folder, record)
    if record is None:
        about, baseline = _about(folder, BASELINE), None
        network = stage_network(folder.stages / require_baseline(folder).key)
    else:
        content, work = verified_artifact(record, folder), record.assignment
        about = _about(folder, work.label, trial_id=work.trial_id, size_bytes=len(content))
        network, baseline = packed_network(content), _baseline(folder)
    return Subject(replace(about, split=split), network, experiment_data(folder), baseline, _test_set(folder, split))


def file_subject(path: StoragePath, folder: ExperimentFolder) -> Subject:
    """Returns a file with a network for an experiment's images, beside the experiment's baseline.

    Plain weights must be those of the baseline's architecture.

    Raises:
        ConfigError: the file cannot be read, or its network takes other images.
        CorruptFile: the file or the baseline is not what was written.
        TrialFailure: it is the memory of a stage that failed.
    """
    from trainables.models.model import baseline_architecture
    from trainables.network_file import check_fits, read_network

    base, data = folder.read_spec().base, experiment_data(folder)
    network = read_network(path, baseline_architecture(base.baseline.model, data))
    check_fits(network, data, name=base.data.name)
    return Subject(_about(folder, _label(path), size_bytes=network.size_bytes), network, data, _baseline(folder))


def loose_subject(path: StoragePath, source: str, *, root: str | None = None) -> Subject:
    """Returns a network from a file that belongs to no experiment, with the data set that the caller names.

    The source is a spec's YAML file, which says whose plain weights are, or the name of a data set: its default split
    at the size that the network takes. `root` is the folder of the data set's files, if not the spec's.

    Raises:
        ConfigError, CorruptFile, TrialFailure: as in `file_subject`.
    """
    from trainables.data.data_sets import load_data
    from trainables.models.model import baseline_architecture
    from trainables.network_file import check_fits, read_network

    if Path(source).suffix in YAML:
        from tune_app.spec.yaml_file import load_spec

        base = load_spec(Path(source)).base
        config = base.data if root is None else base.data.model_copy(update={"root": root})
        data = load_data(config)
        network = read_network(path, baseline_architecture(base.baseline.model, data))
    else:
        DATASETS.check(source)
        network = read_network(path, None)
        config = DataConfig(name=source, root=root, image_size=network.architecture.image_size)
        data = load_data(config)
    check_fits(network, data, name=config.name)
    return Subject(About(_label(path), config.name, size_bytes=network.size_bytes), network, data)


def _about(folder: ExperimentFolder, label: str, *, trial_id: str = "", size_bytes: int | None = None) -> About:
    spec = folder.read_spec()
    return About(label, spec.base.data.name, experiment=spec.name, trial_id=trial_id, size_bytes=size_bytes)


def _test_set(folder: ExperimentFolder, split: Split) -> "ImageSet | None":
    from trainables.data.data_sets import load_test_set

    return load_test_set(folder.read_spec().base.data) if split == "test" else None


def _baseline(folder: ExperimentFolder) -> "Network | None":
    from trainables.network_file import stage_network

    info = read_baseline(folder)
    return None if info is None else stage_network(folder.stages / info.key)


def _label(path: StoragePath) -> str:
    """Returns the file's name; for a file that is called the same everywhere, with its folder's name."""
    if path.name not in {PACKED, "weights.safetensors"}:
        return path.name
    folder = path.resolve().parent if isinstance(path, Path) else path.parent
    return f"{folder.name}/{path.name}"
