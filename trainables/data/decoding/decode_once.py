"""Images decoded once on a machine, into shards that all its processes share; a run that was killed goes on."""

import contextlib
import hashlib
import itertools
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
import torch

from trainables.data.constants import level_counts
from trainables.data.decoding.decode import Undecodable, strict
from trainables.data.decoding.encoded import Encoded, EncodedImages, Form
from trainables.data.decoding.mapped import MappedPixels
from trainables.data.decoding.shards import read_shard, write_shard
from trainables.data.images import ImageSet
from trainables.errors import ConfigError
from trainables.storage import Lock, remove_drafts

logger = logging.getLogger(__name__)

VERSION = 1
"""Of the pixels that decoding gives, and of the files that hold them."""
SHARD_BYTES = 64 << 20
"""Bytes of images in a shard, the memory that decoding takes. Larger: more is decoded twice after a kill; smaller: more
files, and more time between them."""
AT_ONCE = 4
"""Images for each thread that are decoded before threads wait for each other. More: memory; fewer: more waiting."""
POLL_S = 0.5
"""Seconds between two looks whether another process has decoded the images: a set that takes longer is worth them."""
DRAFT_S = 60
"""Seconds after which a draft that does not change is that of a killed process: a shard is written in less."""
NAMED = 3
"""As many files are named where some cannot be read."""
Watch = Callable[[int, int], None]
"""A function that is told how many images are decoded, and of how many."""


def unwatched(done: int, total: int) -> None:
    """Is told, and does nothing."""


@dataclass(frozen=True)
class Decoder:
    """Where decoded images are kept on this machine, what becomes of those that cannot be decoded, and who watches."""

    folder: Path
    skip: bool = False
    watch: Watch = unwatched

    def decoded(self, images: EncodedImages, form: Form) -> tuple[ImageSet, np.ndarray]:
        """Returns all images, and counts of their levels, (C, 256) int64: how many pixels have each value.

        With `skip`, images that cannot be decoded are left out, and a line of the log names them.

        Raises:
            ConfigError: some cannot be decoded, or none can; it counts them and names the first. Or the folder's disk
                is too small.
            StorageUnavailable: the folder cannot be written.
        """
        if images.stamp is None:
            found, errors = _decoded(images, form)
            counts = level_counts(found, missing=len(errors))
            good = self._good(images, errors)
            return ImageSet(found if good is None else found[good], images.take(_all(good)).labels), counts
        named = self._shards(images, form)
        self._make(named, form)
        paths, shards = [path for path, _ in named], [read_shard(path) for path, _ in named]
        starts = np.cumsum([0, *(len(part) for _, part in named)])[:-1]
        errors = {
            int(start) + place: text
            for start, shard in zip(starts, shards, strict=True)
            for place, text in shard.errors.items()
        }
        good = self._good(images, errors)
        image = (max(shard.pixels.shape[1] for shard in shards), *form.size)
        mapped = MappedPixels(paths, starts, np.arange(len(images)) if good is None else good, image)
        counts = np.sum([np.broadcast_to(shard.counts, (image[0], 256)) for shard in shards], axis=0)
        return ImageSet(mapped, images.take(_all(good)).labels), counts

    def has(self, images: EncodedImages, form: Form) -> bool:
        """Whether all these images were decoded here before."""
        return images.stamp is not None and all(path.exists() for path, _ in self._shards(images, form))

    def _shards(self, images: EncodedImages, form: Form) -> list[tuple[Path, EncodedImages]]:
        """Returns the file of each shard, and the images that it holds."""
        count = max(1, SHARD_BYTES // (3 * form.size[0] * form.size[1]))
        parts = [images.take(slice(start, start + count)) for start in range(0, len(images), count)]
        return [(self.folder / f"{_key(part, form)}.arrow", part) for part in parts]

    def _good(self, images: EncodedImages, errors: dict[int, str]) -> np.ndarray | None:
        """Returns the places of the images that were decoded; None for all."""
        if not errors:
            return None
        told = _named(images, errors)
        if not self.skip or len(errors) == len(images):
            raise ConfigError(f"{told}: mend or remove them, or set data.on_error to skip.")
        logger.warning("%s and are left out.", told)
        return np.delete(np.arange(len(images)), list(errors))

    def _make(self, shards: list[tuple[Path, EncodedImages]], form: Form) -> None:
        """Makes the shards that are not there; one process of a machine does, the others wait for it."""
        if all(path.exists() for path, _ in shards):
            return
        with _alone(self.folder / "locks" / hashlib.sha256(repr([p.name for p, _ in shards]).encode()).hexdigest()):
            missing = [(path, part) for path, part in shards if not path.exists()]
            remove_drafts(self.folder, older_than_s=DRAFT_S)
            self._refuse_small_disk(sum(len(part) for _, part in missing), form)
            total = sum(len(part) for _, part in shards)
            done = total - sum(len(part) for _, part in missing)
            for path, part in missing:
                self.watch(done, total)
                logger.info("%s of %s images are decoded", f"{done:,}", f"{total:,}")
                write_shard(path, *_decoded(part, form))
                done += len(part)
            self.watch(done, total)

    def _refuse_small_disk(self, count: int, form: Form) -> None:
        there = next(folder for folder in (self.folder, *self.folder.parents) if folder.exists())
        needed, free = count * (form.channels or 1) * form.size[0] * form.size[1], shutil.disk_usage(there).free
        if needed > free:
            raise ConfigError(
                f"{count:,} images take {needed / 1e9:,.1f} GB once they are decoded, but the disk of {self.folder} "
                f"has {free / 1e9:,.1f} GB free: set data.cache to a folder on a larger one, or data.images to fewer."
            )


def image_cache(folder: str | None) -> Path:
    """Returns the folder of this machine for decoded images: a given one, or `tune-app/images` in the user's cache."""
    if folder is None:
        return platformdirs.user_cache_path("tune-app", appauthor=False) / "images"
    return Path(folder).expanduser().absolute()


def _decoded(images: EncodedImages, form: Form) -> tuple[np.ndarray, dict[int, str]]:
    """Returns images (N, C, H, W) uint8, zeros where one cannot be decoded, and by place why; C is 3 if one has colors.

    One buffer holds them; images without colors are spread in it when the first one with colors comes.
    """
    height, width = form.size
    most = form.channels or 3
    buffer = np.zeros(len(images) * most * height * width, np.uint8)  # pages that are not used take no memory
    channels = form.channels or 1
    found = buffer[: len(images) * channels * height * width].reshape(-1, channels, height, width)
    errors = {}
    for place, image in enumerate(_each(images, form)):
        if isinstance(image, Undecodable):
            errors[place] = str(image)
            continue
        if len(image) > len(found[0]):
            spread = buffer.reshape(-1, most, height, width)
            for before in reversed(range(place)):
                spread[before] = found[before].copy()
            found = spread
        found[place] = image
    return found, errors


def _each(images: EncodedImages, form: Form) -> Iterator[np.ndarray | Undecodable]:
    """Yields the images decoded in order, by the threads of this process."""
    count = torch.get_num_threads()
    with strict(), ThreadPoolExecutor(count) as threads:
        for some in _batched(images.each(), AT_ONCE * count):
            yield from threads.map(form.of, some)


def _batched(items: Iterable[Encoded | Undecodable], count: int) -> Iterator[list[Encoded | Undecodable]]:
    iterator = iter(items)
    while some := list(itertools.islice(iterator, count)):
        yield some


def _key(images: EncodedImages, form: Form) -> str:
    """Returns the name of a shard: what its images are made of, and what they become."""
    digest = hashlib.sha256(repr((VERSION, form)).encode())
    assert images.stamp is not None
    for place in images.places.tolist():
        try:
            stamp = images.stamp(place)
        except OSError as err:  # decoding says so, too
            stamp = f"{images.name(place)}: {err.strerror}"
        digest.update(f"{stamp}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a lock; waits as long as another process has it."""
    lock = Lock(folder)
    while not lock.acquire():
        time.sleep(POLL_S)
    try:
        yield
    finally:
        lock.release()


def _all(good: np.ndarray | None) -> np.ndarray | slice:
    return slice(None) if good is None else good


def _named(images: EncodedImages, errors: dict[int, str]) -> str:
    """Says how many files cannot be decoded, and names the first; control characters in names are escaped."""
    first = [f"{images.name(int(images.places[place]))}: {errors[place]}" for place in sorted(errors)[:NAMED]]
    named = "; ".join(ascii(text)[1:-1] for text in first)
    more = f"; and {len(errors) - NAMED:,} more" if len(errors) > NAMED else ""
    return f"{len(errors):,} of {len(images):,} images cannot be decoded ({named}{more})"
