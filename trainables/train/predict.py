"""predict: the class probabilities that a network gives each image of a split."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from trainables.data.images import Images
from trainables.errors import ConfigError
from trainables.train.loop import EVAL_BATCH

Advance = Callable[[int], None]
"""Is told, again and again, how many more images are done."""


@torch.inference_mode()
def predict(model: nn.Module, images: Images, *, advance: Advance | None = None) -> np.ndarray:
    """Softmax of the logits that `evaluate` looks at, (N, classes) float64, in the order of the images.

    Args:
        model: on the device of the images.
        images: one split; it is not augmented.
        advance: told after each batch.

    Raises:
        ConfigError: a logit is NaN or infinite.
    """
    model.eval()
    parts = []
    for batch, _ in images.batches(EVAL_BATCH):
        parts.append(model(batch).double().cpu())
        if advance is not None:
            advance(len(batch))
    logits = torch.cat(parts)
    broken = int((~torch.isfinite(logits)).any(1).sum())
    if broken:
        raise ConfigError(
            f"logits must be finite, but the network's are not for {broken} of {len(logits)} images: "
            "it predicts nothing; take another checkpoint."
        )
    probabilities: np.ndarray = logits.softmax(1).numpy()
    return probabilities
