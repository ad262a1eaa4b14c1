"""Rules of quantization-aware training: oscillations, steps that stand still, dead channels, fixed steps."""

import numpy as np
import pytest
import torch

from tests.trainables.factories import few_digits, make_context, make_model, make_quantized
from trainables.config import FLOAT_BITS, BaselineTrain, Freezing, ModelConfig, QuantAwareTrain, QuantScheme, Schedule
from trainables.models.attach import activation_quantizers, weight_quantizer
from trainables.models.quantizer import Quantizer
from trainables.models.units import units
from trainables.quant.freezing import FreezeOscillations, FreezeSteps
from trainables.quant.guard import GuardChannels
from trainables.quant.qat import at_least
from trainables.stages.stage import StageResult, run_stage
from trainables.train.step_rule import Moment

EARLY = Freezing(threshold_start=0.05, threshold_end=0.05, start=0.0, momentum=0.1)


def reference(codes: np.ndarray, threshold: float, momentum: float) -> tuple[np.ndarray, np.ndarray]:
    """Algorithm 1 of arXiv 2203.11086 for one weight after another: codes of each step → frozen at, code."""
    when, value = [], []
    for history in codes.T:
        frequency, average, last, direction = 0.0, float(history[0]), history[0], 0
        frozen_at, code = -1, history[-1]
        for step, now in enumerate(history[1:], 1):
            change = int(np.sign(now - last))
            oscillates = change != 0 and direction != 0 and change != direction
            frequency = momentum * oscillates + (1 - momentum) * frequency
            average = momentum * now + (1 - momentum) * average
            direction, last = change or direction, now
            if frequency > threshold:
                frozen_at, code = step, int(np.rint(average))
                break
        when.append(frozen_at)
        value.append(code)
    return np.array(when), np.array(value)


def test_oscillations_freeze_as_in_the_algorithm() -> None:
    model = make_quantized(w_bits=3)
    unit = units(model)["head"]
    quantizer = weight_quantizer(unit)
    rng = np.random.default_rng(0)
    walk = np.clip(np.cumsum(rng.integers(-1, 2, (60, unit.layer.weight.numel())), axis=0), -3, 3)

    def put(codes: np.ndarray) -> None:
        with torch.no_grad():
            values = torch.from_numpy(codes).float().view_as(unit.layer.weight)
            unit.layer.weight.copy_(values * quantizer.safe_step())

    put(walk[0])
    rule = FreezeOscillations(model, EARLY)
    found = np.full(walk.shape[1], -1)
    frozen_codes = np.zeros(walk.shape[1])
    for step in range(1, len(walk)):
        put(np.where(found >= 0, frozen_codes, walk[step]))
        rule.after_step(Moment(step, len(walk)))
        state = rule.state()
        new = state["head.frozen"].flatten().numpy() & (found < 0)
        found[new] = step
        frozen_codes = np.where(new, state["head.code"].flatten().numpy(), frozen_codes)
    when, value = reference(walk, 0.05, 0.1)
    assert (when >= 0).mean() > 0.5
    np.testing.assert_array_equal(found, when)
    np.testing.assert_array_equal(frozen_codes[found >= 0], value[when >= 0])
    codes = quantizer.codes(unit.layer.weight).flatten().numpy()
    np.testing.assert_array_equal(codes[found >= 0], value[when >= 0])
    assert 0 < rule.frozen_share() < 1


def test_nothing_freezes_before_its_start_and_the_threshold_falls() -> None:
    rule = FreezeOscillations(make_quantized(w_bits=3), Freezing(start=0.25))
    assert rule._threshold(0.25) is None
    falls = [rule._threshold(share) for share in (0.2501, 0.5, 0.75, 1.0)]
    assert falls == sorted(falls, key=lambda t: -(t or 0))
    assert falls[0] == pytest.approx(0.1, abs=1e-3)
    assert falls[-1] == pytest.approx(0.01)


def test_wide_layers_do_not_freeze() -> None:
    rule = FreezeOscillations(make_quantized(w_bits=4), Freezing(max_bits=4))
    names = {key.rpartition(".")[0] for key in rule.state()}
    assert "stem" not in names
    assert "classifier" not in names
    assert "head" in names


def test_steps_of_activations_stand_still_after_their_share() -> None:
    model = make_quantized()
    rule = FreezeSteps(model, after=0.8)
    steps = [q.step for q in activation_quantizers(model).values()]
    rule.after_step(Moment(79, 100))
    assert all(step.requires_grad for step in steps)
    rule.after_step(Moment(80, 100))
    assert not any(step.requires_grad for step in steps)
    assert weight_quantizer(units(model)["head"]).step.requires_grad
    again = make_quantized()
    FreezeSteps(again, after=0.8).load(rule.state())
    assert not any(q.step.requires_grad for q in activation_quantizers(again).values())


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_a_dead_channel_gets_its_largest_weight_back(granularity: str) -> None:
    model = make_quantized(w_bits=3, granularity=granularity)
    unit = units(model)["blocks.3.depthwise"]
    quantizer = weight_quantizer(unit)
    with torch.no_grad():
        unit.layer.weight[2] *= 0.01 * quantizer.safe_step().min() / unit.layer.weight[2].abs().max()
        unit.layer.weight[5] = 0.0
    before = unit.layer.weight.detach().clone()
    assert (quantizer.codes(unit.layer.weight)[2] == 0).all()
    GuardChannels(model).after_step(Moment(1, 2))
    codes = quantizer.codes(unit.layer.weight)
    place = before[2].abs().flatten().argmax()
    assert codes[2].flatten()[place] == before[2].flatten()[place].sign()
    assert codes[2].abs().sum() == 1
    assert (unit.layer.weight[5] == 0).all(), "a channel of zeros was pruned"
    untouched = [i for i in range(len(before)) if i != 2]
    assert torch.equal(unit.layer.weight[untouched], before[untouched])
    revived = unit.layer.weight.detach().clone()
    GuardChannels(model).after_step()
    assert torch.equal(unit.layer.weight, revived)


@pytest.fixture(scope="module")
def parent() -> StageResult:
    schedule = Schedule(epochs=6, lr=0.05, batch_size=25)
    return run_stage(BaselineTrain(model=ModelConfig(width=0.1), schedule=schedule), make_context(few_digits()))


def steps_of(model: torch.nn.Module) -> list[torch.Tensor]:
    return [m.step.detach().clone() for m in model.modules() if isinstance(m, Quantizer)]


def test_plain_straight_through_training_leaves_the_steps_calibrated(parent: StageResult) -> None:
    schedule = Schedule(epochs=1, lr=0.02, batch_size=25)
    results = {}
    for quantizer in ("ste", "lsq"):
        config = QuantAwareTrain(
            kind="qat", scheme=QuantScheme(w_bits=4, a_bits=4, quantizer=quantizer), schedule=schedule, bn_images=0
        )
        untrained = config.model_copy(update={"schedule": schedule.model_copy(update={"epochs": 0})})
        before, after = (run_stage(c, make_context(few_digits(), parent_result=parent)) for c in (untrained, config))
        model = after.model()
        results[quantizer] = [
            bool(torch.equal(a, b))
            for (a, b) in zip(steps_of(before.model()), steps_of(model), strict=True)
        ]  # fmt: skip
        assert not torch.equal(before.state["head.layer.weight"], after.state["head.layer.weight"])
    # The classifier's steps are moved to what the file can hold, by less than float16's precision.
    assert sum(results["ste"]) >= len(results["ste"]) - 1
    assert sum(results["lsq"]) == 0


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_progressive_widths_raise_what_is_narrower(bits: int) -> None:
    scheme = QuantScheme(w_bits=3, a_bits=6, w_bits_by_group={"depthwise": 8}, w_bits_by_layer={"head": 2})
    raised = at_least(scheme, bits)
    assert (raised.w_bits, raised.a_bits) == (max(3, bits), max(6, bits))
    assert raised.w_bits_by_group == {"depthwise": 8}
    assert raised.w_bits_by_layer == {"head": max(2, bits)}


@pytest.mark.parametrize(("bits", "of_activations"), [(3, 3), (8, 8), (12, 16), (FLOAT_BITS, FLOAT_BITS)])
def test_progressive_widths_leave_nothing_narrower(bits: int, of_activations: int) -> None:
    """Also at the edges and in the residual stream; weights may have 12 bits, activations may not."""
    scheme = QuantScheme(w_bits=2, a_bits=2, edge_bits=2, residual_bits=2, a_bits_by_group={"projection": 1})
    raised = at_least(scheme, bits)
    assert (raised.w_bits, raised.edge_bits) == (bits, bits)
    assert (raised.a_bits, raised.residual_bits) == (of_activations, of_activations)
    assert raised.a_bits_by_group == {"projection": of_activations}


def test_only_progressive_widths_above_the_edges_renew_the_key() -> None:
    progressive = {
        widths: QuantAwareTrain(kind="qat", schedule=Schedule(epochs=1, lr=0.1), progressive_bits=widths).revisions()
        for widths in ((), (8, 5), (16, 8))
    }
    assert progressive == {(): {}, (8, 5): {}, (16, 8): {"progressive": 2}}


def test_progressive_training_ends_at_the_scheme(parent: StageResult) -> None:
    config = QuantAwareTrain(
        kind="qat",
        scheme=QuantScheme(w_bits=3, a_bits=4),
        schedule=Schedule(epochs=1, lr=0.01, batch_size=25),
        progressive_bits=(8, 5),
    )
    result = run_stage(config, make_context(few_digits(), parent_result=parent))
    assert [row.get("bits") for row in result.history] == [8, 5, None]
    assert weight_quantizer(units(result.model())["head"]).bits == 3
    assert result.scheme == config.scheme


def test_a_network_of_floats_has_no_rules_to_follow() -> None:
    model = make_model(width=0.1)
    assert FreezeOscillations(model, EARLY).state() == {}
    GuardChannels(model).after_step()
