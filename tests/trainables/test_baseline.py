import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save as save_safetensors

from tests.trainables.factories import SMALL, digits, few_digits, make_architecture, make_context, make_model
from trainables.config import BaselineImport, BaselineTrain, BaselineUntrained, ModelConfig, Schedule, file_sha256
from trainables.errors import ConfigError
from trainables.models.checkpoint_file import fit, read_checkpoint
from trainables.models.model import build
from trainables.stages.stage import run_stage
from trainables.train.loop import evaluate

MODEL = ModelConfig(width=SMALL["mobilenet_v2"])


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return make_model(seed=4).state_dict()


def torch_bytes(value: object, **options: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


FORMS: dict[str, Callable[[dict[str, torch.Tensor]], bytes]] = {
    "a.safetensors": save_safetensors,
    "a.pt": torch_bytes,
    "legacy.pth": lambda s: torch_bytes(s, _use_new_zipfile_serialization=False),
    "wrapped.pt": lambda s: torch_bytes({"state_dict": s, "epoch": 3}),
    "model.pt": lambda s: torch_bytes({"model": s}),
    "state.pt": lambda s: torch_bytes({"model_state_dict": s, "epoch": 3}),
    "net.pt": lambda s: torch_bytes({"net": s, "acc": 91.2}),
    "compiled.pt": lambda s: torch_bytes({f"_orig_mod.module.{n}": t for n, t in s.items()}),
    "parallel.pt": lambda s: torch_bytes({f"module.{n}": t for n, t in s.items()}),
    "half.pt": lambda s: torch_bytes({n: t.double() if t.is_floating_point() else t for n, t in s.items()}),
    "no counters.pt": lambda s: torch_bytes({n: t for n, t in s.items() if "num_batches" not in n}),
}


@pytest.mark.parametrize("name", FORMS)
def test_weights_of_a_checkpoint_are_taken(name: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[name](state))
    config = BaselineImport(kind="import", model=MODEL, checkpoint=str(path), sha256=file_sha256(path))
    context = make_context(few_digits())
    result = run_stage(config, context)
    assert result.architecture == make_architecture()
    assert all(torch.equal(t, result.state[n]) for n, t in state.items() if "num_batches" not in n)
    assert result.metrics == {"val_accuracy": evaluate(make_model(seed=4), context.val)}


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self.path,))


def zip_of_nothing() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return stream.getvalue()


OVERLONG = struct.pack("<Q", 1 << 60) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' + bytes(4)
HEADER = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}'
OVERLAPPING = struct.pack("<Q", len(HEADER)) + HEADER + bytes(6)
HTML = b"<!DOCTYPE html>\n<html><body>Sign in to download</body></html>"
UNREADABLE = {
    "empty.pt": b"",
    "empty.safetensors": b"",
    "html.pt": HTML,
    "html.safetensors": HTML,
    "overlong.safetensors": OVERLONG,
    "overlapping.safetensors": OVERLAPPING,
    "truncated.pt": torch_bytes({"a": torch.zeros(1000)})[:-300],
    "truncated.safetensors": save_safetensors({"a": torch.zeros(1000)})[:-300],
    "module.pt": torch_bytes(torch.nn.Linear(2, 2)),
    "legacy module.pt": torch_bytes(torch.nn.Linear(2, 2), _use_new_zipfile_serialization=False),
    "plain pickle.pt": pickle.dumps({"a": [1, 2]}),
    "another zip.pt": zip_of_nothing(),
    "a tensor.pt": torch_bytes(torch.zeros(3)),
    "numbers.pt": torch_bytes({"a": 1}),
    "nothing.pt": torch_bytes(None),
    "random.pt": bytes(range(256)) * 8,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(UNREADABLE[name])
    with pytest.raises(ConfigError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "torch.save(model.state_dict(), path)" in message
    assert "\n" not in message
    assert len(message) < 600


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_code_in_a_checkpoint_does_not_run(legacy: bool, wrapped: bool, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    bomb = {"state_dict": Bomb(trap)} if wrapped else Bomb(trap)
    path = tmp_path / "bomb.pt"
    path.write_bytes(torch_bytes(bomb, _use_new_zipfile_serialization=not legacy))
    with pytest.raises(ConfigError, match="no file of plain weights"):
        read_checkpoint(path)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Bomb(trap)))
    assert trap.exists(), "the trap works"


@pytest.mark.parametrize("name", ["missing.pt", "folder", "file/below.pt", "nul\0.pt", "x" * 300])
def test_a_path_that_cannot_be_read_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for read in (read_checkpoint, file_sha256):
        with pytest.raises(ConfigError, match=r"cannot read .* Give the path of a checkpoint file\."):
            read(tmp_path / name)


def changed(state: dict[str, torch.Tensor], name: str, tensor: torch.Tensor | None) -> dict[str, torch.Tensor]:
    kept = {n: t for n, t in state.items() if n != name}
    return kept if tensor is None else {**kept, name: tensor}


NAME = "blocks.3.project.layer.weight"


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        (NAME, None, rf"1 tensors are missing \(first: {NAME}\); compare base.baseline.model"),
        ("extra.weight", torch.zeros(1), r"1 are unexpected \(first: extra.weight\)"),
        (NAME, torch.zeros(3, 4), rf"{NAME} has shape \(3, 4\), but the model needs \(8, 48, 1, 1\)"),
        (NAME, torch.full((8, 48, 1, 1), float("nan")), f"{NAME} holds NaN or infinite values"),
        ("stem.bn.running_var", torch.full((8,), float("inf")), "stem.bn.running_var holds NaN or infinite values"),
    ],
)
def test_weights_of_another_network_are_refused(
    name: str, tensor: torch.Tensor | None, expected: str, state: dict[str, torch.Tensor]
) -> None:
    with pytest.raises(ConfigError, match=f"^file.pt.*{expected}") as caught:
        fit(changed(state, name, tensor), state, source="file.pt")
    assert "\n" not in str(caught.value)


def test_another_family_is_named_by_its_first_differences(state: dict[str, torch.Tensor]) -> None:
    vgg = build(make_architecture("vgg16")).state_dict()
    first = (
        r"tensor 1 is features.0.layer.weight \(3, 1, 3, 3\) there and stem.layer.weight \(8, 1, 3, 3\) in the model"
    )
    with pytest.raises(ConfigError, match=first):
        fit(vgg, state, source="file.pt")


def test_an_empty_dict_is_another_network(state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ConfigError, match="tensors are missing"):
        fit({}, state, source="file.pt")


def test_a_file_that_changed_since_it_was_named_is_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(torch_bytes(state))
    config = BaselineImport(kind="import", model=MODEL, checkpoint=str(path), sha256="0" * 64)
    with pytest.raises(ConfigError, match="has changed since the experiment began"):
        run_stage(config, make_context(few_digits()))


def test_a_network_trained_from_scratch_fits_the_data() -> None:
    config = BaselineTrain(model=MODEL, schedule=Schedule(epochs=0, lr=0.1))
    result = run_stage(config, make_context(few_digits()))
    assert result.architecture == make_architecture()
    assert result.scheme is None
    assert result.metrics.keys() == {"val_accuracy"}


@pytest.mark.parametrize("bn_images", [0, 120])
def test_batch_norm_of_an_import_is_measured_again_where_the_spec_asks(bn_images: int, tmp_path: Path) -> None:
    context = make_context(few_digits())
    trained = run_stage(BaselineTrain(model=MODEL, schedule=Schedule(epochs=3, lr=0.1, batch_size=20)), context)
    norms = [name for name in trained.state if name.endswith("running_mean")]
    spoiled = trained.state | {name: trained.state[name] + 20 for name in norms}
    path = tmp_path / "spoiled.safetensors"
    path.write_bytes(save_safetensors({name: tensor.contiguous() for name, tensor in spoiled.items()}))
    found = run_stage(BaselineImport(kind="import", model=MODEL, checkpoint=str(path), bn_images=bn_images), context)
    for name in norms:
        off = (found.state[name] - trained.state[name]).abs().max()
        assert torch.equal(found.state[name], spoiled[name]) if bn_images == 0 else off < 10


def test_an_untrained_network_is_random_and_its_values_keep_their_scale() -> None:
    first, again = (run_stage(BaselineUntrained(kind="untrained", model=MODEL), make_context(digits())) for _ in "12")
    assert first.metrics == again.metrics
    assert all(torch.equal(tensor, again.state[name]) for name, tensor in first.state.items())
    assert first.metrics["val_accuracy"] < 0.3
    other = run_stage(BaselineUntrained(kind="untrained", model=MODEL), make_context(digits(), seed=1))
    assert not torch.equal(first.state["head.layer.weight"], other.state["head.layer.weight"])
    assert not any(torch.equal(t, torch.ones_like(t)) for n, t in first.state.items() if n.endswith("running_var"))
