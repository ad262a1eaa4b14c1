"""Networks of one's own in a spec: a callable becomes a captured file beside the experiments, once."""

from pathlib import Path

from trainables.config import Baseline, BaselineImport, DataConfig, digest, file_sha256, height_and_width
from trainables.errors import ConfigError
from trainables.storage import StoragePath, create_once, exists, names, read_bytes, sha256, storage_path
from tune_app.spec.module_source import source_sha256

FOLDER = "networks"
"""The folder beside the experiments in which captured networks lie."""


def with_captured_network(config: Baseline, data: DataConfig, storage: StoragePath, *, seed: int) -> Baseline:
    """Returns a configuration whose network is a captured file, known by its digest.

    A callable is captured with the weights of its checkpoint, or with those that it draws by `seed`, into a file that
    is named after all that it depends on: a second run finds it there, and nobody else needs its code.

    Raises:
        ConfigError: the network cannot be captured, the file cannot be read, or two sources of weights are given.
    """
    checkpoint = config.checkpoint if isinstance(config, BaselineImport) else ""
    if ":" in config.network and not config.network.startswith(("s3:", "gs:")):
        place = _place(config, data, checkpoint, storage / FOLDER, seed)
        if not exists(place):
            create_once(place, _captured(config, data, checkpoint, seed))
    elif checkpoint:
        raise ConfigError(
            f"{config.network} is a captured network, which brings its own weights: leave checkpoint out, or capture "
            "the network with it."
        )
    else:
        place = storage_path(config.network)
        place = place.expanduser().resolve() if isinstance(place, Path) else place
        if not exists(place):
            raise ConfigError(
                f"cannot read {config.network}: there is no such file. Give the path of a captured network."
            )
    known = {"network": str(place), "arguments": {}, "network_sha256": sha256(read_bytes(place))}
    # The captured file holds the checkpoint's weights.
    return config.model_copy(update=known | ({"checkpoint": "", "sha256": ""} if checkpoint else {}))


def _captured(config: Baseline, data: DataConfig, checkpoint: str, seed: int) -> bytes:
    """Captures the network on images of the size that the data set has."""
    from trainables.data.data_sets import load_source
    from trainables.data.needs import image_channels
    from trainables.graph.network_file import network_bytes
    from trainables.models.importing import capture_network

    image = (image_channels(load_source(data), data), *height_and_width(data.image_size))
    path = Path(checkpoint) if checkpoint else None
    return network_bytes(capture_network(config.network, config.arguments, image, checkpoint=path, seed=seed))


def _place(config: Baseline, data: DataConfig, checkpoint: str, folder: StoragePath, seed: int) -> StoragePath:
    """Returns the file that is named after all that a capture depends on, without importing the callable's module.

    Where the code is gone, it is the file that was captured while it was there.
    """
    weights = file_sha256(Path(checkpoint)) if checkpoint else f"seed {seed}"
    images = [data.name, data.root, data.image_size, len(data.mean or ())]
    asked = digest([config.network, config.arguments, *images, weights])[:24]
    code = source_sha256(config.network.partition(":")[0])
    if not code:
        found = names(folder, f"{asked}-*")
        if len(found) == 1:
            return folder / found[0]
    return folder / f"{asked}-{code[:16] or 'none'}.safetensors"
