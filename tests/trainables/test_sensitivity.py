"""Automatic bits: sensitivities of a real network, and a file that keeps its budget."""

import dataclasses
import itertools

import pytest
import torch

from tests.trainables.factories import few_digits, make_context
from trainables import ptq
from trainables.config import (
    OBSERVERS,
    AutoBits,
    BaselineTrain,
    ModelConfig,
    PostTrainingQuant,
    QuantScheme,
    Schedule,
    TrialConfig,
)
from trainables.device import seed_for
from trainables.errors import InfeasiblePoint
from trainables.export.packed import pack_result
from trainables.models.attach import weight_quantizer
from trainables.models.units import units
from trainables.quant.allocate import read_table
from trainables.stages.stage import StageContext, StageResult, run_stage

TRAIN = BaselineTrain(model=ModelConfig(width=0.1), schedule=Schedule(epochs=8, lr=0.05, batch_size=20))


def make_trial(budget_bytes: int, **scheme: object) -> TrialConfig:
    auto = AutoBits(budget_bytes=budget_bytes, candidates=(2, 4, 8), images=64)
    quantize = PostTrainingQuant(scheme=QuantScheme.model_validate(scheme), auto_bits=auto, bn_images=200)
    return TrialConfig(baseline=TRAIN, quantize=quantize)


@pytest.fixture(scope="module")
def parent() -> StageResult:
    return run_stage(TRAIN, make_context(few_digits()))


@pytest.fixture(scope="module")
def measured(parent: StageResult) -> StageResult:
    sensitivity = make_trial(10_000).stages()[-2]
    return run_stage(sensitivity, make_context(few_digits(), parent_result=parent))


@pytest.fixture(scope="module", params=itertools.product([8, 16], ["channel", "tensor"]), ids=str)
def scheme(request: pytest.FixtureRequest) -> dict[str, object]:
    return dict(zip(("side_bits", "granularity"), request.param, strict=True))


@pytest.fixture(scope="module")
def measured_so(parent: StageResult, scheme: dict[str, object]) -> StageResult:
    return run_stage(make_trial(1, **scheme).stages()[1], context_of(parent))


def context_of(result: StageResult) -> StageContext:
    return make_context(few_digits(), parent_result=result)


def test_the_stage_stands_before_quantization_and_knows_no_budget() -> None:
    first, second = make_trial(10_000), make_trial(20_000)
    assert [s.kind for s in first.stages()] == ["train", "sensitivity", "ptq"]
    assert first.stages()[1] == second.stages()[1]
    assert first.stages()[2] != second.stages()[2]


def test_every_layer_is_measured_at_every_width(parent: StageResult, measured: StageResult) -> None:
    table = read_table(measured.metrics)
    assert list(table) == list(units(parent.model()))
    for choices in table.values():
        assert [c.bits for c in choices] == [2, 4, 8]
        assert [c.size_bytes for c in choices] == sorted(c.size_bytes for c in choices)
        assert all(c.kl >= 0 for c in choices)
    assert sum(c[0].kl for c in table.values()) > 10 * sum(c[-1].kl for c in table.values())


def test_a_sensitivity_is_the_divergence_of_the_whole_network_with_one_layer_changed(
    parent: StageResult, measured: StageResult
) -> None:
    context = context_of(parent)
    images = context.train.sample(64, seed_for(context.seed, 8))
    batch, _ = next(images.batches(64))
    for name in ("stem", "classifier"):
        model, changed = parent.model().eval(), parent.model().eval()
        layer = units(changed)[name].layer
        with torch.no_grad():
            step = OBSERVERS["mse"](layer.weight.flatten(1), 1, 1, percentile=0.0).view(
                -1, *[1] * (layer.weight.ndim - 1)
            )
            layer.weight.copy_((layer.weight / step).round().clamp(-1, 1) * step)
            p, q = model(batch).softmax(1).double(), changed(batch).softmax(1).double()
        expected = float((p * (p / q).log()).sum()) / 64
        assert expected > 0.001
        assert measured.metrics[f"kl/{name}/2"] == pytest.approx(expected, rel=1e-3)


def test_the_network_passes_through_unchanged(parent: StageResult, measured: StageResult) -> None:
    assert measured.scheme is None
    assert all(torch.equal(tensor, measured.state[name]) for name, tensor in parent.state.items())
    assert measured.metrics["val_accuracy"] == parent.metrics["val_accuracy"]


@pytest.mark.parametrize("method", ["dp", "greedy"])
def test_the_packed_file_keeps_the_budget_and_uses_it(
    measured_so: StageResult, scheme: dict[str, object], method: str
) -> None:
    sizes = [sum(c[i].size_bytes for c in read_table(measured_so.metrics).values()) for i in (0, -1)]
    overhead = measured_so.metrics["overhead_bytes"]
    budget = round(overhead + sizes[0] + 0.5 * (sizes[1] - sizes[0]))
    quantize = make_trial(budget, **scheme).stages()[-1]
    assert isinstance(quantize, PostTrainingQuant)
    assert quantize.auto_bits is not None
    quantize = quantize.model_copy(update={"auto_bits": quantize.auto_bits.model_copy(update={"method": method})})
    result = run_stage(quantize, context_of(measured_so))
    assert result.scheme is not None
    bits = {name: weight_quantizer(unit).bits for name, unit in units(result.model()).items()}
    assert bits == result.scheme.w_bits_by_layer
    assert len(set(bits.values())) > 1
    assert 0.9 * budget < len(pack_result(result, few_digits())) <= budget


def test_more_bytes_give_a_network_that_is_nearer_to_the_float_one(measured: StageResult) -> None:
    table = read_table(measured.metrics)
    overhead = measured.metrics["overhead_bytes"]
    least = sum(c[0].size_bytes for c in table.values())
    most = sum(c[-1].size_bytes for c in table.values())
    moved = []
    for share in (0.1, 0.5, 0.9):
        budget = round(overhead + least + share * (most - least))
        result = run_stage(make_trial(budget).stages()[-1], context_of(measured))
        assert result.scheme is not None
        chosen = result.scheme.w_bits_by_layer
        moved.append(sum(next(c.kl for c in table[name] if c.bits == b) for name, b in chosen.items()))
    assert moved[0] > moved[1] > moved[2]


def test_codes_that_need_more_bytes_than_their_sensitivities_said_still_keep_the_budget(measured: StageResult) -> None:
    told = {key: value * (0.7 if key.startswith("bytes/") else 1) for key, value in measured.metrics.items()}
    context = context_of(dataclasses.replace(measured, metrics=told))
    budget = round(told["overhead_bytes"] + 2 * sum(c[0].size_bytes for c in read_table(told).values()))
    result = run_stage(make_trial(budget).stages()[-1], context)
    assert 0.85 * budget < len(pack_result(result, few_digits())) <= budget


def test_a_budget_is_feasible_down_to_the_narrowest_file_and_no_further(
    measured: StageResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[str] = []
    quantized = ptq._quantized
    monkeypatch.setattr(ptq, "_quantized", lambda *given: rounds.append(str(given[1])) or quantized(*given))
    told = {key: value * (0.7 if key.startswith("bytes/") else 1) for key, value in measured.metrics.items()}

    def size_under(budget_bytes: int) -> int:
        context = context_of(dataclasses.replace(measured, metrics=told))
        return len(pack_result(run_stage(make_trial(budget_bytes).stages()[-1], context), few_digits()))

    two_bits = PostTrainingQuant(scheme=QuantScheme(w_bits=2, edge_bits=2), bn_images=200)
    least = (
        len(pack_result(run_stage(two_bits, context_of(measured)), few_digits())) + 100
    )  # bits by layer in the header
    assert size_under(least) <= least
    rounds.clear()
    with pytest.raises(InfeasiblePoint, match=r"^the narrowest widths make a file of [\d,]+ bytes, but the budget is"):
        size_under(least - 300)
    assert rounds
    assert len(rounds) == len(set(rounds))


def test_a_budget_that_no_widths_meet_is_infeasible(measured: StageResult) -> None:
    with pytest.raises(InfeasiblePoint, match="raise budget_bytes, or prune more"):
        run_stage(make_trial(2_000).stages()[-1], context_of(measured))
