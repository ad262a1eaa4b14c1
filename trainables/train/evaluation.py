"""Everything that is read of a network's logits on labeled images, in one pass over them."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.data.images import Images
from trainables.results import TOP, Scores
from trainables.train.class_scores import class_scores, mean_score
from trainables.train.loop import EVAL_BATCH


@torch.inference_mode()
def score(model: nn.Module, images: Images) -> Scores:
    """Returns the scores of a network, whose logits are computed once, in fp32; the accuracy is that of `evaluate`.

    The network is on the device of the images, which are not augmented. Counts are whole numbers, and the loss is
    summed in float64.
    """
    model.eval()
    predicted, near, classes = list[Tensor](), torch.zeros((), dtype=torch.int64, device=images.labels.device), 0
    loss = torch.zeros((), dtype=torch.float64, device=images.labels.device)
    for batch, labels in images.batches(EVAL_BATCH):
        logits = model(batch)
        classes = logits.shape[1]
        predicted.append(logits.argmax(1))
        near += (_rank(logits, labels) < TOP).sum()
        loss += functional.cross_entropy(logits.double(), labels, reduction="sum")
    found, known = torch.cat(predicted).cpu().numpy(), images.labels.cpu().numpy()
    right = found == known
    counts = (np.bincount(members, minlength=classes) for members in (known, found, known[right]))
    by_class, mean_loss = class_scores(*counts), float(loss) / len(images)
    return Scores(
        accuracy=int(right.sum()) / len(images),
        top5_accuracy=int(near) / len(images) if classes > TOP else None,
        balanced_accuracy=mean_score(by_class.accuracy),
        macro_f1=mean_score(by_class.f1),
        cross_entropy=mean_loss if math.isfinite(mean_loss) else None,
    )


def _rank(logits: Tensor, labels: Tensor) -> Tensor:
    """Returns how many logits come before that of the label, (B,): larger ones, and equal ones of earlier classes.

    That is the order in which `argmax` chooses. A logit that is NaN comes before all others, and is never right.
    """
    own, place = logits.gather(1, labels[:, None]), torch.arange(logits.shape[1], device=logits.device)
    after = (logits < own) | ((logits == own) & (place >= labels[:, None]))
    return (~after).sum(1)
