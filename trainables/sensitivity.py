"""How much each layer's bits matter: the KL divergence that quantizing it alone causes, and its coded bytes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.config import OBSERVERS, QuantScheme, Sensitivity
from trainables.data.images import Images
from trainables.device import seed_for
from trainables.export.coders.coder import LayerSpec, coded_bits
from trainables.export.packed import Header, pack, size_breakdown
from trainables.models.attach import attach_quantizers_, weight_quantizer
from trainables.models.model import Model
from trainables.models.quantizer import code_range, nearest_codes
from trainables.models.units import Unit, units
from trainables.quant.allocate import Choice, to_metrics
from trainables.quant.fold import round_side_info_
from trainables.stages.stage import StageContext, StageResult, run_stage

BATCH = 512
"""Images of a forward pass. More: memory for their activations; fewer: more time between batches."""
SLACK_BYTES = 64
"""Bytes that are added to a file's overhead, since digits in the header, its padding and the last word of the stream
differ a little from file to file."""


@run_stage.register
def _(config: Sensitivity, context: StageContext) -> StageResult:
    """Measures every layer at every candidate width; the network passes through unchanged."""
    model = context.parent_model().eval()
    images = context.train.sample(config.images, seed_for(context.seed, 8))
    kl = _divergences(model, images, config)
    table = {
        name: [_choice(name, unit, bits, config, kl[name, bits] / len(images)) for bits in sorted(config.candidates)]
        for name, unit in units(model).items()
    }
    parent = context.parent
    overhead = _overhead_bytes(parent, config, context)
    metrics = {"val_accuracy": parent.metrics["val_accuracy"], "overhead_bytes": overhead, **to_metrics(table)}
    return StageResult(parent.architecture, None, parent.state, metrics, plan=parent.plan)


@torch.inference_mode()
def _divergences(model: Model, images: Images, config: Sensitivity) -> dict[tuple[str, int], float]:
    """Returns the KL divergences by layer and width, summed over all images, in nats.

    A layer's weight is replaced for a while, and the network computed from there on.
    """
    layers = units(model)
    found = {(name, bits): 0.0 for name in layers for bits in config.candidates}
    for batch, _ in images.batches(BATCH):
        before = F.log_softmax(model(batch).float(), dim=1)
        for name, logits in model.resumed(batch):
            if (unit := layers.get(name)) is None:
                continue
            weight = unit.layer.weight
            kept = weight.clone()
            for bits in config.candidates:
                codes, step = _quantized(kept, bits, config)
                weight.copy_(codes * step)
                after = F.log_softmax(logits().float(), dim=1)
                found[name, bits] += float(F.kl_div(after, before, reduction="sum", log_target=True))
            weight.copy_(kept)
    return found


def _choice(name: str, unit: Unit, bits: int, config: Sensitivity, kl: float) -> Choice:
    """Returns what one layer at one width costs in accuracy, and in bytes."""
    weight = unit.layer.weight.detach()
    codes, _ = _quantized(weight, bits, config)
    layer = LayerSpec(name, tuple(weight.shape), bits)
    size = coded_bits(layer, codes.to(torch.int16).cpu().contiguous().numpy(), choice="auto") / 8
    return Choice(bits, max(kl, 0.0), size)


def _overhead_bytes(parent: StageResult, config: Sensitivity, context: StageContext) -> int:
    """Counts the bytes of a packed file of this network without its weights: side information and header."""
    model = parent.model()
    widths = sorted(config.candidates)
    # Every layer has bits of its own in the header, as it will have.
    by_layer = {name: widths[i % len(widths)] for i, name in enumerate(units(model))}
    scheme = QuantScheme(w_bits_by_layer=by_layer, granularity=config.granularity, side_bits=config.side_bits)
    attach_quantizers_(model, scheme)
    for unit in units(model).values():
        quantizer = weight_quantizer(unit)
        with torch.no_grad():
            quantizer.step.fill_(float(unit.layer.weight.abs().max()) / quantizer.qp)
    round_side_info_(model, side_bits=config.side_bits)
    header = Header(architecture=parent.architecture, scheme=scheme, mean=context.data.mean, std=context.data.std)
    parts = size_breakdown(pack(model, header))
    return sum(parts.values()) - parts["codes"] - parts["models"] + SLACK_BYTES


def _quantized(weight: Tensor, bits: int, config: Sensitivity) -> tuple[Tensor, Tensor]:
    """Returns codes in the weight's shape, and a step that broadcasts against it."""
    qn, qp = code_range(bits, signed=True)
    rows = weight.flatten(1) if config.granularity == "channel" else weight.reshape(1, -1)
    step = OBSERVERS[config.observer](rows.float(), qn, qp, percentile=config.percentile)
    step = step.view(-1, *[1] * (weight.ndim - 1))
    return nearest_codes(weight / step, bits, signed=True), step
