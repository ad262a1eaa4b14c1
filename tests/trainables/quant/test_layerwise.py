"""Layer by layer: means come back, weights lie on their grid, and outputs come nearer to the float network's."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.trainables.factories import captured, make_architecture, make_images, make_model, randomise_
from trainables.config import Architecture, ModelConfig, QuantScheme
from trainables.data.images import Images, ImageSet
from trainables.errors import Diverged
from trainables.models.attach import weight_quantizer
from trainables.models.model import Model, build
from trainables.models.units import ConvUnit, LinearUnit, norm_of, quant_points, units
from trainables.quant import layerwise
from trainables.quant.calibrate import calibrate_
from trainables.quant.layerwise import fit_layers_
from trainables.train import moments
from trainables.train.batch_norm import reestimate_batch_norm_

LOW = QuantScheme(w_bits=3, a_bits=4)


def settled(name: str, images: Images) -> Model:
    """A network whose batch norm knows the images, so that values keep their size."""
    model = make_model(name)
    for unit in units(model).values():
        if (norm := norm_of(unit)) is not None:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    reestimate_batch_norm_(model, images.batches(64))
    return model


def mean_outputs(model: Model, images: Images) -> dict[str, Tensor]:
    """The mean of each channel before its activation, by unit."""
    found: dict[str, Tensor] = {}

    def note(name: str, out: Tensor) -> None:
        found[name] = out.mean(dim=(0, 2, 3) if out.ndim == 4 else 0)

    handles = [
        unit.bn.register_forward_hook(lambda _m, _x, out, n=name: note(n, out))
        if isinstance(unit, ConvUnit)
        else unit.activation.register_forward_pre_hook(lambda _m, x, n=name: note(n, x[0]))
        for name, unit in units(model).items()
    ]
    with torch.no_grad():
        model.eval()(next(images.batches(len(images)))[0])
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("gptq", [False, True])
@pytest.mark.parametrize(
    "architecture",
    [
        make_architecture("mobilenet_v2"),
        make_architecture("vgg16"),
        make_architecture(model=ModelConfig(name="vgg16", width=0.05, head=(24, 16))),
    ],
    ids=["mobilenet_v2", "vgg16", "hidden layers"],
)
def test_mean_outputs_come_back(architecture: Architecture, gptq: bool) -> None:
    torch.manual_seed(0)
    model, images = build(architecture), make_images(64)
    randomise_(model)
    wanted = mean_outputs(model, images)
    calibrate_(model, LOW, images, 0)
    shifted = mean_outputs(model, images)
    assert any(float((shifted[n] - wanted[n]).abs().max()) > 0.05 for n in wanted)
    fit_layers_(model, images, gptq=gptq, bias=True)
    corrected = mean_outputs(model, images)
    for unit, mean in wanted.items():
        torch.testing.assert_close(corrected[unit], mean, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_weights_lie_on_their_grid_and_zeros_stay(granularity: str) -> None:
    images = make_images(64)
    model = settled("mobilenet_v2", images)
    for unit in units(model).values():
        with torch.no_grad():
            unit.layer.weight[unit.layer.weight.abs() < unit.layer.weight.abs().median()] = 0
    before = {name: unit.layer.weight.clone() for name, unit in units(model).items()}
    calibrate_(model, QuantScheme.model_validate({**LOW.model_dump(), "granularity": granularity}), images, 0)
    fit_layers_(model, images, gptq=True, bias=False)
    moved = []
    for name, unit in units(model).items():
        weight, quantizer = unit.layer.weight.detach(), weight_quantizer(unit)
        torch.testing.assert_close(quantizer(weight), weight, rtol=1e-5, atol=1e-7)
        assert not weight[before[name] == 0].any()
        moved.append(not torch.equal(weight, quantizer(before[name])))
    assert sum(moved) > len(moved) / 2


def test_outputs_come_nearer_to_the_float_network() -> None:
    images, others = make_images(256), make_images(64, seed=1)
    model = settled("vgg16", images)
    batch, _ = next(others.batches(64))
    wanted = model(batch).detach()
    calibrate_(model, LOW, images, 0)
    errors = []
    for gptq in (False, True):
        fitted = deepcopy(model)
        fit_layers_(fitted, images, gptq=gptq, bias=True)
        errors.append(float((fitted(batch).detach() - wanted).square().mean()))
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("norms_follow", [False, True])
def test_without_corrected_biases_the_mean_of_an_error_counts(norms_follow: bool) -> None:
    """Positive inputs make a shift of all rounding errors that point one way; nothing else takes it back."""
    torch.manual_seed(0)
    model = captured(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))[0].eval()
    pixels = make_images(128).pixels
    images = Images(ImageSet(pixels.numpy(), np.zeros(128, np.int64)), (0.0,), (1.0,), torch.device("cpu"))
    batch, _ = next(images.batches(128))
    wanted = model(batch).detach()
    calibrate_(model, QuantScheme(w_bits=3, edge_bits=3), images, 0)
    errors = {}
    for gptq in (False, True):
        fitted = deepcopy(model)
        fit_layers_(fitted, images, gptq=gptq, bias=False, norms_follow=norms_follow)
        errors[gptq] = float((fitted(batch).detach() - wanted).mean(0).square().mean())
    assert errors[True] < 0.1 * errors[False]


def test_a_network_that_is_right_stays_as_it_is() -> None:
    model, images = make_model(), make_images(64)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    fit_layers_(model, images, gptq=True, bias=True)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=1e-5)


def test_points_of_sums_and_inputs_of_linear_layers_are_quantized_on_the_way() -> None:
    """In the pass each unit meets the inputs that it meets later on."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.fc = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.one(x))
            return self.fc((x + self.two(x)).mean((2, 3)))

    torch.manual_seed(0)
    model, images = captured(Block())[0], make_images(16)
    calibrate_(model, QuantScheme(w_bits=2, a_bits=2, residual_bits=2, edge_bits=2), images, 0)
    assert sum(not point.weight for point in quant_points(model).values()) >= 3
    met: dict[str, Tensor] = {}
    with torch.no_grad():
        layerwise._pass(model, images, lambda name, _unit, _twin, _of_twin, inputs: met.update({name: inputs}))
        seen: dict[str, Tensor] = {}
        for name, unit in units(model).items():
            place = unit.in_point if isinstance(unit, LinearUnit) else unit
            place.register_forward_hook(
                lambda _m, args, out, n=name, of=unit: seen.update({n: out if isinstance(of, LinearUnit) else args[0]})
            )
        model(next(images.batches(16))[0])
    assert met.keys() == seen.keys()
    for name, inputs in met.items():
        torch.testing.assert_close(inputs, seen[name])


def test_large_activations_mean_fewer_images(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = make_model(), make_images(64)
    calibrate_(model, LOW, images, 0)
    seen: list[int] = []
    model.stem.register_forward_pre_hook(lambda _m, args: seen.append(len(args[0])))
    fit_layers_(deepcopy(model), images, gptq=True, bias=True)
    monkeypatch.setattr(moments, "VALUES", 50_000)
    fit_layers_(model, images, gptq=True, bias=True)
    assert max(seen) == 128
    assert 2 <= seen[-1] < 100


def test_many_inputs_are_rounded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = make_images(64)
    model = settled("vgg16", images)
    calibrate_(model, LOW, images, 0)
    monkeypatch.setattr(layerwise, "COLUMNS", 10)
    fit_layers_(model, images, gptq=True, bias=False)
    for unit in units(model).values():
        weight = unit.layer.weight.detach()
        torch.testing.assert_close(weight_quantizer(unit)(weight), weight, rtol=1e-5, atol=1e-7)


def test_inputs_that_are_not_finite_are_refused_by_layer() -> None:
    model, images = make_model(), make_images(16)
    calibrate_(model, LOW, images, 0)
    second = list(units(model))[1]
    with torch.no_grad():
        model.stem.layer.weight[0] = float("nan")
    with pytest.raises(Diverged, match=f"inputs of {second} are not finite"):
        fit_layers_(model, images, gptq=True, bias=True)


@pytest.mark.parametrize("bias", [False, True])
def test_inputs_whose_products_are_not_finite_are_refused_by_layer(bias: bool) -> None:
    model, images = captured(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10)))[0].eval(), make_images(16)
    with torch.no_grad():
        for unit, factor in zip(units(model).values(), (1e20, 1e-20), strict=True):
            unit.layer.weight.mul_(factor)
    assert torch.isfinite(model(next(images.batches(16))[0])).all()
    calibrate_(model, LOW, images, 0)
    with pytest.raises(Diverged, match="products of the inputs of 2 are not finite"):
        fit_layers_(model, images, gptq=True, bias=bias)


def test_quantizers_of_the_network_are_left_in_place() -> None:
    model, images = make_model(), make_images(16)
    calibrate_(model, LOW, images, 0)
    steps = {n: t for n, t in model.state_dict().items() if n.endswith("quantizer.step")}
    fit_layers_(model, images, gptq=True, bias=True)
    after = model.state_dict()
    assert steps
    assert all(torch.equal(after[name], step) for name, step in steps.items())
