"""The training loss: cross-entropy with the labels, and a teacher's opinion when there is one."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.config import Schedule
from trainables.stages.stage import StageContext

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A function of logits (B, K), images (B, C, S, S) and labels (B,) to one float32 number, ()."""


def make_loss(schedule: Schedule, context: StageContext) -> Loss:
    """Returns the loss of a schedule: cross-entropy, mixed with distillation where it asks for that."""

    def of_labels(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), labels, label_smoothing=schedule.label_smoothing)

    distill = schedule.distill
    if distill is None:
        return lambda logits, images, labels: of_labels(logits, labels)
    teacher = context.device.compiled(context.teacher())

    def mixed(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            soft = teacher(images)
        learned = distillation(logits, soft, distill.temperature)
        return distill.weight * learned + (1 - distill.weight) * of_labels(logits, labels)

    return mixed


def distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Returns T² · KL(teacher ‖ student) of logits (B, K) softened by T, averaged over the batch (arXiv 1503.02531).

    The factor T² keeps the size of the gradient when T changes.
    """
    q = F.log_softmax(student.float() / temperature, dim=1)
    p = F.log_softmax(teacher.float() / temperature, dim=1)
    return temperature**2 * F.kl_div(q, p, reduction="batchmean", log_target=True)
