import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.trainables.factories import captured, inner_groups, of_graph
from trainables.config import MODELS, Architecture, ModelConfig, QuantScheme
from trainables.costs.counts import count, sparsity_achieved
from trainables.costs.operations import operations
from trainables.graph.trace import graph_of
from trainables.models.attach import attach_quantizers_
from trainables.models.model import Model, build
from trainables.models.units import LinearUnit, QuantPoint, units

WHOLE_NETWORKS = True

FAMILIES = sorted(MODELS.names())


def architecture(name: str = "mobilenet_v2", *, prune_frac: float = 0.0, width: float = 1.0) -> Architecture:
    """32x32 color images, 10 classes; the expansion channels pruned."""
    full = Architecture(model=ModelConfig(name=name, width=width), classes=10, channels=3, image_size=32)
    if prune_frac == 0:
        return full
    with torch.device("meta"):
        model = build(full)
    sizes = {g.name: units(model)[g.source].layer.weight.shape[0] for g in inner_groups(model) if not g.optional}
    widths = {name: size - max(1, math.floor(size * prune_frac + 1e-9)) for name, size in sizes.items()}
    return full.model_copy(update={"widths": widths})


def network(shape: Architecture, scheme: QuantScheme | None = None) -> Model:
    """On the meta device: what is counted cannot depend on weights."""
    with torch.device("meta"):
        model = build(shape)
        if scheme is not None:
            attach_quantizers_(model, scheme)
    return model


def even(w_bits: int, a_bits: int) -> QuantScheme:
    """Edge weights at 8 bits, and every activation at a_bits, sums and pooled features too."""
    return QuantScheme(w_bits=w_bits, a_bits=a_bits, residual_bits=a_bits, a_bits_by_group={"classifier": a_bits})


class Network(nn.Module):
    """A network given as layers and a function of them and of an image, with a mean and a classifier of two classes."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], channels: int, **parts: nn.Module) -> None:
        super().__init__()
        self._run = run
        for name, part in parts.items():
            self.add_module(name, part)
        self.classifier = nn.Linear(channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(torch.mean(self._run(self, x), dim=(2, 3)))
        return logits


def conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


PIXELS = 64
LOGITS = 4 * 2
"""Bytes of the logits of such a network."""


def test_mobilenet_multiply_accumulates_by_class() -> None:
    shape = architecture()
    model = network(shape)
    by_role: dict[str, int] = {}
    for name, layer in count(model, shape).layers.items():
        role = units(model)[name].role
        by_role[role] = by_role.get(role, 0) + layer.macs
    assert by_role == {
        "first_conv": 884_736,
        "expansion": 37_650_432,
        "depthwise": 5_879_808,
        "projection": 36_995_072,
        "head": 6_553_600,
        "classifier": 12_800,
    }
    assert count(model, shape).macs == 87_976_448


@pytest.mark.parametrize(
    ("prune_frac", "macs"),
    [
        (0.25, 68_049_920),
        (0.30, 64_188_672),
        (0.35, 60_192_432),
        (0.40, 56_246_432),
        (0.45, 52_250_192),
        (0.50, 48_123_392),
        (0.60, 40_265_904),
    ],
)
def test_pruned_multiply_accumulates(prune_frac: float, macs: int) -> None:
    shape = architecture(prune_frac=prune_frac)
    assert count(network(shape), shape).macs == macs


def test_vgg_multiply_accumulates() -> None:
    shape = architecture("vgg16")
    layers = count(network(shape), shape).layers
    assert layers.pop("classifier").macs == 512 * 10
    assert sum(layer.macs for layer in layers.values()) == 313_196_544


@pytest.mark.parametrize(
    ("prune_frac", "scheme", "bops"),
    [
        (0, None, 90_087_882_752),
        (0, QuantScheme(w_bits=8, a_bits=8), 5_630_492_672),
        (0, QuantScheme(w_bits=4, a_bits=8), 2_843_967_488),
        (0.4, QuantScheme(w_bits=4, a_bits=8), 1_828_606_976),
        (0, even(4, 4), 1_450_295_296),
        (0.5, even(3, 4), 623_742_976),
    ],
)
def test_bit_operations(prune_frac: float, scheme: QuantScheme | None, bops: int) -> None:
    shape = architecture(prune_frac=prune_frac)
    assert count(network(shape, scheme), shape).bops == bops


def test_layers_read_the_bits_of_the_tensor_before_them() -> None:
    shape = architecture(width=0.25)
    scheme = QuantScheme(w_bits=4, a_bits=5, residual_bits=7, w_bits_by_layer={"head": 3})
    layers = count(network(shape, scheme), shape).layers
    bits = {name: (layer.w_bits, layer.a_bits) for name, layer in layers.items()}
    assert bits["stem"] == (8, 8)
    assert bits["blocks.0.depthwise"] == (4, 5)
    assert bits["blocks.3.expand"] == (4, 7)
    assert bits["blocks.3.project"] == (4, 5)
    assert bits["head"] == (3, 7)
    assert bits["classifier"] == (8, 8)


def test_float_activations_cost_32_bits_and_the_image_8() -> None:
    shape = architecture("vgg16", width=0.1)
    layers = count(network(shape, QuantScheme(w_bits=4, a_bits=32, residual_bits=32)), shape).layers
    assert layers["features.0"].a_bits == 8
    assert {layer.a_bits for name, layer in layers.items() if name not in ("features.0", "classifier")} == {32}


def test_the_maximum_of_a_pool_keeps_its_bits() -> None:
    shape = architecture("vgg16", width=0.1)
    layers = count(network(shape, QuantScheme(w_bits=4, a_bits=6)), shape).layers
    assert {layer.a_bits for name, layer in layers.items() if name not in ("features.0", "classifier")} == {6}


def test_activation_bytes_are_a_fused_sum() -> None:
    shape = architecture()
    assert count(network(shape), shape).activation_bytes == 4 * 1_641_226
    float_logits = 10 * (4 - 1)
    assert count(network(shape, even(4, 8)), shape).activation_bytes == 1_641_226 + float_logits


@pytest.mark.parametrize(
    ("name", "prune_frac", "peak"),
    [
        ("mobilenet_v2", 0, 319_488),
        ("mobilenet_v2", 0.4, 202_752),
        ("mobilenet_v2", 0.5, 172_032),
        ("vgg16", 0, 131_072),
    ],
)
def test_peak_of_live_activations(name: str, prune_frac: float, peak: int) -> None:
    shape = architecture(name, prune_frac=prune_frac)
    assert count(network(shape, even(8, 8)), shape).peak_activation_bytes == peak
    assert count(network(shape), shape).peak_activation_bytes == 4 * peak


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.sampled_from([2, 3, 8, 32]))
def test_a_chain_holds_input_and_output_of_one_layer(widths: list[int], bits: int) -> None:
    layers = [conv(c_in, c) for c_in, c in itertools.pairwise([1, *widths])]
    network = Network(lambda m, x: m.convs(x), widths[-1], convs=nn.Sequential(*layers))
    model, tiny = of_graph(graph_of(network, (1, 8, 8)))
    attach_quantizers_(model, QuantScheme(w_bits=4, a_bits=bits))
    sizes = [PIXELS, *(math.ceil(c * PIXELS * bits / 8) for c in widths), widths[-1], LOGITS]
    found = count(model, tiny)
    assert found.activation_bytes == sum(sizes[1:])
    assert found.peak_activation_bytes == max(a + b for a, b in itertools.pairwise(sizes))


def test_a_residual_is_held_until_the_sum() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.first(x)
        return y + m.last(m.middle(y))

    model, tiny = captured(Network(run, 2, first=conv(1, 2), middle=conv(2, 5), last=conv(5, 2)))
    attach_quantizers_(model, QuantScheme())
    found = count(model, tiny)
    mean = 2
    assert found.activation_bytes == (2 + 5 + 2) * PIXELS + mean + LOGITS, "the sum is in the last layer's output"
    assert found.peak_activation_bytes == (5 + 2 + 2) * PIXELS


def test_branches_live_until_they_are_concatenated() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.first(x)
        return m.last(torch.cat([m.left(y), m.right(y)], dim=1))

    parts = {"first": conv(1, 4), "left": conv(4, 3), "right": conv(4, 2), "last": conv(5, 1)}
    model, tiny = captured(Network(run, 1, **parts))
    attach_quantizers_(model, QuantScheme())
    found = count(model, tiny)
    left, right, mean = 4 * 3, 4 * 2, 1  # the branches are float, since they are quantized once they are joined
    assert found.activation_bytes == (4 + left + right + 5 + 1) * PIXELS + mean + LOGITS
    assert found.peak_activation_bytes == (left + right + 5) * PIXELS
    assert found.layers["last"].macs == 5 * 9 * PIXELS


def test_an_activation_of_a_held_tensor_gets_a_buffer_of_its_own() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.first(x)
        return y + m.last(torch.relu(y))

    model, tiny = captured(Network(run, 2, first=conv(1, 2), last=conv(2, 2)))
    mean = 4 * 2
    assert count(model, tiny).activation_bytes == 4 * (2 + 2 + 2) * PIXELS + mean + LOGITS


def test_a_quantized_copy_of_a_held_tensor_gets_a_buffer_of_its_own() -> None:
    class TwoClassifiers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.one, self.other = conv(1, 8), nn.Linear(8, 2), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x).mean(dim=(2, 3))
            logits: Tensor = self.one(y) + self.other(y)
            return logits

    model, tiny = captured(TwoClassifiers())
    one = units(model)["one"]
    assert isinstance(one, LinearUnit)
    one.in_point = QuantPoint("residual")  # where the rule has none: both layers read the codes of one point
    attach_quantizers_(model, QuantScheme(a_bits=32, a_bits_by_group={"projection": 2}))
    found = count(model, tiny)
    assert (found.layers["one"].a_bits, found.layers["other"].a_bits) == (2, 8)
    mean, copy = 8, 8 * 2 // 8
    assert found.activation_bytes == 4 * 8 * PIXELS + mean + copy + 2 * LOGITS


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_do_not_matter_and_nothing_is_left_behind(name: str) -> None:
    shape = architecture(name, width=0.1)
    model = build(shape).train()
    attach_quantizers_(model, QuantScheme(w_bits=4))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.0)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    assert count(model, shape) == count(network(shape, QuantScheme(w_bits=4)), shape)
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_layer_is_counted_once(name: str) -> None:
    shape = architecture(name, width=0.1)
    model = network(shape)
    assert list(count(model, shape).layers) == list(units(model))
    assert sum(op.name in ("conv2d", "linear") for op in operations(model)) == len(units(model))


def test_every_layer_has_the_bytes_of_what_it_writes() -> None:
    shape = architecture(width=0.25)
    counts = count(network(shape, QuantScheme(w_bits=4, a_bits=4, residual_bits=8)), shape)
    layers = counts.layers
    assert layers["stem"].activation_bytes == 8 * 32 * 32 // 2
    assert layers["blocks.2.project"].activation_bytes == 8 * 32 * 32, "the sum of the block, with its own bits"
    assert layers["classifier"].activation_bytes == 4 * 10
    pooled = 1280
    assert sum(layer.activation_bytes for layer in layers.values()) == counts.activation_bytes - pooled


def test_what_a_block_reads_has_bits_of_its_own_and_is_stored_beside_the_stream() -> None:
    shape = architecture(width=0.25)
    schemes = [QuantScheme(w_bits=4, a_bits=4, narrow_block_inputs=narrow) for narrow in (False, True)]
    wide, narrow = (count(network(shape, scheme), shape) for scheme in schemes)
    before, after = wide.layers["blocks.3.expand"], narrow.layers["blocks.3.expand"]
    assert (before.bops, after.bops) == (4 * 8 * before.macs, 4 * 4 * before.macs)
    assert wide.layers["blocks.3.depthwise"].bops == narrow.layers["blocks.3.depthwise"].bops
    assert narrow.activation_bytes > wide.activation_bytes


def test_sparsity_is_the_share_of_zero_codes() -> None:
    assert sparsity_achieved([np.array([[0, 1], [-1, 0]], np.int8), np.zeros((4, 1), np.int8)]) == 0.75
    assert sparsity_achieved([np.ones((3, 2), np.int8)]) == 0
