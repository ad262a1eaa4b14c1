"""SavedEpochs: where an interrupted training run continues, saved after each epoch."""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trainables.storage import StoragePath, names, read_bytes, remove, remove_tree, replace, sha256

logger = logging.getLogger(__name__)
KEEP = 2
"""The newest epoch, and one before it for the case that the newest file is damaged."""


@dataclass(frozen=True)
class SavedEpoch:
    """The state at the end of an epoch: tensors by name, and one row of history per epoch so far."""

    tensors: Mapping[str, Tensor]
    history: list[dict[str, float]]


class SavedEpochs:
    """The saved epochs of one running stage; the two newest are kept, each named by its content's SHA-256.

    A folder of None keeps nothing, for training outside the cache. Every method raises StorageUnavailable where the
    folder cannot be read or written.
    """

    def __init__(self, folder: StoragePath | None) -> None:
        self._folder = folder

    def phase(self, number: int) -> "SavedEpochs":
        """Returns the saved epochs of one of several training runs inside a stage."""
        return SavedEpochs(None if self._folder is None else self._folder / f"phase-{number:03d}")

    def save(self, saved: SavedEpoch) -> None:
        """Writes the end of an epoch durably and drops all but the newest two."""
        if self._folder is None:
            return
        content = save(dict(saved.tensors), metadata={"history": json.dumps(saved.history)})
        replace(self._folder / f"epoch-{len(saved.history):06d}-{sha256(content)}.safetensors", content)
        for path in self._newest_first()[KEEP:]:
            remove(path)

    def load(self) -> SavedEpoch | None:
        """Reads the newest epoch whose content is what was written; None if there is none."""
        for path in self._newest_first():
            try:
                content = read_bytes(path)
                if sha256(content) not in path.name:
                    logger.warning("%s is damaged; going on from the checkpoint before it", path)
                    continue
                length = int.from_bytes(content[:8], "little")  # of the JSON header that a safetensors file begins with
                metadata = json.loads(content[8 : 8 + length])["__metadata__"]
                return SavedEpoch(load(content), json.loads(metadata["history"]))
            except (SafetensorError, OSError, ValueError, KeyError):
                continue
        return None

    def clear(self) -> None:
        """Removes all saved epochs, when the stage is published."""
        if self._folder is not None:
            remove_tree(self._folder)

    def _newest_first(self) -> list[StoragePath]:
        if self._folder is None:
            return []
        found = reversed(names(self._folder, "epoch-*.safetensors"))
        return [self._folder / n for n in found if re.fullmatch(r"epoch-\d+-[0-9a-f]{64}\.safetensors", n)]
