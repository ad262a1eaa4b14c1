"""Hidden linear layers before a VGG16's classifier, through everything that is done to a network."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from tests.trainables.factories import digits, make_architecture, make_images, plain_module, randomise_
from trainables.config import Architecture, ModelConfig, QuantScheme, TrialConfig
from trainables.costs.counts import count
from trainables.export.packed import Header, pack, unpack
from trainables.models.model import Model, build
from trainables.models.units import LinearUnit, count_parameters, units
from trainables.pipeline import run_pipeline
from trainables.prune.channels import prune_channels
from trainables.prune.importance import bn_taylor
from trainables.quant.calibrate import calibrate_
from trainables.quant.fold import folded, round_side_info_
from trainables.stages.workplace import open_workplace

HEAD = (24, 16)
LINEAR = ["head.0", "head.1", "classifier"]


def make_headed(**changes: object) -> Architecture:
    model = ModelConfig.model_validate({"name": "vgg16", "width": 0.05, "head": HEAD, **changes})
    return make_architecture("vgg16", model=model)


def make_network(seed: int = 0) -> Model:
    """Random weights, batch norm and biases, in eval mode."""
    torch.manual_seed(seed)
    model = build(make_headed())
    randomise_(model, seed)
    return model.eval()


def test_the_original_head_has_its_parameters() -> None:
    full = ModelConfig(name="vgg16", head=(4096, 4096))
    with torch.device("meta"):
        model = build(Architecture(model=full, classes=10, channels=3, image_size=32))
    assert count_parameters(model) == 33_646_666
    assert sum(units(model)[name].layer.weight.numel() for name in LINEAR) == 18_915_328
    assert [name for name, unit in units(model).items() if isinstance(unit, LinearUnit)] == LINEAR


def test_only_networks_with_hidden_layers_take_their_widths() -> None:
    with pytest.raises(ValidationError, match="mobilenet_v2 has no hidden linear layers: leave head out, or choose"):
        ModelConfig(head=(10,))
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        ModelConfig(name="vgg16", head=(0,))
    assert ModelConfig().head == ()


def test_hidden_layers_are_linear_layers_with_relu_and_dropout() -> None:
    model, x = make_network(), torch.randn(5, 1, 8, 8)
    y = plain_module(model, make_headed()).features(x).mean(dim=(2, 3))
    *hidden, classifier = (units(model)[name].layer for name in LINEAR)
    for layer in hidden:
        y = torch.relu(layer(y))
    assert torch.allclose(model(x), classifier(y))
    lossy = build(make_headed(dropout=0.9)).train()
    seen: list[torch.Tensor] = []
    for name in LINEAR:
        units(lossy)[name].register_forward_pre_hook(lambda _unit, args: seen.append(args[0]))
    lossy.features.eval()
    lossy(torch.rand(200, 1, 8, 8))
    assert len(seen) == 3
    assert all(float((values == 0).float().mean()) > 0.85 for values in seen)


def test_hidden_weights_are_as_large_as_their_inputs_need() -> None:
    model = build(make_headed(head=(512, 512)))
    assert float(units(model)["head.1"].layer.weight.detach().std()) == pytest.approx((2 / 512) ** 0.5, rel=0.05)
    assert float(model.classifier.layer.weight.detach().std()) == pytest.approx(0.01, rel=0.1)


def test_every_layer_but_the_classifier_can_lose_outputs() -> None:
    model = make_network()
    chain = list(units(model))
    found = [[tuple(part.node for part in side) for side in (g.sources, g.sinks)] for g in model.prune_groups()]
    assert found == [[(source,), (sink,)] for source, sink in pairwise(chain)]
    assert [g.name for g in model.prune_groups()] == chain[:-1]
    assert chain[-3:] == LINEAR
    assert all(g.inner and not g.optional for g in model.prune_groups())


def test_removing_dead_neurons_leaves_the_function() -> None:
    model, images = make_network(), torch.randn(6, 1, 8, 8)
    kept = {"head.0": list(range(0, 24, 2)), "head.1": [0, 3, 15]}
    with torch.no_grad():
        for name, left in kept.items():
            layer = units(model)[name].layer
            dead = [c for c in range(len(layer.weight)) if c not in left]
            layer.weight[dead], layer.bias[dead] = 0, 0
    pruned, narrow = prune_channels(model, make_headed(), kept)
    assert narrow.widths == {"head.0": 12, "head.1": 3}
    assert [units(pruned)[name].layer.weight.shape[1] for name in LINEAR[1:]] == [12, 3]
    assert torch.allclose(pruned.eval()(images), model(images), atol=1e-5)


def test_taylor_importance_is_the_squared_gradient_of_a_gate_on_the_weights() -> None:
    model, images = make_network(), make_images(48)
    groups = [g for g in model.prune_groups() if g.source.startswith("head")]
    batches = list(images.batches(16))
    expected = {g.name: torch.zeros(len(units(model)[g.source].layer.weight)) for g in groups}
    for pixels, labels in batches:
        gates = {name: torch.ones(len(score), requires_grad=True) for name, score in expected.items()}
        y = plain_module(model, make_headed()).features(pixels).mean(dim=(2, 3))
        for name in gates:
            layer = units(model)[name].layer
            y = torch.relu(F.linear(y, layer.weight * gates[name][:, None], layer.bias))
        F.cross_entropy(model.classifier(y), labels).backward()
        for name, gate in gates.items():
            expected[name] += gate.grad.square() / len(batches)
    model.zero_grad()
    found = bn_taylor.score(model, groups, batches=batches, seed=0)
    for name, scores in expected.items():
        torch.testing.assert_close(found[name], scores, rtol=1e-4, atol=1e-9)


def test_hidden_layers_have_the_bits_of_the_head() -> None:
    model = make_network()
    scheme = QuantScheme(w_bits=3, a_bits=4, edge_bits=8, w_bits_by_group={"final_conv": 5})
    calibrate_(model, scheme, make_images(), 0)
    layers = [units(model)[name] for name in LINEAR]
    assert [unit.weight_point.quantizer.bits for unit in layers] == [5, 5, 8]
    assert [unit.in_point.quantizer.bits for unit in layers] == [4, 4, 8]


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("side_bits", [8, 16, 32])
@pytest.mark.parametrize("bits", [2, 8, 32])
def test_a_packed_head_decodes_to_the_network(bits: int, side_bits: int, granularity: str) -> None:
    model, images = make_network(), make_images(40)
    scheme = QuantScheme.model_validate(
        {"w_bits": bits, "a_bits": bits, "side_bits": side_bits, "granularity": granularity}
    )
    calibrate_(model, scheme, images, 0)
    round_side_info_(model, side_bits=side_bits)
    batch = images.normalized(images.pixels)
    network = unpack(pack(model, Header(architecture=make_headed(), scheme=scheme, mean=(0.5,), std=(0.3,)))).network()
    with torch.no_grad():
        decoded, live = network(batch), model(batch)
        assert torch.equal(decoded, folded(model, side_bits=side_bits)(batch))
    if bits == 32:  # folding may move a quantized activation by a step
        torch.testing.assert_close(decoded, live, rtol=1e-3, atol=1e-3)


def test_hidden_layers_are_counted() -> None:
    model = make_network()
    calibrate_(model, QuantScheme(w_bits=3, a_bits=4, edge_bits=8), make_images(), 0)
    layers = count(model, make_headed()).layers
    inputs = units(model)["head.0"].layer.weight.shape[1]
    assert [layers[name].macs for name in LINEAR] == [inputs * 24, 24 * 16, 16 * 10]
    assert [(layers[name].w_bits, layers[name].a_bits) for name in LINEAR] == [(3, 4), (3, 4), (8, 8)]


def test_a_headed_network_goes_through_the_pipeline(tmp_path: Path) -> None:
    schedule = {"epochs": 2, "lr": 0.02, "batch_size": 32}
    trial = TrialConfig.model_validate(
        {
            "data": {"image_size": 8, "augment": {"crop_padding": 0}},
            "baseline": {
                "kind": "train",
                "model": {"name": "vgg16", "width": 0.1, "head": [48, 32]},
                "schedule": {**schedule, "epochs": 4},
            },
            "prune": {
                "prune_frac": 0.3, "scope": "global", "min_channels": 4, "importance": "bn_taylor", "round_to": 1,
                "fine_tune": schedule,
            },
            "sparsify": {"sparsity": 0.5, "min_density": 0, "schedule": {**schedule, "epochs": 1}},
            "quantize": {"kind": "qat", "scheme": {"w_bits": 4}, "schedule": {**schedule, "lr": 0.002}},
        }
    )  # fmt: skip
    workplace = open_workplace(digits(), tmp_path / "stages", cpu=1, gpu=0)
    found = run_pipeline(trial, workplace, tmp_path / "model.mbq")
    assert found.measurement.accuracy > 0.6
    assert {"head.0", "head.1"} <= found.architecture.widths.keys()
    assert 0.25 < found.measurement.prune_frac_achieved < 0.35
    assert found.measurement.sparsity_achieved > 0.4
