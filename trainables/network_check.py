"""check_network: does everything that a search does to networks work with this one? On random images, in seconds."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.config import Architecture, QuantScheme
from trainables.costs.counts import count
from trainables.data.images import Images, ImageSet
from trainables.export.header import Header
from trainables.export.packed import pack, unpack
from trainables.graph.network_file import NetworkFile
from trainables.models.model import Model
from trainables.models.unit_state import own_model
from trainables.models.units import evaluating, units
from trainables.prune.channels import channel_axis, prune_channels, removed_positions
from trainables.quant.calibrate import calibrate_
from trainables.quant.fold import folded, round_side_info_
from trainables.train.batch_norm import reestimate_batch_norm_

IMAGES = 8
"""Random images of a check. More: time; fewer: a difference may stay unseen."""
REMOVED = 0.3
"""The share of each group's channels that is removed."""
PRUNED_TOLERANCE, ONNX_TOLERANCE = 1e-4, 1e-3
"""How far outputs may lie apart, relative to the largest: the same sums in another order, and in another runtime."""
CODES_TOLERANCE = 0.5
"""The same where activations are codes: a deep network of random weights makes much of a value that falls to the next
code, and an operator that is written wrong leaves nothing of the outputs."""
FINE = QuantScheme(w_bits=16, a_bits=16, residual_bits=16, edge_bits=16)
"""Bits with which a network computes as without: what lies off then is in the wrong place."""
FINE_TOLERANCE = 0.1
NARROW = QuantScheme(w_bits=4, a_bits=8)
"""The bits of the packed file that is checked."""
FLOAT_ACTIVATIONS = QuantScheme(w_bits=4, a_bits=32, residual_bits=32, a_bits_by_group={"classifier": 32})
"""The same weights without codes of activations, so that two runtimes differ by the order of sums alone."""
LR = 0.01
"""The learning rate of the step that must lower the loss; it is halved up to ten times, since losses are curved."""


@dataclass(frozen=True)
class Checked:
    """The result of one check: what it is called, whether it holds, and what was seen."""

    name: str
    holds: bool
    seen: str


def check_network(network: NetworkFile) -> Iterator[Checked]:
    """Yields the result of each check: pruning, training, quantizing, packing, the ONNX file, counts of operations.

    A check that raises does not hold; its message says why.
    """
    model, architecture = own_model(network)
    images = random_images(architecture)
    # Values of fresh networks would die away, or explode, from layer to layer.
    reestimate_batch_norm_(model, images.batches(IMAGES))
    checks: dict[str, Callable[[Model, Architecture, Images], tuple[bool, str]]] = {
        "pruning": check_pruning,
        "training": check_training,
        "quantized": check_quantized,
        "packed file": check_packed,
        "ONNX file": check_onnx,
        "operations": check_operations,
    }
    for name, check in checks.items():
        try:
            holds, seen = check(deepcopy(model), architecture, images)
        except Exception as err:  # one check that breaks must not hide the others
            holds, seen = False, f"{type(err).__name__}: {str(err).splitlines()[0] if str(err) else ''}"
        yield Checked(name, holds, seen)


def random_images(architecture: Architecture) -> Images:
    """Returns random pixels with random labels in the shape that a network takes."""
    rng = np.random.default_rng(0)
    shape = (IMAGES, *architecture.image)
    pixels, labels = rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, architecture.classes, IMAGES)
    ones = (0.5,) * architecture.channels
    return Images(ImageSet(pixels, labels), ones, ones, torch.device("cpu"))


@torch.no_grad()
def check_pruning(model: Model, architecture: Architecture, images: Images) -> tuple[bool, str]:
    """Removes channels of all groups, and compares with the network in which they are zero.

    Where an activation makes something of zero, nothing reads them in that network either.
    """
    groups = model.prune_groups()
    rng = np.random.default_rng(0)
    plan = {}
    for group in groups:
        gone = rng.choice(group.channels, min(group.channels - 1, round(REMOVED * group.channels)), replace=False)
        plan[group.name] = sorted(set(range(group.channels)) - set(gone.tolist()))
    removed = removed_positions(groups, plan)
    outputs, inputs = ({name: p for (name, side), p in removed.items() if side == which} for which in (0, 1))
    masked = deepcopy(model).eval()
    layers = units(masked)
    for name, places in outputs.items():
        for tensor in masked.get_submodule(name).state_dict().values():
            if tensor.ndim:
                axis = channel_axis(tensor, unit=name in layers)
                tensor.index_fill_(axis, torch.tensor(sorted(places), dtype=torch.int64), 0.0)
    narrow, smaller = prune_channels(model, architecture, plan)
    [(batch, _)] = images.batches(IMAGES)
    found = narrow.eval()(batch)
    off = _distance(found, masked(batch))
    if off > PRUNED_TOLERANCE:
        for name in inputs.keys() & layers.keys():
            weight = layers[name].layer.weight
            if max(inputs[name], default=0) < weight.shape[1]:  # a depthwise filter reads the channel that it writes
                weight.index_fill_(1, torch.tensor(sorted(inputs[name]), dtype=torch.int64), 0.0)
        off = _distance(found, masked(batch))
    left = sum(p.numel() for p in narrow.parameters()) / sum(p.numel() for p in model.parameters())
    share = 1 - sum(smaller.widths.values()) / max(1, sum(group.channels for group in groups))
    return (
        off <= PRUNED_TOLERANCE,
        f"{len(groups)} groups, {100 * share:.0f} % of the channels gone, {100 * left:.0f} % of the weights left, "
        f"off by {off:.1e}",
    )


def check_training(model: Model, architecture: Architecture, images: Images) -> tuple[bool, str]:
    """Takes a step of gradient descent, with batch norm live."""
    [(batch, labels)] = images.batches(IMAGES)
    no_dropout_(model)
    loss = F.cross_entropy(model.train()(batch), labels)
    before_step = float(loss.detach())
    learned = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, learned, allow_unused=True)
    start = [p.detach().clone() for p in learned]
    lr, after = LR, before_step
    for _ in range(11):
        with torch.no_grad():
            for parameter, before, gradient in zip(learned, start, gradients, strict=True):
                parameter.copy_(before if gradient is None else before - lr * gradient)
            after = float(F.cross_entropy(model(batch), labels))
        if after < before_step:
            return True, f"loss {before_step:.3f}, after a step {after:.3f}"
        lr /= 2
    return False, f"loss {before_step:.3f}, after a step {after:.3f}"


@torch.no_grad()
def check_quantized(model: Model, architecture: Architecture, images: Images) -> tuple[bool, str]:
    """Quantizes weights and activations to 16 bits, and compares with the float network; says what 8 bits do."""
    [(batch, _)] = images.batches(IMAGES)
    expected, off = model.eval()(batch), {}
    for scheme in (FINE, QuantScheme(w_bits=8, a_bits=8)):
        quantized = deepcopy(model)
        calibrate_(quantized, scheme, images, 0)
        off[scheme.w_bits] = _distance(quantized.eval()(batch), expected)
    return off[16] <= FINE_TOLERANCE, f"with 16 bits off by {off[16]:.1e}, with 8 bits off by {off[8]:.1e}"


def check_packed(model: Model, architecture: Architecture, images: Images) -> tuple[bool, str]:
    """Quantizes, packs and decodes, and compares to the last bit."""
    content, quantized = _packed(model, architecture, images, NARROW)
    [(batch, _)] = images.batches(IMAGES)
    with torch.no_grad():
        equal = torch.equal(unpack(content).network()(batch), folded(quantized)(batch))
    return equal, f"{len(content):,} bytes at 4 bits, {'equal' if equal else 'not equal'} to the last bit"


def check_onnx(model: Model, architecture: Architecture, images: Images) -> tuple[bool, str]:
    """Writes the ONNX file and compares its logits with the packed file's, with float and with 8-bit activations."""
    from trainables.export.onnx.check import onnx_logits, open_session
    from trainables.export.onnx.graph import write_onnx

    [(batch, _)] = images.batches(IMAGES)
    off = []
    for scheme in (FLOAT_ACTIVATIONS, NARROW):
        content, _ = _packed(deepcopy(model), architecture, images, scheme)
        written = write_onnx(content)
        found = torch.from_numpy(onnx_logits(open_session(written), images.pixels[:].numpy()))
        with torch.no_grad():
            off.append(_distance(found, unpack(content).network()(batch)))
    holds = off[0] <= ONNX_TOLERANCE and off[1] <= CODES_TOLERANCE
    return holds, f"{len(written):,} bytes, off by {off[0]:.1e} with float activations, by {off[1]:.1e} with 8 bits"


def check_operations(model: Model, architecture: Architecture, images: Images) -> tuple[bool, str]:
    """Compares multiply-accumulates with half of torch's count of floating-point operations."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), evaluating(model), FlopCounterMode(display=False) as counter:
        model(next(images.batches(IMAGES))[0][:1])
    macs, expected = count(model, architecture).macs, counter.get_total_flops() // 2
    return macs == expected, f"{macs:,} multiply-accumulates, torch counts {expected:,}"


def _packed(model: Model, architecture: Architecture, images: Images, scheme: QuantScheme) -> tuple[bytes, Model]:
    calibrate_(model, scheme, images, 0)
    model.eval()
    round_side_info_(model)
    ones = (0.5,) * architecture.channels
    return pack(model, Header(architecture=architecture, scheme=scheme, mean=ones, std=ones)), model


def no_dropout_(model: nn.Module) -> None:
    """Turns dropout off, so that two losses can be compared."""
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
