"""Memory of a network's activations by several rules, beside that of another network in float32.

Earlier systems summed the outputs of the modules that their hooks met, at one width for all. Those sums put a network
beside published numbers; what a machine needs is nearer to `buffers`, and to `peak`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trainables.config import FLOAT_BITS, Architecture, Frozen
from trainables.costs.counts import Counts, count
from trainables.costs.operations import Op, operations
from trainables.models.model import Model

RULES = {
    "buffers": "all tensors that fused kernels write",
    "peak": "the most of these alive at once",
    "relu_outputs": "first conv, ReLUs, classifier (seed_000)",
    "module_outputs": "outputs of all leaf modules (seed_002)",
    "conv_outputs": "outputs of convolutions (seed_001)",
}
"""What each rule counts, and the recipe of the system that counted so; `buffers` and `peak` are ours."""


class ActivationMemory(Frozen):
    """The bytes of a batch's activations by one rule, beside those of the unpruned network in float32."""

    name: str
    counts: str
    size_bytes: int
    fp32_bytes: int
    ratio: float


@dataclass(frozen=True)
class Counted:
    """The costs of one image in a network, and the elements of its activations by the rules of earlier systems."""

    counts: Counts
    elements: dict[str, int]


def counted(model: Model, architecture: Architecture) -> Counted:
    """Counts the costs of a network, which may be on the meta device."""
    return Counted(count(model, architecture), activation_elements(model, architecture))


def activation_memory(
    network: Counted, baseline: Counted, *, a_bits: int, batch: int = 1
) -> tuple[ActivationMemory, ...]:
    """Compares activations by all rules: `buffers` and `peak` at each tensor's own bits, the others all at `a_bits`.

    A rule that counts nothing of the network is left out, such as `conv_outputs` where there is no convolution.
    """
    ours, theirs = _sizes(network, a_bits, batch), _sizes(baseline, FLOAT_BITS, batch)
    return tuple(
        ActivationMemory(name=n, counts=counts, size_bytes=ours[n], fp32_bytes=theirs[n], ratio=theirs[n] / ours[n])
        for n, counts in RULES.items()
        if ours[n]
    )


def activation_elements(model: Model, architecture: Architecture) -> dict[str, int]:
    """Counts the elements of one image's activations by the rules of earlier systems."""
    ops = operations(model)
    first = next((op.elements for op in ops if op.name == "conv2d"), 0)
    return {
        "relu_outputs": first + _total(ops, "relu", "clip", "linear"),
        "module_outputs": _total(ops, "conv2d", "batch_norm", "relu", "clip", "max_pool", "dropout", "linear"),
        "conv_outputs": _total(ops, "conv2d"),
    }


def _total(ops: Sequence[Op], *kinds: str) -> int:
    return sum(op.elements for op in ops if op.name in kinds)


def _sizes(network: Counted, bits: int, batch: int) -> dict[str, int]:
    counts = network.counts
    fused = {"buffers": batch * counts.activation_bytes, "peak": batch * counts.peak_activation_bytes}
    return {**fused, **{name: -(-batch * n * bits // 8) for name, n in network.elements.items()}}
