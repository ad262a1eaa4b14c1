"""Every registered method passes its contract, and the contracts refuse what is wrong."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from trainables.config import OBSERVERS, QUANTIZERS, SPARSITY
from trainables.quant.lsq import LsqQuantizer
from trainables.testing.observers import ObserverContract
from trainables.testing.quantizers import QuantizerContract
from trainables.testing.sparsity import SparsityContract


class TestEveryQuantizer(QuantizerContract):
    @pytest.fixture(autouse=True, params=QUANTIZERS.names())
    def _quantizer(self, request: pytest.FixtureRequest) -> None:
        self.quantizer_type = QUANTIZERS[request.param]


class TestEveryObserver(ObserverContract):
    @pytest.fixture(autouse=True, params=OBSERVERS.names())
    def _observer(self, request: pytest.FixtureRequest) -> None:
        self.observe = OBSERVERS[request.param]


class TestEverySparsityCriterion(SparsityContract):
    @pytest.fixture(autouse=True, params=SPARSITY.names())
    def _criterion(self, request: pytest.FixtureRequest) -> None:
        self.score = SPARSITY[request.param]


class RoundsDown(LsqQuantizer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - self.safe_step() / 2)


class Remembers(LsqQuantizer):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.step *= 1.01
        return super().forward(x)


class StopsGradients(LsqQuantizer):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.detach()) + 0 * x


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        (RoundsDown, "test_values_are_codes_times_the_step"),
        (Remembers, "test_it_has_no_memory"),
        (StopsGradients, "test_gradients_pass_inside_the_range_only"),
    ],
)
def test_the_contract_refuses_a_wrong_quantizer(wrong: type[LsqQuantizer], check: str) -> None:
    contract = QuantizerContract()
    contract.quantizer_type = wrong
    with pytest.raises(AssertionError):
        getattr(contract, check)()


def shared_step(values: Tensor, qn: int, qp: int, *, percentile: float) -> Tensor:
    return (values.abs().max() / qp).clamp_min(1e-8).expand(len(values))


def last_value(values: Tensor, qn: int, qp: int, *, percentile: float) -> Tensor:
    return (values[:, -1].abs() / qp).clamp_min(1e-8)


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        (shared_step, "test_rows_do_not_know_of_each_other"),
        (last_value, "test_the_order_of_values_does_not_matter"),
    ],
)
def test_the_contract_refuses_a_wrong_observer(wrong: Callable[..., Tensor], check: str) -> None:
    contract = ObserverContract()
    contract.observe = wrong
    with pytest.raises(AssertionError):
        getattr(contract, check)()


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        (lambda w: w.detach().clamp_min(0), "test_signs_do_not_matter_and_the_weight_stays"),
        (lambda w: 1 / (1 + w.detach().abs()), "test_within_a_layer_the_smallest_magnitudes_go_first"),
        (lambda w: w.abs(), "test_no_gradient_is_recorded"),
    ],
)
def test_the_contract_refuses_a_wrong_sparsity_criterion(wrong: Callable[[Tensor], Tensor], check: str) -> None:
    contract = SparsityContract()
    contract.score = wrong
    with pytest.raises(AssertionError):
        getattr(contract, check)()
