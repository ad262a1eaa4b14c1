"""Any torch network, unmodified: captured, pruned, trained, packed, exported, counted."""

import copy
import logging
import math
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.trainables.graph.networks import NETWORKS, Attentive, Counting, Demanding, Dense, ResNet, Shared, Tied
from trainables.config import Architecture, ModelConfig, QuantScheme
from trainables.errors import ConfigError, CorruptFile
from trainables.export import container
from trainables.export.header import Header
from trainables.export.packed import pack, size_breakdown, unpack
from trainables.graph.capture import capture
from trainables.graph.network_file import NetworkFile, network_bytes, parse_network
from trainables.graph.trace import trace
from trainables.models.importing import capture_network, captured_network
from trainables.models.mobilenet_v2 import MobileNetV2
from trainables.models.model import build
from trainables.models.unit_state import own_model, unit_state
from trainables.models.units import units
from trainables.models.vgg import VGG16
from trainables.network_check import check_network, random_images
from trainables.prune.channels import prune_channels
from trainables.quant.calibrate import calibrate_
from trainables.quant.fold import folded, round_side_info_

WHOLE_NETWORKS = True


def randomise_(module: nn.Module) -> None:
    """Random norms, so that a scale, a mean or an epsilon that is lost is seen."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 1.5)


@pytest.fixture(scope="module", params=list(NETWORKS))
def case(request: pytest.FixtureRequest) -> tuple[nn.Module, NetworkFile]:
    make, size = NETWORKS[request.param]
    torch.manual_seed(0)
    module = make()
    randomise_(module)
    return module, captured_network(module, (3, size, size))


def test_outputs_are_the_modules_for_any_number_of_images(case: tuple[nn.Module, NetworkFile]) -> None:
    module, network = case
    model, architecture = own_model(network)
    for count in (1, 2, 7):
        images = torch.randn(count, 3, architecture.image_size, architecture.image_size)
        torch.testing.assert_close(model.eval()(images), module.eval()(images), rtol=1e-5, atol=1e-6)


def test_everything_that_a_search_does_works(case: tuple[nn.Module, NetworkFile]) -> None:
    _, network = case
    results = list(check_network(network))
    assert [r.name for r in results] == ["pruning", "training", "quantized", "packed file", "ONNX file", "operations"]
    assert not [r for r in results if not r.holds]


def test_a_file_of_a_network_gives_it_back(case: tuple[nn.Module, NetworkFile]) -> None:
    _, network = case
    content = network_bytes(network)
    found = parse_network(content, source="a file")
    assert found.graph == network.graph
    assert found.state.keys() == network.state.keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in network.state.items())
    assert network_bytes(found) == content


def test_a_network_learns_as_its_module_does(case: tuple[nn.Module, NetworkFile]) -> None:
    """Batch norm is live in training: logits, statistics and gradients are the module's."""
    module, network = case
    mine, theirs = own_model(network)[0].train(), copy.deepcopy(module).train()
    for part in [*mine.modules(), *theirs.modules()]:
        if isinstance(part, nn.Dropout | nn.Dropout2d):
            part.p = 0.0
    images = torch.randn(6, 3, *network.graph.image[1:])
    torch.testing.assert_close(mine(images), theirs(images), rtol=1e-4, atol=1e-5)
    mine(images).square().sum().backward()
    theirs(images).square().sum().backward()
    sums = [sum(float(p.grad.abs().sum()) for p in net.parameters() if p.grad is not None) for net in (mine, theirs)]
    assert sums[0] == pytest.approx(sums[1], rel=1e-3)


class Computed(nn.Module):
    """A convolution, a function of its output that gives 8 values an image, and a linear layer."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 10)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self.stem(x)))


def attended(x: Tensor, mask: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    return F.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=mask).mean(1)


CAUSAL = torch.ones(64, 64).tril().bool()
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "no upper end": lambda x: torch.clamp(x, 0, math.inf).mean((2, 3)),
    "no lower end": lambda x: F.hardtanh(x, -math.inf, 0.5).mean((2, 3)),
    "no ends": lambda x: torch.clamp(x, -math.inf, math.inf).mean((2, 3)),
    "a mask of infinities": lambda x: attended(x, torch.zeros(64, 64).masked_fill(~CAUSAL, -math.inf)),
    "a mask of truth values": lambda x: attended(x, CAUSAL),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_infinite_numbers_in_a_network_are_no_obstacle(name: str) -> None:
    torch.manual_seed(0)
    network = captured_network(Computed(FUNCTIONS[name]), (3, 8, 8))
    assert [result for result in check_network(network) if not result.holds] == []


class Normed(nn.Linear):
    """A linear layer that holds another layer and two norms, one of which has the name of a part of our units."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.bn, self.down, self.last = nn.BatchNorm1d(inputs), nn.Linear(inputs, outputs), nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x)
        return self.last(torch.relu(super().forward(x)) + self.down(x))


def test_layers_inside_of_layers_keep_apart() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Normed(8, 10), Normed(10, 10))
    network = captured_network(module, (3, 8, 8))
    assert [result for result in check_network(network) if not result.holds] == []
    names = {node.name for node in network.graph.nodes}
    assert not [name for name in names if any(other.startswith(f"{name}.") for other in names)]


class Shifted(nn.Module):
    """A convolution whose activation makes something of zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sigmoid(self.second(torch.sigmoid(self.first(x)))).mean((2, 3)))


def test_activations_that_make_something_of_zero_are_pruned_all_the_same() -> None:
    torch.manual_seed(0)
    results = {result.name: result for result in check_network(captured_network(Shifted(), (3, 8, 8)))}
    assert results["pruning"].holds, results["pruning"].seen


def test_layers_that_take_their_sizes_from_images_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["from torch import nn", "def net():", "    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(),"]
    (tmp_path / "lazy_nets.py").write_text("\n".join([*lines, "        nn.LazyLinear(10))"]))
    monkeypatch.chdir(tmp_path)
    network = capture_network("lazy_nets:net", {}, (3, 8, 8))
    assert (10, 4 * 6 * 6) in {tuple(tensor.shape) for tensor in network.state.values()}
    with pytest.raises(ConfigError, match=r"cannot be run on images of 3x2x2: .*Name the size that it takes"):
        capture_network("lazy_nets:net", {}, (3, 2, 2))


def test_a_batch_of_one_keeps_its_dimension() -> None:
    module = Computed(lambda x: F.adaptive_avg_pool2d(x, 1).squeeze())
    with pytest.raises(ConfigError, match=r"for a single image the module returns the shape \(10,\), not \(1, 10\)"):
        captured_network(module, (3, 8, 8))


class Halved(nn.Dropout):
    """A dropout of another class."""

    def __init__(self, share: float) -> None:
        super().__init__(p=share / 2)


class Dropping(nn.Module):
    """Drops values and whole channels, by layers and by functions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Dropout2d(0.1), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.head = nn.Sequential(nn.Linear(8, 8), Halved(0.8), nn.ReLU(), nn.Linear(8, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout2d(torch.relu(self.stem(x)), 0.2, training=self.training).mean((2, 3))
        return self.head(F.dropout(x, p=0.3, training=self.training))


def test_every_dropout_is_captured_and_drops_in_training() -> None:
    torch.manual_seed(0)
    network = captured_network(Dropping(), (3, 8, 8))
    found = [(n.operator, n.attributes["p"]) for n in network.graph.nodes if "dropout" in n.operator]
    channel, element = "channel_dropout", "dropout"
    assert found == [(channel, 0.1), (channel, 0.2), (element, 0.3), (element, 0.4)]
    assert not [result for result in check_network(network) if not result.holds]
    model, images = own_model(network)[0], torch.randn(2, 3, 8, 8)
    assert not torch.equal(model.train()(images), model(images))
    assert torch.equal(model.eval()(images), model(images))


def test_dropout_of_evaluation_mode_is_refused() -> None:
    class Always(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(12, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.dropout(x.flatten(1), 0.5))

    with pytest.raises(ConfigError, match="dropout"):
        captured_network(Always(), (3, 2, 2))
    assert F.dropout.__module__ == "torch.nn.functional"


def test_cumulative_statistics_go_on_from_their_count() -> None:
    """A norm without momentum averages over all batches that it has seen; one of 0 never learns."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.ReLU(), nn.BatchNorm2d(4, momentum=0.0)
    module = nn.Sequential(*layers, nn.Flatten(), nn.BatchNorm1d(144, momentum=None), nn.Linear(144, 10))
    batches = torch.randn(5, 6, 3, 8, 8)
    for batch in batches[:3]:
        module.train()(batch)
    network = captured_network(module, (3, 8, 8))
    network = parse_network(network_bytes(network), source="a file")
    momenta = [node.attributes["momentum"] for node in network.graph.nodes if node.operator == "batch_norm"]
    assert momenta == [None, 0.0, None]
    model, _ = own_model(network)
    for batch in batches[3:]:
        module.train()(batch)
        model.train()(batch)
    theirs, ours = ([v for n, v in net.state_dict().items() if "running" in n] for net in (module, model))
    assert len(ours) == 6
    torch.testing.assert_close(ours, theirs)
    assert [int(v) for n, v in model.state_dict().items() if "batches" in n] == [5, 2, 5]


def test_a_module_may_ask_how_many_images_there_are() -> None:
    torch.manual_seed(0)
    module = Counting()
    model, _ = own_model(captured_network(module, (3, 16, 16)))
    for count in (1, 5):
        images = torch.randn(count, 3, 16, 16)
        torch.testing.assert_close(model(images), module(images))


def test_maps_are_resized_to_sizes_whose_ratio_is_rounded() -> None:
    class Resized(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self[0](nn.functional.interpolate(x, size=(15, 15), mode="bilinear")).mean((2, 3))

    assert 11 * (15 / 11) != 15
    network = captured_network(Resized(nn.Conv2d(3, 10, 1)), (3, 11, 11))
    assert network.graph.nodes[0].attributes["size"] == (15, 15)


def test_a_layer_that_is_called_twice_has_a_copy_for_each_place() -> None:
    torch.manual_seed(0)
    module = Shared()
    network = captured_network(module, (3, 16, 16))
    assert network.about["copies"] == ["conv"]
    assert [node.name for node in network.graph.nodes if node.operator == "conv2d"] == ["conv", "conv_2"]
    assert torch.equal(network.state["conv.weight"], network.state["conv_2.weight"])


def test_a_weight_that_is_read_by_itself_lies_beside_its_layer() -> None:
    torch.manual_seed(0)
    network = captured_network(Tied(), (3, 16, 16))
    assert [node.name for node in network.graph.nodes if node.operator == "parameter"] == ["fc_weight"]
    assert not [result for result in check_network(network) if not result.holds]


@pytest.mark.parametrize(
    ("family", "config"),
    [
        (MobileNetV2, ModelConfig(width=0.25, dropout=0.1)),
        (VGG16, ModelConfig(name="vgg16", width=0.1, head=(20, 30), dropout=0.3)),
    ],
)
def test_families_are_captured_as_they_are_traced(family: type[nn.Module], config: ModelConfig) -> None:
    module = family(Architecture(model=config, classes=10, channels=3, image_size=32))
    assert capture(module, (3, 32, 32)).graph == trace(module, (3, 32, 32))


def test_pruning_twice_is_pruning_once() -> None:
    torch.manual_seed(0)
    module = ResNet()
    randomise_(module)
    model, architecture = own_model(captured_network(module, (3, 16, 16)))
    counts = {group.name: group.channels for group in model.prune_groups()}
    first = {name: list(range(0, count, 2)) for name, count in counts.items()}
    second = {name: list(range(1, len(kept))) for name, kept in first.items()}
    both = {name: first[name][1:] for name in counts}
    once, narrow_once = prune_channels(model, architecture, both)
    half, narrow_half = prune_channels(model, architecture, first)
    twice, narrow_twice = prune_channels(half, narrow_half, second)
    assert narrow_once == narrow_twice
    images = torch.randn(3, 3, 16, 16)
    assert torch.equal(once.eval()(images), twice.eval()(images))


def test_a_pruned_network_is_packed_and_decoded(case: tuple[nn.Module, NetworkFile]) -> None:
    """Also where channels are known by their place, as in shortcuts with channels of zeros."""
    model, architecture = own_model(case[1])
    draw = random.Random(0)
    plan = {g.name: sorted(draw.sample(range(g.channels), max(1, g.channels // 2))) for g in model.prune_groups()}
    narrow, architecture = prune_channels(model, architecture, plan)
    images = random_images(architecture)
    scheme = QuantScheme(w_bits=4, a_bits=8)
    calibrate_(narrow, scheme, images, 0)
    round_side_info_(narrow.eval())
    content = pack(narrow, Header(architecture=architecture, scheme=scheme, mean=(0.5,) * 3, std=(0.5,) * 3))
    packed = unpack(content)
    assert packed.header.architecture == architecture
    batch, _ = next(images.batches(8))
    assert torch.equal(packed.network()(batch), folded(narrow)(batch))
    assert sum(size_breakdown(content).values()) == len(content)


def test_channels_by_place_are_kept_in_the_file() -> None:
    """Channels of zeros lie before and after those of the shortcut: how many are left of each is no count of all."""
    model, architecture = own_model(captured_network(ResNet(), (3, 16, 16)))
    plan = {group.name: list(range(3, group.channels)) for group in model.prune_groups()}
    _, narrow = prune_channels(model, architecture, plan)
    assert narrow.kept
    for spoiled in ((0, 0), (5, 4), (0, 10**6), (0,)):
        with pytest.raises(ValueError, match="keeps other channels than it has"):
            build(narrow.model_copy(update={"kept": dict.fromkeys(narrow.kept, spoiled)}))


def test_a_version_and_its_graph_belong_together() -> None:
    model, architecture = own_model(captured_network(ResNet(), (3, 16, 16)))
    scheme = QuantScheme(w_bits=4, a_bits=8)
    calibrate_(model, scheme, random_images(architecture), 0)
    round_side_info_(model.eval())
    content = pack(model, Header(architecture=architecture, scheme=scheme, mean=(0.5,) * 3, std=(0.5,) * 3))
    spec, arrays = container.read(content)
    assert container.has_graph(content)
    with pytest.raises(CorruptFile, match="a graph belongs to the version that has one"):
        unpack(container.write(spec, arrays))
    arrays.pop("graph")
    with pytest.raises(CorruptFile):
        unpack(container.write(spec, arrays, version=container.WITH_GRAPH))


def test_forged_graphs_are_read_or_refused() -> None:
    """A file whose graph was altered, and sealed again, gives a network or one clear error."""
    model, architecture = own_model(captured_network(NETWORKS["squeezed"][0](), (3, 16, 16)))
    scheme = QuantScheme(w_bits=4, a_bits=8)
    calibrate_(model, scheme, random_images(architecture), 0)
    round_side_info_(model.eval())
    content = pack(model, Header(architecture=architecture, scheme=scheme, mean=(0.5,) * 3, std=(0.5,) * 3))
    spec, arrays = container.read(content)
    plain = zlib.decompress(arrays["graph"].tobytes())
    draw, refused = random.Random(2), 0
    for _ in range(150):
        altered = bytearray(plain)
        for _ in range(draw.randint(1, 2)):
            altered[draw.randrange(len(altered))] = draw.choice(b"0123456789-.,:[]{}")
        forged = {**arrays, "graph": np.frombuffer(zlib.compress(bytes(altered)), np.uint8)}
        try:
            unpack(container.write(spec, forged, version=container.WITH_GRAPH)).network()
        except CorruptFile:
            refused += 1
    assert refused > 100


def test_streams_are_groups_too_and_are_known_as_such() -> None:
    model, _ = own_model(captured_network(ResNet(), (3, 16, 16)))
    groups = {group.name: group for group in model.prune_groups()}
    assert [name for name, group in groups.items() if group.inner] == ["layer1.0", "layer2.0", "layer3.0"]
    stream = groups["conv1"]
    assert {part.node for part in stream.sources} == {"conv1", "layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv2"}
    assert stream.channels == 16
    assert sum(group.channels for group in groups.values() if not group.inner) == 64


def test_what_cannot_be_followed_stays() -> None:
    model, _ = own_model(captured_network(Attentive(), (3, 16, 16)))
    assert [(group.name, group.channels) for group in model.prune_groups()] == [("mlp.0", 48)]


def test_layers_have_their_groups() -> None:
    model, _ = own_model(captured_network(NETWORKS["squeezed"][0](), (3, 16, 16)))
    roles = {name: unit.role for name, unit in units(model).items()}
    assert roles == {
        "stem": "first_conv",
        "expand": "expansion",
        "depthwise": "depthwise",
        "gate.1": "conv",
        "gate.3": "conv",
        "project": "projection",
        "head.1": "head",
        "head.3": "classifier",
    }


def test_constants_are_computed_once() -> None:
    class Standardized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weight = self.conv.weight
            weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)
            return self.fc(nn.functional.conv2d(x, weight).mean((2, 3)))

    network = captured_network(Standardized(), (3, 8, 8))
    assert [node.operator for node in network.graph.nodes] == ["conv2d", "mean", "linear"]


@pytest.mark.parametrize(
    ("network", "arguments", "image", "says"),
    [
        ("resnet", {}, 16, "network must be module:callable"),
        ("tests.nowhere:ResNet", {}, 16, "network tests.nowhere:ResNet is not there: No module named"),
        ("tests.trainables.graph.networks:Nothing", {}, 16, "has no attribute 'Nothing'"),
        ("tests.trainables.graph.networks:ResNet", {"depth": 3}, 16, "cannot be made with {'depth': 3}: TypeError"),
        ("tests.trainables.graph.networks:number", {}, 16, "makes a int, not a torch module"),
        ("tests.trainables.graph.networks:TwoOutputs", {}, 16, "returns one tensor of logits"),
        ("tests.trainables.graph.networks:OneLogit", {}, 16, "has one output: give it one for each class"),
        ("tests.trainables.graph.networks:Relative", {}, 16, "depends on the other images of a batch"),
        ("tests.trainables.graph.networks:Branching", {}, 16, "torch.export cannot follow Branching"),
        ("tests.trainables.graph.networks:Sorting", {}, 16, "the operator sort is not supported"),
        (
            "tests.trainables.graph.networks:Demanding",
            {},
            16,
            "torch.export cannot follow Demanding on images of 3x16x16",
        ),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(
    network: str, arguments: dict[str, object], image: int, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        capture_network(network, arguments, (3, image, image))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["tuple", "list", "dict"])
def test_logits_may_come_in_a_container(kind: str) -> None:
    network = capture_network("tests.trainables.graph.networks:Wrapped", {"kind": kind}, (3, 8, 8))
    assert own_model(network)[1].classes == 10


def test_a_checkpoint_of_a_deeper_network_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "deep.pt"
    torch.save(ResNet(blocks=2).state_dict(), file)
    with pytest.raises(ConfigError, match=r"36 are unexpected \(first: layer1.1.conv1.weight\)"):
        capture_network("tests.trainables.graph.networks:ResNet", {}, (3, 16, 16), checkpoint=file)


def test_a_checkpoint_says_what_it_is(tmp_path: Path) -> None:
    module, file = ResNet(), tmp_path / "trained.pt"
    torch.save({"state_dict": {f"module.{n}": t for n, t in module.state_dict().items()}, "best_prec1": 91.5}, file)
    found = capture_network("tests.trainables.graph.networks:ResNet", {}, (3, 16, 16), checkpoint=file)
    assert found.about["matched"] == len(module.state_dict())
    assert found.about["reported"] == {"best_prec1": 91.5}
    model, _ = own_model(found)
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model.eval()(images), module.eval()(images))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda m: m.last.running_var.fill_(-1), "last.running_var holds negative variances"),
        (lambda m: m.stem.weight.data.fill_(torch.nan), "stem.weight holds NaN or infinite values"),
        (lambda m: setattr(m, "stem", m.stem.to("meta")), "stem.weight is a meta tensor"),
        (
            lambda m: __import__("torch.nn.utils.prune").nn.utils.prune.l1_unstructured(m.stem, "weight", 0.5),
            "is a mask of torch.nn.utils.prune",
        ),
    ],
)
def test_weights_that_make_no_sense_are_refused(spoil: object, says: str) -> None:
    module = Dense()
    spoil(module)
    with pytest.raises(ConfigError, match=says):
        captured_network(module, (3, 16, 16))


def test_a_network_that_answers_by_chance_is_refused() -> None:
    class Noisy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)) / x.numel()  # by the number of images

    with pytest.raises(ConfigError):
        captured_network(Noisy(), (3, 16, 16))


def test_tensors_of_units_are_those_of_the_network() -> None:
    network = captured_network(Demanding(), (3, 32, 32))
    model = build(own_model(network)[1])
    assert set(unit_state(network)) == set(model.state_dict())


def test_torch_writes_no_traceback_of_a_network_for_larger_images() -> None:
    told: list[logging.LogRecord] = []
    log, handler = logging.getLogger("torch._subclasses.fake_tensor"), logging.Handler()
    handler.emit = told.append  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        with pytest.raises(ConfigError, match="Output size is too small"):
            captured_network(nn.Sequential(nn.MaxPool2d(3), nn.Flatten()), (1, 2, 2))
    finally:
        log.removeHandler(handler)
    assert told == []
