"""One training loop for the baseline, fine-tuning and quantization-aware training."""

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.config import Schedule
from trainables.data.images import Images
from trainables.device import seed_for
from trainables.errors import Diverged
from trainables.stages.saved_epochs import SavedEpoch
from trainables.stages.stage import StageContext, on_cpu
from trainables.train.averaging import WeightAverage
from trainables.train.batch_norm import improve_batch_norm_, reestimate_batch_norm_
from trainables.train.loss import make_loss
from trainables.train.optimizer import make_optimizer
from trainables.train.step_rule import Moment, StepRule

EVAL_BATCH = 512
"""Images in a batch that is not trained on. More: memory for their activations; fewer: more time between batches."""
AVERAGE_IMAGES = 2048
"""Images on which batch norm is measured again for averaged weights. More: time; fewer: noise in the statistics, whose
standard error falls with the root of the number."""


def fit(
    model: nn.Module, schedule: Schedule, context: StageContext, *, rules: Sequence[StepRule] = ()
) -> list[dict[str, float]]:
    """Trains a network in place; returns a row per epoch: epoch, lr, loss, train_accuracy, seconds, and `evaluated`.

    Everything random is drawn from (seed, epoch), so a run that was killed continues from its last saved epoch
    to the same result, bit for bit on CPU. With `ema_decay` the network ends with averaged weights, and with batch
    norm measured again; the rows are of the network as it trained.

    Raises:
        Diverged: the loss of an epoch, or a weight after it, is not finite.
    """
    run = _Run(model, schedule, context, rules)
    history = run.restore()
    for epoch in range(len(history), schedule.epochs):
        settled = (row["val_accuracy"] for place, row in enumerate(history) if run.is_settled(place))
        history.append(run.epoch(epoch, best=max(settled, default=-1.0)))
        context.saved_epochs.save(SavedEpoch(on_cpu(run.state()), history))
    run.finish()
    return history


class _Run:
    """A training run: all that changes while a network trains, and how it is saved and restored."""

    def __init__(self, model: nn.Module, schedule: Schedule, context: StageContext, rules: Sequence[StepRule]) -> None:
        self._model, self._schedule, self._context, self._rules = model, schedule, context, rules
        self._forward = context.device.compiled(model)
        self._optimizer = make_optimizer(model, schedule)
        self._average = WeightAverage(model, schedule.ema_decay) if schedule.ema_decay else None
        self._loss = make_loss(schedule, context)
        self._steps_per_epoch = context.train.batch_count(schedule.batch_size)
        self._best: dict[str, Tensor] = {}

    def restore(self) -> list[dict[str, float]]:
        """Goes back to the newest saved epoch, if there is one, and returns its history."""
        saved = self._context.saved_epochs.load()
        if saved is None:
            return []

        def of(kind: str) -> dict[str, Tensor]:
            return {n.removeprefix(f"{kind}."): t for n, t in saved.tensors.items() if n.startswith(f"{kind}.")}

        self._model.load_state_dict(of("model"))
        self._optimizer.load(of("optimizer"))
        self._best = of("best")
        if self._average is not None:
            self._average.load(of("average"))
        for i, rule in enumerate(self._rules):
            rule.load(of(f"rule{i}"))
        return [dict(row) for row in saved.history]

    def epoch(self, epoch: int, *, best: float) -> dict[str, float]:
        """Trains for one epoch and returns its row of the history."""
        started = time.perf_counter()
        context, schedule = self._context, self._schedule
        torch.manual_seed(seed_for(context.seed, epoch, 1))
        generator = torch.Generator().manual_seed(seed_for(context.seed, epoch, 2))
        self._model.train()
        total, right = torch.zeros((), device=context.device.torch), torch.zeros((), device=context.device.torch)
        batches = context.train.shuffled(schedule.batch_size, context.augment, generator)
        for step, (images, labels) in enumerate(batches):
            logits, loss = self._step(images, labels, epoch, step)
            total += loss * len(labels)
            right += (logits.argmax(1) == labels).sum()
        mean_loss = float(total) / len(context.train)
        if not math.isfinite(mean_loss):
            raise Diverged(f"the loss of epoch {epoch + 1} is {mean_loss}: lower the learning rate ({schedule.lr}).")
        validation = evaluated(self._model, context.val)
        if "val_loss" not in validation and not all(bool(p.isfinite().all()) for p in self._model.parameters()):
            raise Diverged(f"after epoch {epoch + 1} a weight is not finite: lower the learning rate ({schedule.lr}).")
        if schedule.keep == "best" and self.is_settled(epoch) and validation["val_accuracy"] > best:
            self._best = {name: t.clone() for name, t in on_cpu(self._model.state_dict()).items()}
        return {
            "epoch": epoch + 1,
            "lr": learning_rate(schedule, epoch),
            "loss": mean_loss,
            "train_accuracy": float(right) / len(context.train),
            **validation,
            "seconds": time.perf_counter() - started,
        }

    def is_settled(self, epoch: int) -> bool:
        """Whether no rule will change the network any more after this epoch, such as by masks that grow."""
        end = Moment((epoch + 1) * self._steps_per_epoch, self._schedule.epochs * self._steps_per_epoch)
        return all(rule.is_settled(end) for rule in self._rules)

    def _step(self, images: Tensor, labels: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Trains on one batch and returns its logits and its loss."""
        with self._context.device.autocast():
            logits = self._forward(images)
            loss = self._loss(logits, images, labels)
        loss.backward()
        self._optimizer.step(learning_rate(self._schedule, epoch + step / self._steps_per_epoch))
        moment = Moment(epoch * self._steps_per_epoch + step + 1, self._schedule.epochs * self._steps_per_epoch)
        for rule in self._rules:
            rule.after_step(moment)
        if self._average is not None:
            self._average.update()
        return logits.detach(), loss.detach()

    def state(self) -> dict[str, Tensor]:
        """Returns every tensor that a run goes on from, by kind and name."""
        kinds = {"model": self._model.state_dict(), "optimizer": self._optimizer.state(), "best": self._best}
        if self._average is not None:
            kinds["average"] = self._average.state()
        kinds |= {f"rule{i}": rule.state() for i, rule in enumerate(self._rules)}
        return {f"{kind}.{name}": t for kind, tensors in kinds.items() for name, t in tensors.items()}

    def finish(self) -> None:
        """Gives the network the weights that are the result: the best epoch's, the averaged ones, or the last."""
        if self._best:
            self._model.load_state_dict(self._best)
        if self._average is not None and self._schedule.epochs:
            self._average.copy_to_model_()
            self._measure_batch_norm()

    def _measure_batch_norm(self) -> None:
        """Measures batch norm again for averaged weights: always after training from scratch, else where it is better.

        Statistics of a network that has just begun to learn may be of any size, and a small loss says little then.
        """
        context, seed = self._context, seed_for(self._context.seed, 7)
        if context.parent_result is None:
            reestimate_batch_norm_(self._model, context.train.sample(AVERAGE_IMAGES, seed).batches(EVAL_BATCH))
        else:
            improve_batch_norm_(self._model, context.train, AVERAGE_IMAGES, seed)


def learning_rate(schedule: Schedule, epoch: float) -> float:
    """Returns the learning rate at a (fractional) epoch: linear from 0 over the warm-up, then as `decay` says.

    Cosine is a half cosine to `min_lr`; step multiplies by `step_factor` every `step_epochs`.
    """
    if epoch < schedule.warmup_epochs:
        return schedule.lr * (epoch + 1e-3) / schedule.warmup_epochs
    if schedule.decay == "constant":
        return schedule.lr
    if schedule.decay == "step":
        return schedule.lr * schedule.step_factor ** (int(epoch) // schedule.step_epochs)
    span = max(schedule.epochs - schedule.warmup_epochs, 1e-9)
    height = 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - schedule.warmup_epochs) / span)))
    return schedule.min_lr + (schedule.lr - schedule.min_lr) * height


def evaluate(model: nn.Module, images: Images) -> float:
    """Returns the accuracy, in fp32: the fraction of images whose largest logit is at the label."""
    return evaluated(model, images)["val_accuracy"]


@torch.inference_mode()
def evaluated(model: nn.Module, images: Images) -> dict[str, float]:
    """Returns what the row of an epoch says of validation images, of logits in fp32.

    `val_accuracy` is that of `evaluate`, `val_loss` the mean cross-entropy in nats; it is left out where a logit is not
    finite.
    """
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=images.labels.device)
    loss = torch.zeros((), dtype=torch.float64, device=images.labels.device)
    for batch, labels in images.batches(EVAL_BATCH):
        logits = model(batch)
        right += (logits.argmax(1) == labels).sum()
        loss += functional.cross_entropy(logits.double(), labels, reduction="sum")
    found, mean_loss = {"val_accuracy": int(right) / len(images)}, float(loss) / len(images)
    return {**found, "val_loss": mean_loss} if math.isfinite(mean_loss) else found
