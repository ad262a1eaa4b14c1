"""Checkpoints as people have them: wrapped, prefixed, averaged, in half precision, with settings beside them."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from trainables.errors import ConfigError
from trainables.models.checkpoint_file import read_fitted, reported_accuracy

State = dict[str, Tensor]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def averaged(state: State) -> State:
    return {name: torch.zeros_like(tensor) for name, tensor in state.items()}


WRAPPED: dict[str, Callable[[State], Any]] = {
    "plain": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "two levels": lambda s: {"checkpoint": {"weights_of_the_net": s, "step": 10}},
    "any name": lambda s: {"resnet_weights": s},
    "beside the optimizer": lambda s: {"optimizer": {"state": {0: {"momentum": torch.ones(4)}}}, "my_model": s},
    "an average before it": lambda s: {"state_dict_ema": averaged(s), "state_dict": s},
    "an average after it": lambda s: {"model": s, "model_ema": averaged(s)},
    "module": lambda s: prefixed(s, "module."),
    "compiled and parallel": lambda s: prefixed(s, "module._orig_mod."),
    "a trainer's": lambda s: {"state_dict": prefixed(s, "model.")},
    "a trainer's and parallel": lambda s: {"state_dict": prefixed(s, "net.module.model.")},
    "an AveragedModel": lambda s: {"n_averaged": torch.tensor(3), **prefixed(s, "module.")},
    "a trainer's with a loss": lambda s: {"state_dict": {**prefixed(s, "model."), "loss.weight": torch.ones(2)}},
    "a count of its own": lambda s: {**s, "steps": torch.tensor(7)},
    "half": lambda s: {name: t.half() if t.is_floating_point() else t for name, t in s.items()},
    "bfloat16": lambda s: {name: t.bfloat16() if t.is_floating_point() else t for name, t in s.items()},
    "with a counter": lambda s: {**s, "steps": 7, "version": "1.0"},
    "settings and numbers": lambda s: {"args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "state_dict": s},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_weights_are_found(name: str, tmp_path: Path) -> None:
    state = network().state_dict()
    torch.save(WRAPPED[name](state), tmp_path / "x.pt")
    found = read_fitted(tmp_path / "x.pt", state).state
    rounded = "half" in name or "float16" in name
    for key, tensor in state.items():
        torch.testing.assert_close(found[key], tensor, rtol=0.01 if rounded else 0, atol=1e-3 if rounded else 0)
        assert found[key].dtype == tensor.dtype


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.module.", "model.", "net.model."])
def test_prefixes_go_in_safetensors_too(prefix: str, tmp_path: Path) -> None:
    state = network().state_dict()
    save_file(prefixed(state, prefix), tmp_path / "x.safetensors")
    found = read_fitted(tmp_path / "x.safetensors", state).state
    assert all(torch.equal(found[key], tensor) for key, tensor in state.items())


def test_a_networks_own_first_name_is_no_prefix(tmp_path: Path) -> None:
    inside = nn.ModuleDict({"model": network()})
    torch.save(inside.state_dict(), tmp_path / "x.pt")
    assert read_fitted(tmp_path / "x.pt", inside.state_dict()).state.keys() == inside.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("0.weight", lambda t: (10 * t).to(torch.int8), "0.weight is int8: save floating-point weights"),
        ("3.bias", lambda t: t > 0, "3.bias is bool: save floating-point weights"),
        ("1.running_var", lambda t: -t, "1.running_var holds negative variances"),
    ],
)
def test_values_that_no_network_has_are_refused(
    name: str, change: Callable[[Tensor], Tensor], expected: str, tmp_path: Path
) -> None:
    state = network().state_dict()
    torch.save({**state, name: change(state[name])}, tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=expected):
        read_fitted(tmp_path / "x.pt", state)


def test_accuracies_beside_the_weights_are_reported(tmp_path: Path) -> None:
    content = {"state_dict": network().state_dict(), "best_prec1": 91.5, "val_acc": np.float64(0.9), "lr": 0.1}
    more = {"accuracy_log": "a file", "top1": torch.tensor(75.5), "acc_by_class": torch.ones(2)}
    torch.save({**content, **more}, tmp_path / "x.pt")
    assert reported_accuracy(tmp_path / "x.pt") == {"best_prec1": 91.5, "val_acc": 0.9, "top1": 75.5}


class Settings:
    """A class that no reader here knows."""


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, of quantized tensors
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: {**s, "0.weight": s["0.weight"].to_sparse()}, "0.weight is a sparse tensor"),
        (lambda s: {**s, "0.weight": s["0.weight"].to(torch.complex64)}, "0.weight is a complex tensor"),
        (
            lambda s: {**s, "0.weight": torch.quantize_per_tensor(s["0.weight"], 0.1, 0, torch.qint8)},
            "quantized tensor",
        ),
        (lambda s: {"state_dict": s, "config": Settings()}, r"object of [\w.]+Settings, which would be executed"),
        (lambda s: {"epoch": 3, "lr": 0.1}, "holds a dict, not a dict of tensors"),
    ],
)
def test_what_is_no_dense_float_tensor_is_refused_by_name(
    change: Callable[[State], Any], says: str, tmp_path: Path
) -> None:
    torch.save(change(network().state_dict()), tmp_path / "x.pt")
    with pytest.raises(ConfigError, match=says) as caught:
        read_fitted(tmp_path / "x.pt", network().state_dict())
    assert "\n" not in str(caught.value)


def test_masks_of_pruning_are_explained(tmp_path: Path) -> None:
    masked = network()
    prune.l1_unstructured(masked[0], "weight", 0.5)
    torch.save(masked.state_dict(), tmp_path / "x.pt")
    with pytest.raises(ConfigError, match="call its `remove` on each module, then save"):
        read_fitted(tmp_path / "x.pt", network().state_dict())
