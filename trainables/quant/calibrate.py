"""Calibration: quantizers with steps from the weights themselves and from float forward passes."""

from contextlib import ExitStack

import torch
from torch import Tensor

from trainables.config import FLOAT_BITS, OBSERVERS, QuantScheme
from trainables.data.images import Images
from trainables.device import seed_for
from trainables.errors import Diverged
from trainables.models.attach import attach_quantizers_, detach_quantizers_
from trainables.models.model import Model
from trainables.models.quantizer import Quantizer
from trainables.models.units import quant_points, units
from trainables.quant.observers import mean_magnitude
from trainables.stages.stage import StageContext

BATCH = 128
"""Images of a forward pass. The sample of activations has as many values per batch, so that fewer images in a batch
also mean more of these."""
VALUES_PER_BATCH = 4_096
"""Values of each activation that are kept of a batch, beside the largest one. More: time in the observers; fewer: noise
in percentiles and squared errors."""


def calibrated_(model: Model, scheme: QuantScheme, images: int, context: StageContext) -> Images:
    """Attaches calibrated quantizers, and moves all to the device; returns the training images that were used."""
    sample = context.train.sample(images, seed_for(context.seed, 3))
    calibrate_(model, scheme, sample, seed_for(context.seed, 4))
    context.device.place(model)
    return sample


def calibrate_(model: Model, scheme: QuantScheme, images: Images, seed: int) -> None:
    """Attaches quantizers and sets every step; quantizers that are there already are taken away first.

    Raises:
        InfeasiblePoint: the scheme names a layer that the network does not have.
        Diverged: values are not finite, so that their step is not.
    """
    detach_quantizers_(model)
    samples = _collect_activations(model, scheme, images, seed)
    attach_quantizers_(model, scheme)
    weights = {unit.weight_point: unit.layer.weight.detach() for unit in units(model).values()}
    for_weights = OBSERVERS[scheme.observer]
    for_activations = OBSERVERS[scheme.activation_observer or scheme.observer]
    for name, point in quant_points(model).items():
        quantizer = point.quantizer
        if not isinstance(quantizer, Quantizer):
            continue
        if point.weight:
            observe = for_weights
            values = weights[point].flatten(1) if quantizer.step.ndim else weights[point].reshape(1, -1)
        else:
            observe, values = for_activations, samples[name][None]
        with torch.no_grad():
            if quantizer.binary:
                step = mean_magnitude(values.float())
            else:
                step = observe(values.float(), quantizer.qn, quantizer.qp, percentile=scheme.percentile)
            if not bool(torch.isfinite(step).all()):
                raise Diverged(
                    f"the step of {name} is not finite, since its values are not: lower the learning rate, or import a "
                    "network whose weights and activations are finite."
                )
            quantizer.step.copy_(step.view_as(quantizer.step))
    model.to(next(model.parameters()).device)


def _collect_activations(model: Model, scheme: QuantScheme, images: Images, seed: int) -> dict[str, Tensor]:
    """Draws a random sample of the values that pass each activation point, (N,) float32 by name."""
    samples: dict[str, list[Tensor]] = {}
    generator = torch.Generator().manual_seed(seed)

    def keep(name: str, values: Tensor) -> None:
        flat = values.detach().flatten()
        place = torch.randint(len(flat), (min(VALUES_PER_BATCH, len(flat)),), generator=generator)
        # The largest value is always in, so that min-max sees the true range.
        samples.setdefault(name, []).append(torch.cat([flat[place.to(flat.device)], flat[flat.abs().argmax()][None]]))

    model.eval()
    with torch.no_grad(), ExitStack() as hooks:
        for name, point in quant_points(model).items():
            read_alone = point.role == "block_input" and scheme.activation_bits(point.role) == FLOAT_BITS
            if not point.weight and not read_alone:
                hook = point.register_forward_hook(lambda _point, _args, out, name=name: keep(name, out))
                hooks.enter_context(hook)
        for batch, _ in images.batches(BATCH):
            model(batch)
    return {name: torch.cat(parts).float() for name, parts in samples.items()}
