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
    layers = units(model)
    steps = {(n, bits): _step(unit, bits, config) for n, unit in layers.items() for bits in sorted(config.candidates)}
    kl = _divergences(model, images, steps)
    table: dict[str, list[Choice]] = {name: [] for name in layers}
    for (name, bits), step in steps.items():
        table[name].append(_choice(name, layers[name], bits, step, kl[name, bits] / len(images)))
    parent = context.parent
    overhead = _overhead_bytes(parent, config, context)
    metrics = {"val_accuracy": parent.metrics["val_accuracy"], "overhead_bytes": overhead, **to_metrics(table)}
    return StageResult(parent.architecture, None, parent.state, metrics, plan=parent.plan)


def _step(unit: Unit, bits: int, config: Sensitivity) -> Tensor:
    """Returns the step of a layer at one width, in a shape that broadcasts against its weight."""
    weight = unit.layer.weight.detach()
    rows = weight.flatten(1) if config.granularity == "channel" else weight.reshape(1, -1)
    step: Tensor = OBSERVERS[config.observer](
        rows.float(), *code_range(bits, signed=True), percentile=config.percentile
    )
    return step.view(-1, *[1] * (weight.ndim - 1))


@torch.inference_mode()
def _divergences(model: Model, images: Images, steps: dict[tuple[str, int], Tensor]) -> dict[tuple[str, int], float]:
    """Returns the KL divergence of each layer's width, summed over all images, in nats.

    A layer's weight is replaced for a while, and the network computed from there on.
    """
    layers = units(model)
    found = dict.fromkeys(steps, 0.0)
    for batch, _ in images.batches(BATCH):
        before = F.log_softmax(model(batch).float(), dim=1)
        for name, logits in model.resumed(batch):
            if (unit := layers.get(name)) is None:
                continue
            weight = unit.layer.weight
            kept = weight.clone()
            for bits in (bits for layer, bits in steps if layer == name):
                step = steps[name, bits]
                weight.copy_(nearest_codes(kept / step, bits, signed=True) * step)
                after = F.log_softmax(logits().float(), dim=1)
                found[name, bits] += float(F.kl_div(after, before, reduction="sum", log_target=True))
            weight.copy_(kept)
    return found


def _choice(name: str, unit: Unit, bits: int, step: Tensor, kl: float) -> Choice:
    """Returns what one layer at one width costs in accuracy, and in bytes."""
    weight = unit.layer.weight.detach()
    codes = nearest_codes(weight / step, bits, signed=True).to(torch.int16).cpu().contiguous().numpy()
    size = coded_bits(LayerSpec(name, tuple(weight.shape), bits), codes, choice="auto") / 8
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
