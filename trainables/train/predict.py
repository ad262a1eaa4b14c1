"""predict: the class probabilities that a network gives each image of a split."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from trainables.data.images import Images
from trainables.errors import ConfigError
from trainables.train.loop import EVAL_BATCH

Advance = Callable[[int], None]
"""A function that is told after each batch how many more images are done."""


@torch.inference_mode()
def predict(model: nn.Module, images: Images, *, advance: Advance | None = None) -> np.ndarray:
    """Returns the class probabilities of images, (N, classes) float64: softmax of the logits that `evaluate` reads.

    The network is on the device of the images, which are not augmented and keep their order.

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
    if broken := int((~torch.isfinite(logits)).any(1).sum()):
        raise ConfigError(
            f"logits must be finite, but the network's are not for {broken} of {len(logits)} images: "
            "it predicts nothing; take another checkpoint."
        )
    return logits.softmax(1).numpy()
