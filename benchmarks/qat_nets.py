"""One network with each kind of quantizer at the same points, W4A8: 8 bits in the first and last layer.

All start from the same weights, channels last, in training mode.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from trainables.config import Architecture, ModelConfig, QuantScheme
from trainables.data.images import Images, ImageSet
from trainables.device import Device
from trainables.models.importing import captured_network
from trainables.models.model import Model, build
from trainables.models.unit_state import own_model
from trainables.models.units import quant_points
from trainables.quant.calibrate import calibrate_
from trainables.quant.lsq import LsqQuantizer
from trainables.train.batch_norm import reestimate_batch_norm_

SCHEME = QuantScheme(w_bits=4, a_bits=8)


@dataclass(frozen=True)
class Setting:
    """A network and its batch: a MobileNetV2, or a plain module that is captured."""

    channels: int
    size: int
    width: float
    batch: int
    device: str = "cpu"
    own: Callable[[], nn.Module] | None = None
    """What makes the module; None for the MobileNetV2."""

    @property
    def place(self) -> Device:
        """As training has it: bf16 under autocast on a GPU."""
        return Device(torch.device(self.device))

    def __str__(self) -> str:
        shape = f"{self.channels}x{self.size}x{self.size}"
        name = f"MobileNetV2, width {self.width}" if self.own is None else f"{self.own.__name__}, captured"
        return f"{name}, input {shape}, batch {self.batch}, {self.place.name}"


def images(setting: Setting) -> Images:
    """One batch of random pixels with random labels."""
    rng = np.random.default_rng(0)
    shape = (setting.batch, setting.channels, setting.size, setting.size)
    pixels = ImageSet(rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 10, setting.batch))
    return Images(pixels, (0.5,) * setting.channels, (0.3,) * setting.channels, setting.place.torch)


def fp32(setting: Setting) -> Model:
    """Without quantizers."""
    torch.manual_seed(0)
    if setting.own is None:
        model = ModelConfig(name="mobilenet_v2", width=setting.width)
        net = build(Architecture(model=model, classes=10, channels=setting.channels, image_size=setting.size))
    else:
        net, _ = own_model(captured_network(setting.own(), (setting.channels, setting.size, setting.size)))
    setting.place.place(net)
    # Of fresh batch norms, calibration would see activations that training never has.
    reestimate_batch_norm_(net, images(setting).batches(setting.batch))
    return net.train()


def module(setting: Setting) -> nn.Module:
    """The module itself, as it was before it was captured."""
    assert setting.own is not None, "a MobileNetV2 of ours is captured as well"
    torch.manual_seed(0)
    net = setting.own()
    setting.place.place(net)
    return net.train()


def ours(setting: Setting) -> Model:
    """Calibrated; weights and all step sizes learn (LSQ)."""
    net = fp32(setting)
    calibrate_(net, SCHEME, images(setting), 0)
    setting.place.place(net)
    return net.train()


def ours_fixed_steps(setting: Setting) -> Model:
    """Plain straight-through training: the steps stay calibrated."""
    net = ours(setting)
    for quantizer in quantizers(net):
        quantizer.step.requires_grad_(False)
    return net


def torch_fake_quantize(setting: Setting) -> Model:
    """torch's own operators with the same fixed steps."""
    net = ours(setting)
    for point in quant_points(net).values():
        if isinstance(point.quantizer, LsqQuantizer):
            point.quantizer = TorchFakeQuantize(point.quantizer)
    return net


def brevitas(setting: Setting) -> nn.Module:
    """Brevitas' layers; needs brevitas."""
    from benchmarks.qat_brevitas import quantized

    return quantized(fp32(setting), SCHEME)


def torchao(setting: Setting) -> nn.Module:
    """Export and prepare_qat_pt2e; needs torchao."""
    from benchmarks.qat_torchao import quantized

    return quantized(fp32(setting), SCHEME, _batch(setting))


def torchao_fixed_scales(setting: Setting) -> nn.Module:
    """As torchao, with observers that have been switched off; needs torchao."""
    from benchmarks.qat_torchao import without_observers

    return without_observers(torchao(setting), _batch(setting))


def compiled(network: Callable[[Setting], nn.Module]) -> Callable[[Setting], nn.Module]:
    """The same network through torch.compile, as training with `compile` on does."""
    return lambda setting: dataclasses.replace(setting.place, compile=True).compiled(network(setting))


def quantizers(net: nn.Module) -> list[LsqQuantizer]:
    """Of weights and activations."""
    return [module for module in net.modules() if isinstance(module, LsqQuantizer)]


def _batch(setting: Setting) -> Tensor:
    [(batch, _)] = images(setting).batches(setting.batch)
    return batch


class TorchFakeQuantize(nn.Module):
    """The grid of a quantizer, by torch.fake_quantize_per_channel_affine and …_per_tensor_affine."""

    def __init__(self, quantizer: LsqQuantizer) -> None:
        super().__init__()
        self.low, self.high = -quantizer.qn, quantizer.qp
        step = quantizer.safe_step().detach()
        self.per_channel = step.ndim > 0
        self.register_buffer("scale", step.flatten())
        self.register_buffer("zero", torch.zeros(step.numel(), dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        if self.per_channel:
            return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero, 0, self.low, self.high)
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, self.low, self.high)
