"""The spec of a first search: made from a network, its images and a size, with comments where a choice is open."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from trainables.config import DATASETS, MOST_PADDING, DataConfig, TrialConfig
from trainables.errors import ConfigError, InfeasiblePoint, did_you_mean
from trainables.storage import names
from tune_app.spec.yaml_file import in_one_line

if TYPE_CHECKING:
    from trainables.config import Architecture
    from trainables.data.sources import Samples
    from trainables.graph.network_file import NetworkFile

STEP, MOST_SIDE = 32, 224
"""The least side of images that is chosen for networks of torchvision, which halve them five times, and the most."""
OWN_STEP = 8
"""The least side, and the step, for any other network: nearer to what the images have."""
SAMPLE = 50
"""Images whose sides are looked at."""
ROOM = 0.98
"""The share of the bytes asked for that widths are chosen for, before training changes the codes: files of ResNet-8 and
ResNet-20 came out between 0.7 % below and 0.5 % above what their widths were chosen for."""
BITS = (1.7, 8.0)
"""The mean bits of a weight between which a share of removed channels is worth a trial: weights of 2 bits are coded in
1.5, and more than the most add nothing."""
SHARES = tuple(i / 16 for i in range(16))
"""Shares of channels to remove; of those that may be worth it, `MOST` are tried."""
MOST = 4
TRIALS = 12
"""Trials of a search without a bound on the size."""
ZOO = "torchvision.models"
COLORS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""Of the channels of ImageNet's pixels in 0..1; torchvision's networks were trained with them."""


@dataclass(frozen=True)
class FirstSearch:
    """What a person says of a first search.

    `network` is `module:callable`, the name of a torchvision classifier, or the file of a captured network. `data` is a
    folder of images, a file of arrays or parquet, or the name of a data set whose files lie in `root`.
    """

    network: str
    data: str
    root: str = ""
    checkpoint: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    max_bytes: int | None = None
    """The packed file has at most so many; without it, the search is for the whole frontier."""
    image_size: int | None = None
    name: str = ""
    storage: str = "runs"


def starter_spec(wanted: FirstSearch) -> str:
    """Returns the text of a spec. The images are listed, and the network is made once, to count its weights.

    Raises:
        ConfigError: there is no such network or data set, or the two do not go together.
    """
    from trainables.data.data_sets import load_source
    from trainables.data.needs import image_channels
    from trainables.device import resources_here
    from trainables.graph.operators import shapes

    data, network = _data(wanted), _network(wanted.network)
    config, of_zoo = DataConfig.model_validate(data), network.startswith(f"{ZOO}:")
    source = load_source(config)
    arguments = dict(wanted.arguments) or ({"num_classes": source.classes} if of_zoo else {})
    channels = image_channels(source, config)
    side = wanted.image_size or _side(source.rest, STEP if of_zoo else OWN_STEP)
    made = _made(network, arguments, (3 if of_zoo else channels, side, side), wanted)
    takes, *sides = made.graph.image
    outputs = shapes(made.graph)[made.graph.output][-1]
    if outputs != source.classes:
        raise ConfigError(
            f"{network} has {outputs:,} outputs, but {wanted.data} {source.classes:,} classes: "
            f"{'name other arguments' if ':' in network else 'capture another network'}, or give other images."
        )
    groups, shares = _shares(made, wanted.max_bytes)
    goal = "the whole frontier" if wanted.max_bytes is None else f"the most accurate file of {wanted.max_bytes:,} bytes"
    return _filled(
        title=f"A first search for {goal}: {network} on {wanted.data}.",
        name=wanted.name or _as_name(f"{Path(network.rpartition(':')[2]).stem}_{Path(wanted.data).stem}"),
        storage=wanted.storage,
        data={**data, "image_size": sides[0] if sides[0] == sides[1] else sides},
        constants=COLORS if (takes, source.mean) == (3, None) and (of_zoo or channels == 1) else None,
        padding=min(MOST_PADDING, max(1, min(sides) // 8)),
        trained=bool(wanted.checkpoint) or ":" not in network,
        network=network,
        arguments=arguments,
        checkpoint=wanted.checkpoint,
        epochs=_epochs(len(source.rest)),
        groups=groups,
        prune_fracs=shares,
        max_bytes=wanted.max_bytes,
        budget=None if wanted.max_bytes is None else int(ROOM * wanted.max_bytes),
        trials=TRIALS if wanted.max_bytes is None else len(shares),
        gpu="auto" if resources_here().get("GPU") else 0,
    )


def _data(wanted: FirstSearch) -> dict[str, str]:
    """Returns the name of the data set, and the place of its files."""
    path = Path(wanted.data).expanduser()
    if os.path.exists(path):  # where Path.exists() raises, as for a long name, it is false
        if wanted.root:
            raise ConfigError(f"{wanted.root} is for the name of a data set, but {path} is a place: leave it out.")
        found = [path.name] if path.is_file() else names(path, "*")
        for suffixes, name in (((".npz", ".npy"), "arrays"), ((".parquet",), "parquet")):
            if any(entry.endswith(suffixes) for entry in found):
                return {"name": name, "root": wanted.data}
        if path.is_file():
            raise ConfigError(f"{path} is no data set: give a folder of images, a file .npz or .parquet, or a name.")
        return {"name": "image_folder", "root": wanted.data}
    if wanted.data not in DATASETS.names():
        way_out = did_you_mean(wanted.data, DATASETS.names(), otherwise="give the path of a folder of images.")
        raise ConfigError(f"{wanted.data!r} is neither a folder nor the name of a data set; {way_out}")
    return {"name": wanted.data, **({"root": wanted.root} if wanted.root else {})}


def _network(network: str) -> str:
    """Returns the network as a spec names it: those of torchvision need no module."""
    if ":" in network or os.path.exists(network):
        return network
    import torchvision.models

    known = torchvision.models.list_models(module=torchvision.models)
    if network not in known:
        way_out = did_you_mean(network, known, otherwise="write module:callable, or the file that capture wrote.")
        raise ConfigError(f"{network!r} is neither a file nor a network of torchvision; {way_out}")
    return f"{ZOO}:{network}"


def _made(
    network: str, arguments: Mapping[str, Any], image: tuple[int, int, int], wanted: FirstSearch
) -> "NetworkFile":
    """Returns the network: read from its file, or captured on images of this shape; on colors, if gray ones do not go.

    Raises:
        ConfigError: it cannot be read or captured, or is a file of images of another size than is wanted.
    """
    from trainables.graph.network_file import read_network_file
    from trainables.models.importing import capture_network

    weights = Path(wanted.checkpoint) if wanted.checkpoint else None
    if ":" in network:
        try:
            return capture_network(network, arguments, image, checkpoint=weights)
        except ConfigError:
            if image[0] != 1:
                raise
            return capture_network(network, arguments, (3, *image[1:]), checkpoint=weights)
    if weights:
        raise ConfigError(f"{network} is a captured network, which brings its own weights: leave the checkpoint out.")
    found = read_network_file(Path(network))
    if wanted.image_size and found.graph.image[1:] != image[1:]:
        takes = " x ".join(map(str, found.graph.image[1:]))
        raise ConfigError(
            f"{network} was captured on images of {takes} pixels, but {image[1]} are asked for: leave the size out, or "
            "capture it again."
        )
    return found


def _side(samples: "Samples", step: int) -> int:
    """Returns a side for the images: the median of their shorter sides, in steps, of which the first is the least."""
    import numpy as np

    from trainables.data.decoding.encoded import EncodedImages

    if isinstance(samples, EncodedImages):
        some = samples.take(np.linspace(0, len(samples) - 1, min(len(samples), SAMPLE)).astype(np.int64))
        found = [size for size in some.sizes() if size]
        shorter = median(min(size) for size in found) if found else step
    else:
        shorter = min(samples.images.shape[2:])
    return int(min(MOST_SIDE, max(step, step * round(shorter / step))))


def _epochs(images: int) -> dict[str, int]:
    """Returns how long each stage trains: the fewer images, the more epochs."""
    seen = {"baseline": (400_000, 10, 40), "fine_tune": (60_000, 1, 5), "qat": (150_000, 3, 10)}
    return {stage: min(most, max(least, round(enough / images))) for stage, (enough, least, most) in seen.items()}


def _shares(made: "NetworkFile", max_bytes: int | None) -> tuple[str, list[float]]:
    """Returns which channels to remove, and shares of them under which what is left fits with some bits a weight.

    The channels between two sums go alone where that leaves a choice, else those of the sums too.
    """
    from trainables.models.unit_state import own_model

    if max_bytes is None:
        return "inner", [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75]
    _, architecture = own_model(made)
    for groups in ("inner", "all"):
        left = {share: _weights_left(architecture, share, groups) for share in SHARES}
        bits = {share: 8 * max_bytes / count for share, count in left.items() if count}
        worth = [share for share in bits if bits[share] >= BITS[0]]
        if len(worth) > (groups == "inner"):
            few = [share for share in worth if bits[share] <= BITS[1]] or worth[:1]
            return groups, few[:: -(-len(few) // MOST)]
    least = min(count for count in left.values() if count) // 8  # a bit for each parameter
    if max_bytes < least:
        raise ConfigError(
            f"no file of this network has {max_bytes:,} bytes: its numbers take {least:,} bytes at a bit each with "
            f"{100 * SHARES[-1]:g} % of its channels removed. Ask for more, or take a smaller network."
        )
    return "all", [SHARES[-1]]


def _weights_left(architecture: "Architecture", share: float, groups: str) -> int:
    """Counts the parameters of a network without a share of its channels; 0 where it cannot be."""
    from trainables.costs.planned import planned_metrics

    none = {"epochs": 0, "lr": 0.1}
    content = {
        "baseline": {"kind": "train", "schedule": none},
        "prune": {"prune_frac": share, "groups": groups, "fine_tune": none},
        "quantize": {"kind": "ptq"},
    }
    try:
        return int(planned_metrics(TrialConfig.model_validate(content), architecture)["parameters"])
    except InfeasiblePoint:
        return 0


def _as_name(text: str) -> str:
    """Returns the name of an experiment that is like a text."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:64] or "first_search"


def _as_comment(text: str) -> str:
    """Returns a text without what ends a comment, or what YAML does not have."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def _filled(**values: object) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"yaml": in_one_line, "comment": _as_comment}
    template = (files("tune_app.start") / "spec.yaml.j2").read_text("utf-8")
    return environment.from_string(template).render(**values) + "\n"
