"""Analyses of random predictions, shared by the tests of this folder."""

import numpy as np

from tune_app.mistakes.analysis import Analysis, from_probabilities
from tune_app.mistakes.subject import About


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the classes."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def make_probabilities(labels: np.ndarray, classes: int, *, skill: float = 3.0, seed: int = 0) -> np.ndarray:
    """Random predictions, the better the greater the skill."""
    logits = np.random.default_rng(seed).normal(0, 1.5, (len(labels), classes))
    logits[np.arange(len(labels)), labels] += skill
    return softmax(logits)


def make_analysis(
    classes: int = 5,
    count: int = 120,
    *,
    skill: float = 2.0,
    baseline: float | None = 4.0,
    channels: int = 3,
    names: tuple[str, ...] = (),
    groups: tuple[str, ...] = (),
    label: str = "p30_w4_a8",
) -> Analysis:
    """A network of some skill beside a baseline of more, or beside none, on images of noise."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, classes, count)
    before = None if baseline is None else make_probabilities(labels, classes, skill=baseline, seed=2)
    return from_probabilities(
        About(label, "noise", experiment="toy", trial_id="0" * 16, size_bytes=12_345),
        labels,
        make_probabilities(labels, classes, skill=skill, seed=3),
        before,
        images=rng.integers(0, 256, (count, channels, 8, 8), dtype=np.uint8),
        names=names,
        groups=groups,
    )


def make_perfect(classes: int = 4, count: int = 20) -> Analysis:
    """A network and a baseline without an error."""
    labels = np.arange(count) % classes
    sure = softmax(4 * np.eye(classes)[labels])
    images = np.zeros((count, 1, 8, 8), np.uint8)
    return from_probabilities(About("perfect", "noise"), labels, sure, sure, images=images)
