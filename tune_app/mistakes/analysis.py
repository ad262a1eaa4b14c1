"""Where a network errs on images that it was not trained on, and what changed from the baseline to it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from trainables.printable import printable
from tune_app.drawing.sheet import LABEL_CHARS, short
from tune_app.mistakes.outcome import Change, Outcome, compare, judge
from tune_app.mistakes.subject import About, Subject

if TYPE_CHECKING:
    from trainables.data.decoding.mapped import MappedPixels

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Analysis:
    """Everything that figures, tables and texts of mistakes are made of; there is a change where there is a baseline.

    `images` is (N, C, S, S) uint8 and `labels` (N,), in the order of their split; `names` has a name for
    each class, `groups` a group for each class or nothing.
    """

    about: About
    names: tuple[str, ...]
    groups: tuple[str, ...]
    images: "np.ndarray | MappedPixels"
    labels: np.ndarray
    outcome: Outcome
    baseline: Outcome | None = None
    change: Change | None = None

    @property
    def title(self) -> str:
        """What the network is called above a figure."""
        return short(self.about.label, LABEL_CHARS)


def analyze(subject: Subject, *, advance: Advance | None = None) -> Analysis:
    """Runs the networks, on a GPU if there is one, and looks at what they predict.

    `advance` is told how many more predictions are made; there are `predictions(subject)` of them.

    Raises:
        ConfigError: a network's logits are not finite.
    """
    from trainables.device import choose_device

    device, data, images = choose_device(gpu_share=1), subject.data, subject.images
    found, *others = (
        network.predict(images, data, device, advance=advance)
        for network in (subject.network, subject.baseline)
        if network is not None
    )
    return from_probabilities(
        subject.about, images.labels, found, *others, images=images.images, names=data.names, groups=data.groups
    )


def predictions(subject: Subject) -> int:
    """Returns how many predictions an analysis makes."""
    return len(subject.images) * (1 if subject.baseline is None else 2)


def from_probabilities(
    about: About,
    labels: np.ndarray,
    probabilities: np.ndarray,
    baseline: np.ndarray | None = None,
    *,
    images: "np.ndarray | MappedPixels",
    names: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
) -> Analysis:
    """Returns the analysis of class probabilities, (N, C), on N ≥ 1 images, beside those of the baseline.

    Names are those of files and folders: what no text can hold, or would steer a terminal, is written out.
    """
    outcome = judge(labels, probabilities)
    reference = None if baseline is None else judge(labels, baseline)
    return Analysis(
        about=replace(about, label=printable(about.label)),
        names=tuple(map(printable, names)) or tuple(f"class {i}" for i in range(probabilities.shape[1])),
        groups=groups,
        images=images,
        labels=labels,
        outcome=outcome,
        baseline=reference,
        change=None if reference is None else compare(labels, reference, outcome),
    )
