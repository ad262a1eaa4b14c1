import functools
import hashlib
import json
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from tests.trainables.factories import make_architecture, make_images, make_model, of_graph, randomise_
from trainables.config import MODELS, Architecture, ModelConfig, QuantScheme
from trainables.data.images import Images
from trainables.errors import ArtifactMismatch, ConfigError, CorruptFile
from trainables.export.onnx import check as onnx_check
from trainables.export.onnx.activations import Grid, Value
from trainables.export.onnx.check import check_onnx, onnx_accuracy, onnx_logits, open_session, write_and_check
from trainables.export.onnx.graph import write_float_onnx, write_onnx
from trainables.export.onnx.nodes import Nodes
from trainables.export.onnx.steps import ON_CODES, emit
from trainables.export.onnx.weights import LayerWeights, integer_form
from trainables.export.onnx.writer import Writer
from trainables.export.packed import Header, pack, unpack
from trainables.graph.graph import IMAGE, Graph, Node
from trainables.models.fusing import QUANTIZE, UNIT
from trainables.models.model import Model, build
from trainables.models.units import ConvUnit, QuantPoint, quant_points, units
from trainables.quant.calibrate import calibrate_
from trainables.quant.fold import round_side_info_
from trainables.train.batch_norm import reestimate_batch_norm_

FAMILIES = sorted(MODELS.names())
SCHEMES: dict[str, dict[str, Any]] = {
    "w8 a8": {"w_bits": 8, "a_bits": 8},
    "w7 a6": {"w_bits": 7, "a_bits": 6},
    "w5 a4": {"w_bits": 5, "a_bits": 4},
    "w4 a8": {"w_bits": 4, "a_bits": 8},
    "w3 a3": {"w_bits": 3, "a_bits": 3, "residual_bits": 3},
    "w4 a3, block inputs too": {"w_bits": 4, "a_bits": 3, "narrow_block_inputs": True},
    "w4 a4 in a float stream": {"w_bits": 4, "a_bits": 4, "residual_bits": 32, "narrow_block_inputs": True},
    "w2 a8": {"w_bits": 2, "a_bits": 8},
    "w2 a2": {"w_bits": 2, "a_bits": 2, "edge_bits": 2},
    "w4 a8, one step per tensor": {"w_bits": 4, "a_bits": 8, "granularity": "tensor"},
    "w4 a8, side information of 8 bits": {"w_bits": 4, "a_bits": 8, "side_bits": 8},
    "w12 a8": {"w_bits": 12, "a_bits": 8},
    "w32 a8": {"w_bits": 32, "a_bits": 8, "edge_bits": 32},
    "edges of 32 bits": {"w_bits": 4, "a_bits": 8, "edge_bits": 32},
    "groups": {"w_bits": 4, "a_bits": 8, "w_bits_by_group": {"depthwise": 8}, "a_bits_by_group": {"expansion": 32}},
}
NARROW_STEPS: dict[str, dict[str, Any]] = {
    "w8 a32": {"w_bits": 8, "a_bits": 32, "a_bits_by_group": {"classifier": 32}},
    "w2 a32": {"w_bits": 2, "a_bits": 32, "a_bits_by_group": {"classifier": 32}},
    "w16 a16": {"w_bits": 16, "a_bits": 16, "a_bits_by_group": {"classifier": 16}},
    "w32 a32": {"w_bits": 32, "a_bits": 32, "edge_bits": 32},
}
"""With 16 or 32 bits everywhere, a value on the other side of a rounding border hardly moves a logit."""


ON_MAPS: dict[str, dict[str, Any]] = {
    "max_pool": {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "ceil": False},
    "pad": {"before": (0, 0, 1, 0), "after": (0, 0, 0, 2), "value": 0.0},
    "reshape": {"shape": (-1, 4, 16, 4)},
    "permute": {"order": (0, 1, 3, 2)},
    "slice": {"dim": 2, "start": 1, "end": 7},
    "roll": {"shifts": (2,), "dims": (3,)},
    "dropout": {"p": 0.1},
    "channel_dropout": {"p": 0.1},
}
"""Attributes of operators that read codes, on maps (4, 8, 8)."""


def make_packed(name: str = "mobilenet_v2", seed: int = 0, **scheme: Any) -> bytes:
    """The packed file of a random network."""
    return packed_file(name, seed, QuantScheme(**scheme).model_dump_json())


@functools.cache
def packed_file(name: str, seed: int, scheme_json: str) -> bytes:
    return pack_live(make_architecture(name), QuantScheme.model_validate_json(scheme_json), seed)


def pack_live(architecture: Architecture, scheme: QuantScheme, seed: int = 0) -> bytes:
    """The packed file of a live network with calibrated quantizers."""
    model = live_network(architecture, seed)
    calibrate_(model, scheme, make_images(64, size=architecture.image_size, seed=seed), seed)
    round_side_info_(model, side_bits=scheme.side_bits)
    return pack(model, Header(architecture=architecture, scheme=scheme, mean=(0.5,), std=(0.3,)))


def live_network(architecture: Architecture, seed: int = 0) -> Model:
    """A random network whose logits depend on the image: statistics of batch norm are those of its inputs."""
    torch.manual_seed(seed)
    model = build(architecture)
    randomise_(model, seed)
    reestimate_batch_norm_(model, make_images(128, size=architecture.image_size, seed=seed).batches(128))
    return model.eval()


def optimized_operators(content: bytes, path: str) -> list[str]:
    """The operators that onnxruntime makes of a file."""
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = path, 3
    ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(path).graph.node]


def logits_of(network: nn.Module, images: Images) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = network(images.normalized(images.pixels)).numpy()
    return found


def runtime_logits(content: bytes, images: Images) -> np.ndarray:
    return onnx_logits(open_session(content), images.pixels.numpy())


def distances(content: bytes, network: nn.Module, images: Images) -> np.ndarray:
    """By image: the largest difference of a logit, in units of what logits differ from image to image."""
    wanted, found = logits_of(network, images), runtime_logits(content, images)
    spread = wanted.std(axis=0).mean()
    assert spread > 0.01 * wanted.std(), "the network does not look at the image"
    off: np.ndarray = np.abs(found - wanted).max(axis=1) / spread
    return off


def assert_same_function(content: bytes, network: nn.Module, images: Images) -> None:
    """Equal logits, but for a few images where a sum in another order crossed a rounding border somewhere."""
    off = distances(content, network, images)
    assert np.mean(off < 1e-3) > 0.8, np.sort(off)


def initializers(content: bytes) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in onnx.load_from_string(content).graph.initializer}


def with_outputs(content: bytes, names: dict[str, int]) -> onnx.ModelProto:
    """The file with further outputs of these element types."""
    model = onnx.load_from_string(content)
    model.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name, kind in names.items())
    return model


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_file_computes_what_the_packed_file_computes(name: str, scheme: str) -> None:
    packed = make_packed(name, **SCHEMES[scheme])
    content = write_onnx(packed)
    onnx.checker.check_model(content, full_check=True)
    assert_same_function(content, unpack(packed).network(), make_images(64, seed=1))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_file_takes_images_of_the_packed_files_height_and_width(name: str) -> None:
    packed = pack_live(make_architecture(name, image_size=(8, 16)), QuantScheme())
    content = write_onnx(packed)
    shape = onnx.load_from_string(content).graph.input[0].type.tensor_type.shape
    assert [side.dim_value for side in shape.dim][1:] == [1, 8, 16]
    assert_same_function(content, unpack(packed).network(), make_images(64, size=(8, 16), seed=1))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scheme", NARROW_STEPS)
def test_with_wide_activations_logits_agree_for_every_image(name: str, scheme: str) -> None:
    packed = make_packed(name, **NARROW_STEPS[scheme])
    off = distances(write_onnx(packed), unpack(packed).network(), make_images(64, seed=1))
    assert off.max() < (0.2 if "a16" in scheme else 1e-3)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scheme", ["w8 a8", "w5 a4", "w4 a8", "w2 a8", "w2 a2"])
def test_a_network_with_whole_biases_runs_on_integers(name: str, scheme: str, tmp_path: Any) -> None:
    file = make_packed(name, **SCHEMES[scheme])
    content, network = write_onnx(file), unpack(file).network()
    onnx.checker.check_model(content, full_check=True)
    assert_same_function(content, network, make_images(64, seed=1))
    convolutions = [u for u in units(network).values() if isinstance(u, ConvUnit)]
    between_codes = [u for u in convolutions[1:] if isinstance(u.out_point, QuantPoint)]
    found = optimized_operators(content, str(tmp_path / "optimized.onnx"))
    assert found.count("QLinearConv") >= len(between_codes) > 0


@pytest.mark.parametrize("w_bits", [2, 4, 8])
def test_hidden_linear_layers_have_their_activation_and_integer_kernels(w_bits: int, tmp_path: Any) -> None:
    model, images = ModelConfig(name="vgg16", width=0.05, head=(24, 16)), make_images(64, seed=1)
    packed = pack_live(make_architecture("vgg16", model=model), QuantScheme(w_bits=w_bits))
    content = write_onnx(packed)
    assert [node.op_type for node in onnx.load_from_string(content).graph.node].count("Relu") == 2
    assert_same_function(content, unpack(packed).network(), images)
    content, network = write_onnx(packed), unpack(packed).network()
    assert_same_function(content, network, images)
    assert optimized_operators(content, str(tmp_path / "optimized.onnx")).count("QGemm") == 2


@pytest.mark.parametrize("saturate", [False, True])
@pytest.mark.parametrize("w_bits", [2, 4, 5, 8])
def test_exact_kernels_for_processors_without_vnni_compute_the_same(
    w_bits: int, saturate: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_packed("vgg16", w_bits=w_bits)
    content, network = write_onnx(file), unpack(file).network()
    monkeypatch.setattr(onnx_check, "products_saturate", lambda: saturate)
    assert_same_function(content, network, make_images(64, seed=1))


def test_float_files_are_the_network_with_batch_norm_folded() -> None:
    images = make_images(32)
    for name in FAMILIES:
        model = live_network(make_architecture(name))
        content = write_float_onnx(model, make_architecture(name), mean=(0.5,), std=(0.3,))
        onnx.checker.check_model(content, full_check=True)
        assert distances(content, model, images).max() < 1e-3


def test_images_are_normalized_to_the_last_bit() -> None:
    images = make_images(16)
    model = with_outputs(write_onnx(make_packed()), {"image": TensorProto.FLOAT})
    [found] = open_session(model.SerializeToString()).run(["image"], {"pixels": images.pixels.numpy()})
    assert np.array_equal(found, images.normalized(images.pixels).numpy())


def test_any_number_of_images_may_be_given_at_once() -> None:
    session, pixels = open_session(write_onnx(make_packed(a_bits=32))), make_images(5).pixels.numpy()
    each = np.concatenate([onnx_logits(session, pixels[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(onnx_logits(session, pixels), each, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("a_bits", [2, 4, 7, 8])
def test_activations_use_the_codes_of_their_bits_and_no_others(a_bits: int) -> None:
    content = write_onnx(make_packed(a_bits=a_bits, residual_bits=a_bits))
    sums = [f"blocks.{i}.out_point.q.clip" for i in range(4)]
    others = [f"blocks.{i}.depthwise.{'q' if a_bits == 8 else 'q.clip'}" for i in range(4)]
    model = with_outputs(content, dict.fromkeys([*sums, *others], TensorProto.UINT8))
    found = open_session(model.SerializeToString()).run([*sums, *others], {"pixels": make_images(64).pixels.numpy()})
    signed, unsigned = np.concatenate([f.ravel() for f in found[:4]]), np.concatenate([f.ravel() for f in found[4:]])
    half = 2 ** (a_bits - 1) - 1
    assert (signed.min(), signed.max()) == (128 - half, 128 + half)
    assert (unsigned.min(), unsigned.max()) == (0, 2**a_bits - 1)


@pytest.mark.parametrize(
    ("w_bits", "kind", "opset", "ir_version"),
    [
        (2, TensorProto.INT2, 25, 13),
        (3, TensorProto.INT4, 21, 10),
        (4, TensorProto.INT4, 21, 10),
        (5, TensorProto.INT8, 21, 10),
        (8, TensorProto.INT8, 21, 10),
        (12, TensorProto.INT16, 21, 10),
        (16, TensorProto.INT16, 21, 10),
        (32, TensorProto.FLOAT, 21, 10),
    ],
)
def test_weights_have_the_narrowest_type_and_the_oldest_opset_that_knows_it(
    w_bits: int, kind: int, opset: int, ir_version: int
) -> None:
    packed = make_packed(w_bits=w_bits)
    content = write_onnx(packed)
    model, weights = onnx.load_from_string(content), initializers(content)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", opset)]
    assert model.ir_version == ir_version
    for layer in unpack(packed).layers:
        tensor = weights[f"{layer.name}.weight"]
        assert tensor.data_type == (TensorProto.INT8 if layer.name in {"stem", "classifier"} else kind)
        width = {TensorProto.INT2: 2, TensorProto.INT4: 4, TensorProto.INT8: 8, TensorProto.INT16: 16}
        assert len(tensor.raw_data) == -(-layer.count * width.get(tensor.data_type, 32) // 8)
        assert tuple(tensor.dims) == layer.shape


@pytest.mark.parametrize("w_bits", [2, 3, 5, 8])
def test_stored_codes_times_scales_are_the_packed_weights(w_bits: int) -> None:
    file = make_packed(w_bits=w_bits)
    packed = unpack(file)
    constants = {name: numpy_helper.to_array(tensor) for name, tensor in initializers(write_onnx(file)).items()}
    for i, layer in enumerate(packed.layers):
        channels = (-1, *[1] * (len(layer.shape) - 1))
        stored, scale = (constants[f"{layer.name}.{part}"].astype(np.float32) for part in ("weight", "scale"))
        widened = scale.shape == layer.shape[:1] and layer.bits < 5  # by a node of the graph
        gain = 2 ** (7 - layer.bits) if widened else 1
        wanted = packed.codes[i] * packed.scales(i)[0].reshape(channels)
        np.testing.assert_array_equal(stored * gain * scale.reshape(channels), wanted)


def test_fewer_bits_make_smaller_files() -> None:
    sizes = {bits: len(write_onnx(make_packed("vgg16", w_bits=bits))) for bits in (2, 4, 8, 16, 32)}
    layers = unpack(make_packed("vgg16")).layers
    weights = sum(layer.count for layer in layers if layer.name not in {"features.0", "classifier"})
    for narrow, wide in ((2, 4), (4, 8), (8, 16), (16, 32)):
        saved = weights * (wide - narrow) / 8
        assert sizes[wide] - sizes[narrow] == pytest.approx(saved, rel=0.1)  # scales differ too


def test_the_metadata_names_the_packed_file() -> None:
    packed = make_packed(w_bits=4)
    [entry] = onnx.load_from_string(write_onnx(packed)).metadata_props
    found = json.loads(entry.value)
    assert (entry.key, found["version"]) == ("tune_app", 1)
    assert found["packed_sha256"] == hashlib.sha256(packed).hexdigest()
    assert Header.model_validate(found["packed_header"]) == unpack(packed).header


def test_equal_packed_files_give_equal_bytes() -> None:
    assert write_onnx(make_packed()) == write_onnx(make_packed())
    assert write_onnx(make_packed(seed=1)) != write_onnx(make_packed())


def test_a_damaged_packed_file_is_refused() -> None:
    with pytest.raises(CorruptFile):
        write_onnx(make_packed()[:-1])


def test_an_activation_function_without_onnx_form_is_refused() -> None:
    model = make_model()
    unit = units(model)["stem"]
    assert isinstance(unit, ConvUnit)
    unit.activation = nn.Hardswish()
    with pytest.raises(ConfigError, match=r"not written for the operator Hardswish: leave measure\.onnx off"):
        write_float_onnx(model, make_architecture(), mean=(0.5,), std=(0.3,))


def test_an_operator_without_onnx_form_is_refused() -> None:
    node = Node("turned", "of_a_plug_in", (IMAGE,), {})
    with pytest.raises(ConfigError, match=r"not written for the operator of_a_plug_in: leave measure\.onnx off"):
        emit(node, [Value("image")], Writer(Nodes(), make_model(), {}))


@pytest.mark.parametrize("a_bits", [4, 8, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("operator", ON_CODES)
def test_operators_on_codes_compute_what_the_packed_file_computes(operator: str, signed: bool, a_bits: int) -> None:
    conv = {"bias": True, "groups": 1, "stride": (1, 1), "dilation": (1, 1), "padding": (1, 1)}
    nodes = (
        Node("one", "conv2d", (IMAGE,), {"weight": (4, 1, 3, 3), **conv}),
        Node("act", "leaky_relu", ("one",), {"slope": 0.5}) if signed else Node("act", "relu", ("one",)),
        Node("op", operator, ("act",), ON_MAPS[operator]),
        Node("two", "conv2d", ("op",), {"weight": (8, 4, 3, 3), **conv}),
        Node("mean", "mean", ("two",), {"dims": (2, 3), "keep": False}),
        Node("fc", "linear", ("mean",), {"weight": (10, 8), "bias": True}),
    )
    torch.manual_seed(0)
    model, architecture = of_graph(Graph((1, 8, 8), nodes, "fc"))
    scheme, images = QuantScheme(a_bits=a_bits, a_bits_by_group={"classifier": 16}), make_images(50)
    calibrate_(model, scheme, images, 0)
    round_side_info_(model.eval())
    content = pack(model, Header(architecture=architecture, scheme=scheme, mean=(0.5,), std=(0.3,)))
    assert_same_function(write_onnx(content), unpack(content).network(), images)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_graph_names_every_unit_and_every_point_once_in_forward_order(name: str) -> None:
    model = make_model(name)
    nodes = model.graph().nodes
    assert [node.name for node in nodes if node.operator == UNIT] == list(units(model))
    inside = [f"{unit}." for unit in units(model)]
    outside = [point for point in quant_points(model) if not point.startswith(tuple(inside))]
    assert [node.name for node in nodes if node.operator == QUANTIZE] == outside


def codes_on(step: float) -> Value:
    return Value("x", Grid("q", np.float32(step), np.array(0, np.uint8)))


@given(
    codes=st.lists(st.integers(-7, 7), min_size=6, max_size=6),
    biases=st.lists(st.integers(-(2**20), 2**20), min_size=3, max_size=3),
    scales=st.lists(st.floats(2**-20, 1.0, width=32), min_size=3, max_size=3),
    signs=st.lists(st.sampled_from([-1, 0, 1]), min_size=3, max_size=3),
    step=st.floats(2**-12, 8.0, width=32),
)
def test_whole_biases_have_an_integer_form_of_the_same_function(
    codes: list[int], biases: list[int], scales: list[float], signs: list[int], step: float
) -> None:
    values, scale = np.array(codes, np.int8).reshape(3, 2), np.float32(scales) * np.float32(signs)
    unit = np.where(scale == 0, 0.123, np.abs(scale).astype(np.float64) * step / 8)
    bias = (np.array(biases) * unit).astype(np.float32)
    form = integer_form(LayerWeights(values, scale, bias, bits=4), codes_on(step))
    assert form is not None
    assert form.gain == 8
    assert (form.scale > 0).all()
    np.testing.assert_array_equal(form.codes * form.gain * form.scale[:, None], values * scale[:, None])
    unit = np.float64(step) * form.scale
    accumulated = np.rint(bias / unit)
    assert np.abs(accumulated).max() <= 2**20 + 1
    np.testing.assert_allclose(accumulated * unit, bias, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("weights", "x"),
    [
        ({"bias": 10.5}, codes_on(0.5)),
        ({"bias": 10.0, "bits": 12}, codes_on(0.5)),
        ({"bias": 10.0, "bits": 32}, codes_on(0.5)),
        ({"bias": 2.0**30}, codes_on(0.5)),
        ({"bias": 10.0}, Value("x")),
        ({"bias": 10.0}, Value("x", Grid("q", np.float32(0.5), np.array(0, np.uint16)))),
    ],
)
def test_other_layers_have_no_integer_form(weights: dict[str, Any], x: Value) -> None:
    def layer(bias: float, bits: int = 4) -> LayerWeights:
        unit = 0.5 * 0.25 / 8
        return LayerWeights(np.ones((1, 2), np.int8), np.float32([0.25]), np.float32([bias * unit]), bits)

    assert integer_form(layer(10.0), codes_on(0.5)) is not None
    assert integer_form(layer(**weights), x) is None


def labeled(images: Images, labels: np.ndarray) -> Images:
    """The same images with other labels."""
    images.labels = torch.from_numpy(labels)
    return images


def decided(packed: bytes, count: int, *, right: float = 1.0) -> Images:
    """Images of which the packed network gets a share right."""
    images = make_images(count, seed=2)
    labels = logits_of(unpack(packed).network(), images).argmax(1)
    wrong = np.arange(count) >= round(count * right)
    return labeled(images, np.where(wrong, (labels + 1) % 10, labels))


def test_the_accuracy_is_that_of_the_packed_file() -> None:
    packed = make_packed()
    images = decided(packed, 600, right=0.75)
    result = write_and_check(packed, images, 0.75)
    assert result.accuracy == pytest.approx(0.75, abs=2 / 600)
    assert (result.content, result.size_bytes) == (write_onnx(packed), len(write_onnx(packed)))
    assert onnx_accuracy(result.content, images) == result.accuracy


def test_the_file_of_another_network_is_refused() -> None:
    packed = make_packed()
    images = decided(packed, 100)
    assert check_onnx(write_onnx(packed), images, 1.0) >= 0.99
    with pytest.raises(ArtifactMismatch, match=r"accuracy 0\.\d+, the packed file 1\.0000; on 100 images .* 0\.0100"):
        check_onnx(write_onnx(make_packed(seed=1)), images, 1.0)


@pytest.mark.parametrize(
    ("count", "wrong", "passes"), [(100, 1, True), (100, 2, False), (4000, 4, True), (4000, 5, False)]
)
def test_a_tenth_of_a_point_may_differ_or_one_image(count: int, wrong: int, passes: bool) -> None:
    content = write_onnx(make_packed(a_bits=32))
    images = make_images(count)
    predicted = runtime_logits(content, images).argmax(1)
    labeled(images, np.where(np.arange(count) < wrong, (predicted + 1) % 10, predicted))
    if passes:
        assert check_onnx(content, images, 1.0) == 1 - wrong / count
    else:
        with pytest.raises(ArtifactMismatch):
            check_onnx(content, images, 1.0)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"<!DOCTYPE html>"])
def test_what_onnxruntime_refuses_is_no_artifact(content: bytes) -> None:
    with pytest.raises(ArtifactMismatch, match="onnxruntime refuses") as caught:
        open_session(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", [{"activation_ranges": "dynamic"}, {"a_bits": 1, "residual_bits": 1}])
def test_activations_without_a_form_are_refused(scheme: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"activations with dynamic ranges or of one signed bit: use model\.mbq"):
        write_onnx(make_packed(**scheme))


def test_signs_of_weights_have_a_form() -> None:
    packed = make_packed(w_bits=1)
    assert_same_function(write_onnx(packed), unpack(packed).network(), make_images(64))
