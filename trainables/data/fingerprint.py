"""The fingerprint of a data set: the SHA-256 of its images, labels and constants."""

import hashlib
from pathlib import Path

from trainables.data.decoding.mapped import MappedPixels
from trainables.data.images import ImageSet
from trainables.storage import exists, read_bytes, replace


def fingerprint_of(about: object, train: ImageSet, val: ImageSet, cache: Path) -> str:
    """Returns the SHA-256 of constants and of the bytes of training and validation images and labels.

    Of images in files, it is kept in the folder `cache`, so that these are read once.

    Raises:
        StorageUnavailable: the folder cannot be written.
    """
    if not any(isinstance(part.images, MappedPixels) for part in (train, val)):
        return _digest(about, train, val)
    known = cache / "fingerprints" / _digest(about, train, val, by_name=True)
    if not exists(known):
        replace(known, _digest(about, train, val).encode())
    return read_bytes(known).decode()


def _digest(about: object, *parts: ImageSet, by_name: bool = False) -> str:
    """Hashes the images, or `by_name` of those in files what they are called."""
    digest = hashlib.sha256(repr(about).encode())
    for part in parts:
        if by_name and isinstance(part.images, MappedPixels):
            digest.update(part.images.identity())
        else:
            for images in part.parts():
                digest.update(images.tobytes())
        digest.update(part.labels.tobytes())
    return digest.hexdigest()
