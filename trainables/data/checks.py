"""What every source of images must be, whoever wrote its loader; each refusal is one line with the way out."""

import numpy as np

from trainables.data.decoding.levels import levels
from trainables.data.images import ImageSet
from trainables.data.labels import one_class_each
from trainables.data.sources import Samples, Source
from trainables.errors import ConfigError


def checked(source: Source, name: str) -> Source:
    """Returns a source whose parts agree with each other, with pixels as uint8 and labels as int64.

    Raises:
        ConfigError: a part is empty, has other pixels, sizes or labels than can be used, or there are as many names of
            classes as there should not be. `name` is that of the data set.
    """
    parts = {
        split: _part(part, f"data set {name!r}: {split} images", source.classes)
        for split, part in (("training", source.rest), ("test", source.test), ("validation", source.val))
        if part is not None
    }
    shapes = {split: part.images.shape[1:] for split, part in parts.items() if isinstance(part, ImageSet)}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{split} {_shown(shape)}" for split, shape in shapes.items())
        raise ConfigError(f"data set {name!r} has images of several shapes: {found}: bring them to one.")
    if source.classes < 2:
        raise ConfigError(f"data set {name!r} has images of one class: a classifier needs two.")
    for words in (source.names, source.groups):
        if words and len(words) != source.classes:
            raise ConfigError(
                f"data set {name!r} has {source.classes} classes, but {len(words)} names or groups of classes: "
                "its loader must give one for each, or none."
            )
    constants = (source.classes, source.mean, source.std, source.names, source.groups)
    return Source(parts["training"], parts["test"], *constants, val=parts.get("validation"))


def refuse_small_classes(labels: np.ndarray, source: Source, name: str) -> None:
    """Raises ConfigError: a class has one image that may train, so that it cannot be both learned and tried, or none.

    `labels` are those of the images that were decoded; a class that the source itself has no image of may stay so.
    """
    had, has = (np.bincount(each, minlength=source.classes) for each in (source.rest.labels, labels))
    small = np.flatnonzero((had > 0) & (has < 2)).tolist()
    if small:
        first = repr(source.names[small[0]]) if source.names else small[0]
        count = "one training image" if has[small[0]] else "no training image that can be decoded"
        more = f", and {len(small) - 1} others have no more" if len(small) > 1 else ""
        raise ConfigError(
            f"data set {name!r}: class {first} has {count}{more}, but a class must have two, one to learn and one to "
            "validate: add images, or remove the class."
        )


def _part(part: Samples, what: str, classes: int) -> Samples:
    if len(part) == 0:
        raise ConfigError(f"{what}: there are none: unpack the files again.")
    labels = one_class_each(part.labels, what).astype(np.int64)
    if labels.min() < 0 or labels.max() >= classes:
        raise ConfigError(
            f"{what}: labels must lie in 0..{classes - 1}, but lie in {labels.min()}..{labels.max()}: number the "
            "classes from 0."
        )
    if not isinstance(part, ImageSet):
        return part
    images = np.asanyarray(part.images)
    if images.ndim != 4:
        raise ConfigError(f"{what} have the shape {images.shape}, but must have (N, C, H, W).")
    if len(images) != len(labels):
        raise ConfigError(f"{what}: there are {len(images):,} and {len(labels):,} labels: give each image one.")
    return ImageSet(levels(images, what), labels)


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
