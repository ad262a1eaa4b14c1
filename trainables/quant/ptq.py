"""Post-training quantization: static ranges from calibration data, then batch norm measured again."""

import torch
from torch import Tensor

from trainables.config import OBSERVERS, PostTrainingQuant, QuantScheme
from trainables.data import Images
from trainables.device import seed_for
from trainables.errors import ArtifactMismatch
from trainables.models.model import Model
from trainables.models.units import quant_points, units
from trainables.quant.attach import attach_quantizers_
from trainables.quant.fold import folded, round_side_info_
from trainables.quant.lsq import LsqQuantizer
from trainables.stage import StageContext, StageResult, run_stage
from trainables.train import evaluate, reestimate_batch_norm_

BATCH = 128
VALUES_PER_BATCH = 4_096


def calibrate_(model: Model, scheme: QuantScheme, images: Images, seed: int) -> None:
    """Attaches quantizers and sets every step: weights from themselves, activations from float forward passes."""
    observe = OBSERVERS[scheme.observer]
    samples = _collect_activations(model, images, seed)
    attach_quantizers_(model, scheme)
    weights = {unit.weight_point: unit.layer.weight.detach() for unit in units(model).values()}
    with torch.no_grad():
        for name, point in quant_points(model).items():
            quantizer = point.quantizer
            assert isinstance(quantizer, LsqQuantizer)
            values = weights[point].flatten(1) if point.weight else samples[name][None]
            quantizer.step.copy_(observe(values.float(), quantizer.qn, quantizer.qp).view_as(quantizer.step))
    first = next(model.parameters())
    model.to(first.device)


def _collect_activations(model: Model, images: Images, seed: int) -> dict[str, Tensor]:
    """A random sample of the values that pass each activation point, (N,) float32 by name."""
    samples: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(seed)

    def keep(name: str, values: Tensor) -> None:
        flat = values.detach().flatten()
        place = torch.randint(len(flat), (min(VALUES_PER_BATCH, len(flat)),), generator=generator)
        # The largest value is always in, so that min-max sees the true range.
        samples.setdefault(name, []).append(torch.cat([flat[place.to(flat.device)], flat[flat.abs().argmax()][None]]))

    hooks = [
        point.register_forward_hook(lambda _point, _args, out, name=name: keep(name, out))
        for name, point in quant_points(model).items()
        if not point.weight
    ]
    try:
        with torch.no_grad():
            model.eval()
            for batch, _ in images.batches(BATCH):
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.cat(parts) for name, parts in samples.items()}


def calibrated_parent(config_images: int, scheme: QuantScheme, context: StageContext) -> Model:
    """The parent's network with calibrated quantizers, on the device."""
    model = context.parent_model()
    calibrate_(model, scheme, context.train.sample(config_images, seed_for(context.seed, 3)), seed_for(context.seed, 4))
    context.device.place(model)
    return model


def finished(
    model: Model, scheme: QuantScheme, bn_images: int, context: StageContext, history: list[dict[str, float]]
) -> StageResult:
    """Measures batch norm again, rounds what the file stores in 16 bits, and evaluates the folded network.

    Folding may move an activation by one step where it lay between two, so the folded network decides a few
    images differently; more than that is an error.

    Raises:
        ArtifactMismatch: folding changed the network.
    """
    if bn_images:
        sample = context.train.sample(bn_images, seed_for(context.seed, 5))
        reestimate_batch_norm_(model, sample.batches(BATCH))
    round_side_info_(model)
    live, accuracy = evaluate(model, context.val), evaluate(folded(model), context.val)
    if abs(live - accuracy) > max(0.005, 3 / len(context.val)):
        raise ArtifactMismatch(f"folding moved the accuracy from {live:.4f} to {accuracy:.4f}")
    return StageResult(
        architecture=context.parent.architecture,
        scheme=scheme,
        state=model.state_dict(),
        metrics={"val_accuracy": accuracy, "val_accuracy_unfolded": live},
        history=history,
    )


@run_stage.register
def _(config: PostTrainingQuant, context: StageContext) -> StageResult:
    """Calibrate, no training."""
    model = calibrated_parent(config.calibration_images, config.scheme, context)
    return finished(model, config.scheme, config.bn_images, context, [])
