"""Progress: where an interrupted training run continues, saved after each epoch."""

import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from trainables.storage import replace, sha256

logger = logging.getLogger(__name__)
KEEP = 2


@dataclass(frozen=True)
class SavedEpoch:
    """The end of an epoch: tensors by name, and one row of history per epoch so far."""

    tensors: Mapping[str, Tensor]
    history: list[dict[str, float]]


class Progress:
    """Checkpoints of one running stage; the two newest are kept, each named by its content's SHA-256.

    A folder of None keeps nothing, for training outside the cache.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def phase(self, number: int) -> "Progress":
        """The progress of one of several training runs inside a stage."""
        return Progress(None if self._folder is None else self._folder / f"phase-{number:03d}")

    def save(self, saved: SavedEpoch) -> None:
        """Writes the end of an epoch durably and drops all but the newest two.

        Raises:
            StorageUnavailable: the folder cannot be written.
        """
        if self._folder is None:
            return
        content = save(dict(saved.tensors), metadata={"history": json.dumps(saved.history)})
        replace(self._folder / f"epoch-{len(saved.history):06d}-{sha256(content)}.safetensors", content)
        for path in self._newest_first()[KEEP:]:
            path.unlink(missing_ok=True)

    def load(self) -> SavedEpoch | None:
        """The newest checkpoint whose content is what was written, or None."""
        for path in self._newest_first():
            content = path.read_bytes()
            if sha256(content) not in path.name:
                logger.warning("%s is damaged; going on from the checkpoint before it", path)
                continue
            try:
                with safe_open(path, "pt") as file:
                    history = json.loads(file.metadata()["history"])
                return SavedEpoch(load(content), history)
            except (SafetensorError, ValueError, KeyError):
                continue
        return None

    def clear(self) -> None:
        """Forgets everything; the stage is published."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _newest_first(self) -> list[Path]:
        if self._folder is None or not self._folder.is_dir():
            return []
        named = [p for p in self._folder.iterdir() if re.fullmatch(r"epoch-\d+-[0-9a-f]{64}\.safetensors", p.name)]
        return sorted(named, key=lambda p: p.name, reverse=True)
