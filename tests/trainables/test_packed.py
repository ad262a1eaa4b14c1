import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load, save

from tests.trainables.factories import make_architecture, make_model, make_quantized
from trainables.config import MODELS, Architecture, ModelConfig, QuantScheme
from trainables.errors import CorruptFile, Diverged
from trainables.export.packed import DTYPES, Header, PackedModel, pack, size_breakdown, unpack
from trainables.models.model import Model, build
from trainables.models.units import units
from trainables.prune.channels import plan_channels, prune_channels
from trainables.quant.attach import activation_quantizers, attach_quantizers_
from trainables.quant.fold import folded, round_side_info_

FAMILIES = sorted(MODELS.names())


def packed(name: str = "mobilenet_v2", seed: int = 0, **bits: int) -> tuple[Model, bytes]:
    """A rounded network and its file."""
    model = make_quantized(name, seed, **bits)
    round_side_info_(model)
    header = Header(architecture=make_architecture(name), scheme=QuantScheme(**bits), mean=(0.5,), std=(0.3,))
    return model, pack(model, header)


@pytest.fixture(scope="module")
def content() -> bytes:
    return packed(w_bits=3, a_bits=4)[1]


def parts(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The specification and the tensors of a file."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["tune_app"]), load(content)


def forged(spec: dict[str, Any], tensors: dict[str, np.ndarray]) -> bytes:
    """A file with a right checksum, whatever it says."""
    body = {k: v for k, v in spec.items() if k != "sha256"}
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode())
    for name in DTYPES:
        digest.update(tensors[name].tobytes())
    return save(tensors, metadata={"tune_app": json.dumps({**body, "sha256": digest.hexdigest()})})


def same(a: PackedModel, b: PackedModel) -> bool:
    """Whether two files describe the same network."""
    arrays = ("codes", "multipliers", "biases", "references")
    equal = all(np.array_equal(x, y) for n in arrays for x, y in zip(getattr(a, n), getattr(b, n), strict=True))
    return a.header == b.header and equal and np.array_equal(a.steps, b.steps)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("w_bits", range(2, 9))
def test_the_decoded_network_is_the_folded_one_bit_for_bit(name: str, w_bits: int) -> None:
    model, file = packed(name, seed=w_bits, w_bits=w_bits, a_bits=10 - w_bits, edge_bits=w_bits)
    x = torch.randn(16, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(unpack(file).network()(x), folded(model)(x))


def test_a_pruned_network_goes_through_the_file() -> None:
    parent = make_model()
    model, architecture = prune_channels(parent, make_architecture(), plan_channels(parent, 0.5))
    scheme = QuantScheme(w_bits=4)
    attach_quantizers_(model, scheme)
    round_side_info_(model.eval())
    file = pack(model, Header(architecture=architecture, scheme=scheme, mean=(0.5,), std=(0.3,)))
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(unpack(file).network()(x), folded(model)(x))
    assert unpack(file).header.architecture == architecture


def test_codes_are_the_quantizers_and_use_its_range() -> None:
    model, file = packed(w_bits=4)
    for unit, codes in zip(units(model).values(), unpack(file).codes, strict=True):
        assert np.array_equal(codes, unit.weight_point.quantizer.codes(unit.layer.weight).numpy())
    steps = [q.safe_step().item() for q in activation_quantizers(model).values()]
    assert unpack(file).steps.tolist() == steps


def test_packing_is_in_evaluation_mode_and_leaves_the_model_alone() -> None:
    model, file = packed()
    assert not unpack(file).network().training
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pack(model, unpack(file).header)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_channels_last_network_packs_to_the_same_bytes() -> None:
    model, file = packed()
    assert pack(model.to(memory_format=torch.channels_last), unpack(file).header) == file


def test_packing_is_deterministic(content: bytes) -> None:
    assert packed(w_bits=3, a_bits=4)[1] == content


def test_a_fresh_process_packs_the_same_bytes_and_decodes_the_same_network(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.mbq").write_bytes(content)
    program = (
        "import sys, hashlib, torch; from pathlib import Path; torch.set_num_threads(1)\n"
        "from tests.trainables.test_packed import packed; from trainables.export.packed import unpack\n"
        "net = unpack(Path(sys.argv[1]).read_bytes()).network()\n"
        "logits = net(torch.linspace(-1, 1, 128).view(2, 1, 8, 8)).detach().numpy().tobytes()\n"
        "print(hashlib.sha256(packed(w_bits=3, a_bits=4)[1]).hexdigest(), hashlib.sha256(logits).hexdigest())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "model.mbq")]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    logits = unpack(content).network()(torch.linspace(-1, 1, 128).view(2, 1, 8, 8)).detach().numpy().tobytes()
    assert found.stdout.split() == [hashlib.sha256(content).hexdigest(), hashlib.sha256(logits).hexdigest()]


def test_breakdown_sums_to_the_length(content: bytes) -> None:
    breakdown = size_breakdown(content)
    assert sum(breakdown.values()) == len(content)
    assert set(breakdown) == {*DTYPES, "header"}
    layers = units(unpack(content).network())
    weights = [(u.layer.weight.numel(), 8 if u.role in {"first_conv", "classifier"} else 3) for u in layers.values()]
    assert breakdown["codes"] == sum(-(-count * bits // 8) for count, bits in weights)
    channels = sum(u.layer.weight.shape[0] for u in layers.values())
    assert (breakdown["multipliers"], breakdown["biases"]) == (2 * channels, 2 * channels)
    assert breakdown["references"] == 4 * len(layers)


def test_the_overhead_of_a_full_network_is_small() -> None:
    torch.manual_seed(0)
    widths = {f"blocks.{i}": 100 + i for i in range(1, 17)}
    architecture = Architecture(model=ModelConfig(), classes=100, channels=3, image_size=32, widths=widths)
    model = build(architecture)
    scheme = QuantScheme(w_bits=4, a_bits=4)
    attach_quantizers_(model, scheme)
    header = Header(architecture=architecture, scheme=scheme, mean=(0.1234567, 0.2, 0.3), std=(0.1, 0.2, 0.3))
    file = pack(model, header)
    assert size_breakdown(file)["header"] < 2048
    assert len(load(file)) == 5


def test_side_information_that_is_not_finite_is_a_divergence() -> None:
    model, file = packed()
    with torch.no_grad():
        model.stem.bn.weight[0] = float("nan")
    with pytest.raises(Diverged):
        pack(model, unpack(file).header)


def test_truncated_files_are_corrupt(content: bytes) -> None:
    offsets = {*range(0, 2400, 7), *range(2400, len(content), 997), len(content) - 1}
    for offset in sorted(o for o in offsets if o < len(content)):
        with pytest.raises(CorruptFile):
            unpack(content[:offset])
        with pytest.raises(CorruptFile):
            size_breakdown(content[:offset])


def test_a_longer_file_is_corrupt(content: bytes) -> None:
    with pytest.raises(CorruptFile):
        unpack(content + b"\0")


def flips(content: bytes) -> list[int]:
    """Every byte of the length and a part of all others; each region of the file is met."""
    header = 8 + struct.unpack("<Q", content[:8])[0]
    return [
        *range(16),
        *range(16, header, 3),
        *range(header, len(content), 401),
        *range(len(content) - 5, len(content)),
    ]


@pytest.mark.parametrize("bit", [0, 3, 5, 7])
def test_no_flipped_bit_passes_for_another_network(content: bytes, bit: int) -> None:
    original, survivors = unpack(content), 0
    for place in flips(content):
        altered = bytearray(content)
        altered[place] ^= 1 << bit
        try:
            found = unpack(bytes(altered))
        except CorruptFile:
            continue
        survivors += 1  # such as another spelling of the same number
        assert same(found, original), place
    assert survivors < 3


@pytest.mark.parametrize("value", [0, 255])
def test_no_overwritten_run_passes(content: bytes, value: int) -> None:
    for place in range(0, len(content) - 64, max(64, len(content) // 60)):
        altered = content[:place] + bytes([value]) * 64 + content[place + 64 :]
        if altered != content:
            with pytest.raises(CorruptFile):
                unpack(altered)


FOREIGN = {
    "empty": b"",
    "short": b"\x01\x02",
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "safetensors": save({"weight": np.zeros(3, np.float32)}),
    "safetensors with our key": save({"weight": np.zeros(3)}, metadata={"tune_app": "{}"}),
    "our key holds a list": save({"weight": np.zeros(3)}, metadata={"tune_app": "[1]"}),
    "our key holds no JSON": save({"weight": np.zeros(3)}, metadata={"tune_app": "{"}),
    "our key is nested deep": save({"weight": np.zeros(3)}, metadata={"tune_app": "[" * 100_000}),
    "overlong header": struct.pack("<Q", 1 << 62) + b"{}",
    "header is a list": struct.pack("<Q", 2) + b"[]",
    "header is not text": struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_corrupt(name: str) -> None:
    for read in (unpack, size_breakdown):
        with pytest.raises(CorruptFile) as caught:
            read(FOREIGN[name])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("field", "value"), [("version", 2), ("version", "1"), ("version", None), ("format", "zip")])
def test_another_version_is_named(content: bytes, field: str, value: object) -> None:
    spec, tensors = parts(content)
    with pytest.raises(CorruptFile, match=f"packed file: format .* version .*{value}|{value}.*version"):
        unpack(forged({**spec, field: value}, tensors))


def test_a_forged_file_with_a_right_checksum_is_read(content: bytes) -> None:
    assert forged(*parts(content)) == content


FORGERIES: dict[str, dict[str, Any]] = {
    "unknown model": {"architecture": {"model": {"name": "alexnet"}, "classes": 10, "channels": 1, "image_size": 8}},
    "no architecture": {"architecture": None},
    "unknown field": {"author": "somebody"},
    "unknown observer": {"scheme": {"observer": "magic"}},
    "bits": {"scheme": {"w_bits": 9}},
    "mean": {"mean": ["x"]},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_header_is_corrupt(content: bytes, name: str) -> None:
    spec, tensors = parts(content)
    with pytest.raises(CorruptFile):
        unpack(forged({**spec, **FORGERIES[name]}, tensors))


@pytest.mark.parametrize("widths", [{"blocks.1": 10**12}, {"blocks.1": 3}, {"blocks.0": 8}, {"nothing": 8}])
def test_forged_widths_are_corrupt_and_take_no_memory(content: bytes, widths: dict[str, int]) -> None:
    spec, tensors = parts(content)
    with pytest.raises(CorruptFile):
        unpack(forged({**spec, "architecture": {**spec["architecture"], "widths": widths}}, tensors))


@pytest.mark.parametrize("name", DTYPES)
def test_forged_tensors_are_corrupt(content: bytes, name: str) -> None:
    spec, tensors = parts(content)
    for wrong in (tensors[name][:-1], tensors[name][None], np.concatenate([tensors[name], tensors[name][:1]])):
        with pytest.raises(CorruptFile, match=f"{name} has shape"):
            unpack(forged(spec, {**tensors, name: wrong}))
    with pytest.raises(CorruptFile, match="other tensors"):
        unpack(forged(spec, {**tensors, name: tensors[name].astype(np.int32)}))
    with pytest.raises(CorruptFile, match="other tensors"):
        unpack(forged(spec, {**tensors, "more": tensors[name]}))
    if tensors[name].dtype.kind == "f":
        broken = tensors[name].copy()
        broken[-1] = np.nan
        with pytest.raises(CorruptFile, match=f"{name} holds NaN"):
            unpack(forged(spec, {**tensors, name: broken}))


def test_a_code_outside_the_range_is_corrupt() -> None:
    _, file = packed(w_bits=8)
    spec, tensors = parts(file)
    tensors["codes"][0] = 255
    with pytest.raises(CorruptFile, match="±127"):
        unpack(forged(spec, tensors))
