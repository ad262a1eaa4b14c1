"""One training loop for the baseline, fine-tuning and quantization-aware training."""

import math
import time
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import Schedule
from trainables.data import Images
from trainables.device import seed_for
from trainables.errors import Diverged
from trainables.optimizer import Sgd
from trainables.progress import SavedEpoch
from trainables.stage import StageContext, on_cpu

EVAL_BATCH = 512


def fit(model: nn.Module, schedule: Schedule, context: StageContext) -> list[dict[str, float]]:
    """Trains in place; returns one row per epoch: epoch, lr, loss, train_accuracy, val_accuracy, seconds.

    SGD with Nesterov momentum, linear warm-up, cosine to zero; weight decay on weights of two or more
    dimensions only. Everything random is drawn from (seed, epoch), so a run that was killed continues from
    its last saved epoch to the same result, bit for bit on CPU.

    Raises:
        Diverged: the loss of an epoch is not finite.
    """
    optimizer = Sgd(model, schedule)
    saved = context.progress.load()
    history = [] if saved is None else _restore(model, optimizer, saved)
    steps_per_epoch = context.train.batch_count(schedule.batch_size)
    for epoch in range(len(history), schedule.epochs):
        started = time.perf_counter()
        torch.manual_seed(seed_for(context.seed, epoch, 1))
        generator = torch.Generator().manual_seed(seed_for(context.seed, epoch, 2))
        model.train()
        total, right = torch.zeros((), device=context.device.torch), torch.zeros((), device=context.device.torch)
        batches = context.train.shuffled(schedule.batch_size, context.augment, generator)
        for step, (images, labels) in enumerate(batches):
            rate = learning_rate(schedule, epoch + step / steps_per_epoch)
            with context.device.autocast():
                logits = model(images)
                loss = F.cross_entropy(logits.float(), labels, label_smoothing=schedule.label_smoothing)
            loss.backward()
            optimizer.step(rate)
            total += loss.detach() * len(labels)
            right += (logits.detach().argmax(1) == labels).sum()
        mean_loss = float(total) / len(context.train)
        if not math.isfinite(mean_loss):
            raise Diverged(f"the loss of epoch {epoch + 1} is {mean_loss}: lower the learning rate ({schedule.lr}).")
        history.append(
            {
                "epoch": epoch + 1,
                "lr": learning_rate(schedule, epoch),
                "loss": mean_loss,
                "train_accuracy": float(right) / len(context.train),
                "val_accuracy": evaluate(model, context.val),
                "seconds": time.perf_counter() - started,
            }
        )
        context.progress.save(SavedEpoch(_snapshot(model, optimizer), history))
    return history


def learning_rate(schedule: Schedule, epoch: float) -> float:
    """The rate at a (fractional) epoch: linear from 0 over the warm-up, then a half cosine to 0."""
    if epoch < schedule.warmup_epochs:
        return schedule.lr * (epoch + 1e-3) / schedule.warmup_epochs
    span = max(schedule.epochs - schedule.warmup_epochs, 1e-9)
    return schedule.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - schedule.warmup_epochs) / span)))


@torch.inference_mode()
def evaluate(model: nn.Module, images: Images) -> float:
    """Fraction of images whose largest logit is at the label, in fp32."""
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    for batch, labels in images.batches(EVAL_BATCH):
        right += (model(batch).argmax(1) == labels).sum()
    return int(right) / len(images)


@torch.no_grad()
def reestimate_batch_norm_(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Replaces running statistics by the plain average over these batches; everything else is in eval mode."""
    model.eval()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
        norm.train()
    for images, _ in batches:
        model(images)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()


def _snapshot(model: nn.Module, optimizer: Sgd) -> dict[str, Tensor]:
    tensors = {f"model.{n}": t for n, t in model.state_dict().items()}
    tensors |= {f"momentum.{n}": t for n, t in optimizer.state().items()}
    return on_cpu(tensors)


def _restore(model: nn.Module, optimizer: Sgd, saved: SavedEpoch) -> list[dict[str, float]]:
    model.load_state_dict({n.removeprefix("model."): t for n, t in saved.tensors.items() if n.startswith("model.")})
    optimizer.load({n.removeprefix("momentum."): t for n, t in saved.tensors.items() if n.startswith("momentum.")})
    return [dict(row) for row in saved.history]
