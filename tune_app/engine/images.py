"""The images of an experiment: loaded once, and made again on a machine that lacks the files of a large set."""

from typing import TYPE_CHECKING

from trainables.errors import ConfigError
from trainables.storage import remove, replace_json
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.experiment import ExperimentSpec

if TYPE_CHECKING:
    from trainables.data.data_sets import DataSet


def load_images(spec: ExperimentSpec) -> "DataSet":
    """Loads the data set of a spec; while images are decoded, a file of the experiment says how far it is.

    Raises:
        ConfigError: the data set cannot be loaded.
        StorageUnavailable: decoded images cannot be kept on this machine.
    """
    from trainables.data.data_sets import load_data

    file = ExperimentFolder(spec.folder).decoding_file
    try:
        return load_data(spec.base.data, watch=lambda done, total: replace_json(file, {"done": done, "total": total}))
    finally:
        remove(file)


def images_here(spec: ExperimentSpec, data: "DataSet") -> "DataSet":
    """Returns a data set that was loaded on some machine with all its images on this one.

    Raises:
        ConfigError: the data set of this machine is another one, or cannot be loaded.
        StorageUnavailable: decoded images cannot be kept on this machine.
    """
    if data.here:
        return data
    here = load_images(spec)
    if here.fingerprint != data.fingerprint:
        raise ConfigError(
            f"data set {spec.base.data.name!r} is not the same on all machines: the one where the search began has "
            f"the fingerprint {data.fingerprint[:12]}, this one {here.fingerprint[:12]}. Copy the files of one of them."
        )
    return here
