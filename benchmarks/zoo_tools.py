"""What each tool does with a module that it has never seen: one function a tool, which yields an outcome for each part.

Every tool is called as its own documentation does it for an unknown network, with its defaults.
"""

import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.train.batch_norm import reestimate_batch_norm_

CLASSES = 10
IMAGES = 8
REMOVED = 0.3
"""The share of channels that is removed."""


@dataclass(frozen=True)
class Outcome:
    """The result of one part: its name, whether it holds, what was seen, and its seconds."""

    part: str
    holds: bool
    seen: str
    seconds: float


Shape = tuple[int, int, int]
Tool = Callable[[nn.Module, Shape], Iterator[tuple[str, bool, str]]]


def ours(module: nn.Module, image: Shape) -> Iterator[tuple[str, bool, str]]:
    """Captures the module, then runs all checks of `tune-app capture --check`."""
    from trainables.models.importing import captured_network
    from trainables.network_check import check_network

    network = captured_network(module, image)
    yield "captured", True, f"{len(network.graph.nodes)} operators"
    for check in check_network(network):
        yield check.name, check.holds, check.seen


def torch_pruning(module: nn.Module, image: Shape) -> Iterator[tuple[str, bool, str]]:
    """Removes channels of all groups by magnitude; layers with one output for each class keep theirs."""
    import torch_pruning as tp

    before = sum(p.numel() for p in module.parameters())
    heads = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d) and len(m.weight) == CLASSES]
    importance = tp.importance.MagnitudeImportance(p=2)
    images = random_images(image)
    pruner = tp.pruner.BasePruner(module, images[:1], importance, pruning_ratio=REMOVED, ignored_layers=heads)
    pruner.step()
    left = sum(p.numel() for p in module.parameters()) / before
    yield "pruning", left < 1 and _is_network(module, images), f"{left:.0%} of the weights left"


def nncf(module: nn.Module, image: Shape) -> Iterator[tuple[str, bool, str]]:
    """Quantizes weights and activations to 8 bits after training."""
    import nncf as tool

    images = random_images(image)
    expected = _outputs(module, images)
    quantized = tool.quantize(module, tool.Dataset([images]), subset_size=1)
    yield "quantized", *_compared(quantized, images, expected)


def pt2e(module: nn.Module, image: Shape) -> Iterator[tuple[str, bool, str]]:
    """Quantizes weights and activations to 8 bits after training, for x86 processors."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    images = random_images(image)
    expected = _outputs(module, images)
    exported = torch.export.export(module, (images,), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(exported, quantizer)
    prepared(images)
    quantized = convert_pt2e(prepared)
    yield "quantized", *_compared(quantized, images, expected)


TOOLS: dict[str, Tool] = {"ours": ours, "Torch-Pruning": torch_pruning, "NNCF": nncf, "PT2E": pt2e}
PACKAGES = {"ours": "tune-app", "Torch-Pruning": "torch-pruning", "NNCF": "nncf", "PT2E": "torchao"}


def tried(tool: str, module: nn.Module, image: Shape) -> list[Outcome]:
    """Returns the outcomes of a tool; where it raises, the part that was under way fails with its message."""
    found, started = [], time.perf_counter()
    try:
        for part, holds, seen in TOOLS[tool](module, image):
            found.append(Outcome(part, holds, seen, time.perf_counter() - started))
            started = time.perf_counter()
    except Exception as err:  # what a tool cannot do, it says in any way
        lines = [line.strip() for line in str(err).splitlines() if line.strip()]
        message = re.sub(r"[^\s\"']*/site-packages/", "", lines[0]) if lines else ""
        seen = f"{type(err).__name__}: {message}"
        found.append(Outcome("raised", False, seen, time.perf_counter() - started))
    return found


def random_images(image: Shape) -> Tensor:
    """Returns a batch of images, N(0, 1), the same ones each time."""
    return torch.randn(IMAGES, *image, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def settled(module: nn.Module, image: Shape) -> nn.Module:
    """Gives a fresh network values such as training leaves: statistics of its images, and nothing at zero.

    Networks start with the scales of their blocks at zero or close to it and with tokens that are small beside images:
    most of such a network has no effect, and nothing that a tool breaks in it would be seen.
    """
    draws = torch.Generator().manual_seed(0)
    for name, value in module.named_parameters():
        flat = value.numel() == max(value.shape, default=1)  # a vector, whatever axis it lies on
        if flat and value.numel() > 1 and bool((value == value.flatten()[0]).all()):
            low, high = (-0.1, 0.1) if name.endswith("bias") else (0.5, 1.5)
            value.uniform_(low, high, generator=draws)
        elif "token" in name:
            value.normal_(0, 1, generator=draws)
    images = random_images(image)
    reestimate_batch_norm_(module, [(images, images)])
    return module


@torch.no_grad()
def _outputs(module: nn.Module, images: Tensor) -> Tensor:
    found: Tensor = module.eval()(images)
    return found


def _is_network(module: nn.Module, images: Tensor) -> bool:
    found = _outputs(module, images)
    return found.shape == (len(images), CLASSES) and bool(torch.isfinite(found).all())


@torch.no_grad()
def _compared(quantized: Callable[[Tensor], Tensor], images: Tensor, expected: Tensor) -> tuple[bool, str]:
    found = quantized(images)
    off = float((found - expected).abs().max() / expected.abs().max())
    return 0 < off < math.inf and found.shape == expected.shape, f"with 8 bits off by {off:.1e}"
