"""Unstructured pruning: scores, masks, and the stage."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainables.factories import few_digits, make_context, make_images, make_model, of_graph
from trainables.config import (
    GROUPS,
    SPARSITY,
    BaselineTrain,
    ModelConfig,
    QuantAwareTrain,
    QuantScheme,
    Schedule,
    Sparsify,
)
from trainables.errors import ArtifactMismatch, Diverged, InfeasiblePoint
from trainables.graph.graph import Graph, Node
from trainables.models.model import Model
from trainables.models.units import Unit, units
from trainables.prune import sparsify
from trainables.prune.masks import HoldZeros, MaskedWeight, apply_masks_, check_zeros, zero_share
from trainables.prune.sparsify import RaiseSparsity, cubic, ramp_sparsity
from trainables.prune.sparsity import SMALL, lamp, magnitude, make_masks, prunable
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.train.loop import evaluate
from trainables.train.step_rule import Moment, StepRule

WHOLE_NETWORKS = True

EXEMPT = ("first_conv", "depthwise", "classifier")
ONE = Schedule(epochs=1, lr=0.02, batch_size=25)


@pytest.fixture(scope="module")
def parent() -> StageResult:
    schedule = Schedule(epochs=6, lr=0.05, batch_size=25)
    return run_stage(BaselineTrain(model=ModelConfig(width=0.1), schedule=schedule), make_context(few_digits()))


def layers_of(**changes: Any) -> dict[str, Unit]:
    return prunable(make_model(width=0.25, **changes), EXEMPT)


def weights_in(state: Any) -> dict[str, Tensor]:
    return {n: t for n, t in state.items() if n.endswith("layer.weight")}


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30))
def test_lamp_is_its_definition(values: list[int]) -> None:
    """By brute force: u's square over the squares of all that do not come before u in rising order."""
    weight = torch.tensor(values, dtype=torch.float32)
    found = lamp(weight).tolist()
    order = sorted(range(len(values)), key=lambda i: (values[i] ** 2, -i))
    for rank, i in enumerate(order):
        below = sum(values[j] ** 2 for j in order[rank:])
        assert found[i] == pytest.approx(values[i] ** 2 / below if below else 0.0, rel=1e-5)


def test_lamp_keeps_the_largest_weight_of_each_layer_longest() -> None:
    layers = layers_of()
    masks = make_masks(layers, 0.999, criterion="lamp")
    assert all(bool(mask.any()) for mask in masks.values())
    for name, mask in masks.items():
        kept = layers[name].layer.weight.abs()
        assert kept[mask].min() >= kept[~mask].max()


@pytest.mark.parametrize("criterion", SPARSITY.names())
@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.37, 0.9, 0.99])
def test_masks_remove_exactly_the_share(criterion: str, sparsity: float) -> None:
    layers = layers_of()
    total = sum(unit.layer.weight.numel() for unit in layers.values())
    masks = make_masks(layers, sparsity, criterion=criterion)
    assert sum(int((~mask).sum()) for mask in masks.values()) == math.floor(total * sparsity + 1e-9)


@pytest.mark.parametrize("criterion", SPARSITY.names())
def test_small_layers_keep_their_density(criterion: str) -> None:
    layers = layers_of()
    masks = make_masks(layers, 0.8, criterion=criterion, min_density=0.3)
    small = {name: mask for name, mask in masks.items() if mask.numel() < SMALL}
    assert small
    assert len(small) < len(masks)
    for mask in small.values():
        assert int(mask.sum()) >= math.ceil(0.3 * mask.numel())


def test_a_sparsity_that_the_floor_forbids_is_infeasible() -> None:
    layers = {name: unit for name, unit in layers_of().items() if unit.layer.weight.numel() < SMALL}
    with pytest.raises(InfeasiblePoint, match=r"sparsity 0.9 removes [\d,]+ weights, but only [\d,]+ may go: lower"):
        make_masks(layers, 0.9, min_density=0.3)


@pytest.mark.parametrize("criterion", SPARSITY.names())
@pytest.mark.parametrize("mode", ["gradual", "iterative"])
def test_weights_that_training_spoiled_are_a_divergence(
    criterion: str, mode: str, parent: StageResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sparsity is not at fault, and no lower one would help."""

    def spoil(model: Model, _schedule: Schedule, _context: StageContext, *, rules: Sequence[StepRule]) -> list[Any]:
        with torch.no_grad():
            units(model)["head"].layer.weight[0] = torch.nan
        for rule in rules:
            rule.after_step(Moment(1, 1))
        return []

    monkeypatch.setattr(sparsify, "fit", spoil)
    config = Sparsify.model_validate({"sparsity": 0.6, "criterion": criterion, "mode": mode, "schedule": ONE})
    with pytest.raises(Diverged, match="the scores of head are not finite, so its weights are not: lower the learning"):
        run_stage(config, make_context(few_digits(), parent_result=parent))


def test_global_magnitude_is_one_threshold() -> None:
    layers = layers_of()
    masks = make_masks(layers, 0.6, criterion="magnitude")
    kept = min(float(magnitude(u.layer.weight)[masks[n]].min()) for n, u in layers.items() if masks[n].any())
    gone = max(float(magnitude(u.layer.weight)[~masks[n]].max()) for n, u in layers.items() if (~masks[n]).any())
    assert gone <= kept


def test_exempt_groups_are_left_alone() -> None:
    assert {unit.role for unit in layers_of().values()} == {"expansion", "projection", "head"}


@settings(max_examples=30)
@given(st.floats(0, 1), st.floats(0, 1))
def test_the_cubic_ramp_rises_from_zero_to_one(a: float, b: float) -> None:
    assert cubic(0) == 0
    assert cubic(1) == 1
    low, high = sorted((a, b))
    assert cubic(low) <= cubic(high)
    assert cubic(0.5) == 0.875


def test_a_masked_weight_goes_on_learning() -> None:
    weight = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    masked = MaskedWeight(weight)
    masked.mask.copy_(torch.tensor([True, False, True]))
    out = masked(weight)
    assert out.tolist() == [1.0, 0.0, 3.0]
    (out * torch.tensor([1.0, 5.0, 7.0])).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [1.0, 5.0, 7.0]


def test_a_mask_computes_what_a_network_with_zeros_computes() -> None:
    model, zeroed = make_model(width=0.25), make_model(width=0.25)
    rule = RaiseSparsity(model, Sparsify(sparsity=0.5, schedule=ONE))
    rule.after_step(Moment(6, 10))
    apply_masks_(zeroed, make_masks(prunable(zeroed, EXEMPT), 0.5, min_density=0.3))
    images = next(make_images().batches(32))[0]
    torch.testing.assert_close(model(images), zeroed(images))
    before = model(images)
    rule.finish()
    torch.testing.assert_close(model(images), before)
    assert all(unit.weight_point.quantizer is None for unit in units(model).values())


def test_the_ramp_ends_at_its_share_and_stays() -> None:
    model = make_model(width=0.1)
    rule = RaiseSparsity(model, Sparsify(sparsity=0.8, ramp=0.5, schedule=ONE, min_density=0))
    zeros = []
    for step in range(1, 101):
        rule.after_step(Moment(step, 100))
        quantizers = [u.weight_point.quantizer for u in prunable(model, EXEMPT).values()]
        masks = {str(i): q.mask for i, q in enumerate(quantizers) if isinstance(q, MaskedWeight)}
        zeros.append(zero_share(masks))
    assert zeros == sorted(zeros)
    assert zeros[24] == pytest.approx(0.8 * cubic(0.5), abs=0.02)
    assert zeros[48] < zeros[49] == zeros[-1] == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("mode", ["gradual", "iterative"])
@pytest.mark.parametrize("criterion", SPARSITY.names())
@pytest.mark.parametrize("epochs", [0, 1])
def test_the_stage_reaches_the_sparsity(mode: str, criterion: str, epochs: int, parent: StageResult) -> None:
    schedule = ONE.model_copy(update={"epochs": epochs})
    content = {"sparsity": 0.6, "mode": mode, "criterion": criterion, "steps": 2, "schedule": schedule}
    config = Sparsify.model_validate({**content, "min_density": 0.0})
    result = run_stage(config, make_context(few_digits(), parent_result=parent))
    assert result.metrics["sparsity_requested"] == 0.6
    assert result.metrics["sparsity_achieved"] == pytest.approx(0.6, abs=1e-3)
    prunable_now = {n: u.layer.weight for n, u in prunable(result.model(), EXEMPT).items()}
    assert zero_share(prunable_now) == result.metrics["sparsity_achieved"]
    exempt = {n: u.layer.weight for n, u in units(result.model()).items() if u.role in EXEMPT}
    assert zero_share(exempt) == 0


@pytest.mark.parametrize("mode", ["gradual", "iterative"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"exempt": GROUPS},
            "needs layers that are not exempt, but all are: take",
        ),
        ({"min_density": 1.0, "sparsity": 0.99}, "sparsity 0.99 removes .* weights, but only .* may go: lower"),
    ],
)
def test_what_cannot_be_reached_is_infeasible_before_any_training(
    mode: str, change: dict[str, Any], says: str, parent: StageResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparsify, "fit", lambda *_args, **_named: pytest.fail("it trains"))
    config = Sparsify.model_validate({"sparsity": 0.6, "mode": mode, "schedule": ONE, **change})
    with pytest.raises(InfeasiblePoint, match=says):
        run_stage(config, make_context(few_digits(), parent_result=parent))


@pytest.mark.parametrize("mode", ["gradual", "iterative"])
def test_a_network_of_few_weights_rounds_down(mode: str) -> None:
    node = Node("flat", "mean", ("image",), {"dims": (2, 3), "keep": False})
    model, architecture = of_graph(
        Graph((1, 8, 8), (node, Node("fc", "linear", ("flat",), {"weight": (10, 1), "bias": True})), "fc")
    )
    context = make_context(few_digits(), parent_result=StageResult(architecture, None, model.state_dict(), {}))
    config = Sparsify.model_validate({"sparsity": 0.59, "mode": mode, "exempt": (), "min_density": 0, "schedule": ONE})
    assert run_stage(config, context).metrics["sparsity_achieved"] == 0.5


def test_weights_come_back_in_gradual_mode_only(parent: StageResult) -> None:
    """In steps, what is zero once stays zero; along a ramp, the masks of two moments are not nested."""
    data = few_digits()

    def zeros(mode: str, steps: int) -> Tensor:
        schedule = Schedule(epochs=3, lr=0.1, batch_size=10)
        content = {"sparsity": 0.5, "mode": mode, "steps": steps, "schedule": schedule, "criterion": "magnitude"}
        state = run_stage(Sparsify.model_validate(content), make_context(data, parent_result=parent)).state
        return torch.cat([t.flatten() == 0 for t in weights_in(state).values()])

    model = parent.model()
    first = make_masks(prunable(model, EXEMPT), 0.5 * cubic(0.5), criterion="magnitude", min_density=0.3)
    removed = torch.cat(
        [~first[n].flatten() if n in first else torch.zeros(u.layer.weight.numel(), dtype=torch.bool)
         for n, u in units(model).items()]
    )  # fmt: skip
    assert not (removed & ~zeros("iterative", 2)).any()
    assert (removed & ~zeros("gradual", 2)).any()


def test_a_step_that_passes_the_bound_is_the_last_one_and_taken_back(parent: StageResult) -> None:
    content = {"sparsity": 0.98, "mode": "iterative", "steps": 5, "max_accuracy_drop": 0.02, "min_density": 0.0}
    no_training = Schedule(epochs=0, lr=0.1)
    config = Sparsify.model_validate({**content, "schedule": no_training})
    result = run_stage(config, make_context(few_digits(), parent_result=parent))
    drops = [parent.metrics["val_accuracy"] - row["val_accuracy"] for row in result.history]
    assert len(drops) < 5
    assert drops[-1] > 0.02
    assert all(drop <= 0.02 for drop in drops[:-1])
    kept = result.history[-2]
    assert result.metrics["sparsity_achieved"] == pytest.approx(kept["sparsity_requested"], abs=1e-3)
    assert result.metrics["val_accuracy"] == kept["accuracy_fine_tuned"]
    assert result.metrics["sparsity_requested"] == 0.98
    assert result.metrics["stopped_early"] == 1


def test_where_the_first_step_passes_the_bound_the_network_stays_as_it_was(parent: StageResult) -> None:
    content = {"sparsity": 0.98, "mode": "iterative", "steps": 1, "max_accuracy_drop": 0.02, "min_density": 0.0}
    config = Sparsify.model_validate({**content, "schedule": Schedule(epochs=0, lr=0.1)})
    result = run_stage(config, make_context(few_digits(), parent_result=parent))
    assert parent.metrics["val_accuracy"] - result.history[-1]["val_accuracy"] > 0.02
    assert all(torch.equal(result.state[name], tensor) for name, tensor in parent.state.items())
    assert result.metrics["val_accuracy"] == parent.metrics["val_accuracy"]
    assert (result.metrics["sparsity_achieved"], result.metrics["stopped_early"]) == (0, 1)


def test_a_bound_that_holds_changes_nothing(parent: StageResult) -> None:
    content = {"sparsity": 0.5, "mode": "iterative", "steps": 2, "min_density": 0.0, "schedule": ONE}
    free, bound = (
        run_stage(
            Sparsify.model_validate({**content, "max_accuracy_drop": most}),
            make_context(few_digits(), parent_result=parent),
        )
        for most in (None, 1)
    )
    assert bound.metrics == free.metrics
    assert bound.metrics["stopped_early"] == 0
    assert all(torch.equal(bound.state[name], tensor) for name, tensor in free.state.items())


def test_only_a_bound_renews_the_key_of_the_stage() -> None:
    free = Sparsify(sparsity=0.5, mode="iterative", schedule=ONE)
    assert (free.VERSION, free.revisions()) == (1, {})
    assert Sparsify(sparsity=0.5, max_accuracy_drop=0.1, schedule=ONE).revisions() == {}
    assert Sparsify(sparsity=0.5, mode="iterative", max_accuracy_drop=0.1, schedule=ONE).revisions() == {"bound": 2}


def test_every_step_says_what_it_left_and_what_that_cost(parent: StageResult) -> None:
    content = {"sparsity": 0.9, "mode": "iterative", "steps": 2, "ramp_shape": "linear", "min_density": 0.0}
    config = Sparsify.model_validate({**content, "schedule": {**ONE.model_dump(), "epochs": 2}})
    result = run_stage(config, make_context(few_digits(), parent_result=parent))
    total = sum(u.layer.weight.numel() for u in prunable(parent.model(), EXEMPT).values())
    assert [(row["step"], row["epoch"]) for row in result.history] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    first, last = result.history[0], result.history[-1]
    assert (first["sparsity_requested"], last["sparsity_requested"]) == pytest.approx((0.45, 0.9))
    assert first["nonzeros"] == total - math.floor(0.45 * total)
    pruned = parent.model()
    layers = prunable(pruned, EXEMPT)
    apply_masks_(pruned, make_masks(layers, 0.45))
    assert first["accuracy_pruned"] == evaluate(pruned, make_context(few_digits()).val)
    assert first["accuracy_fine_tuned"] == result.history[1]["val_accuracy"]
    assert last["accuracy_fine_tuned"] == result.metrics["val_accuracy"]
    now = prunable(result.model(), EXEMPT).values()
    assert last["nonzeros"] == sum(int(u.layer.weight.count_nonzero()) for u in now)
    assert last["sparsity_achieved"] == pytest.approx(result.metrics["sparsity_achieved"])


@settings(max_examples=30)
@given(
    st.integers(1, 80),
    st.floats(0.01, 1),
    st.integers(1, 40),
    st.floats(0.01, 0.99),
)
def test_the_ramp_names_the_masks_of_every_training_step(total: int, ramp: float, every: int, sparsity: float) -> None:
    made: list[float] = [0.0]

    class Watched(RaiseSparsity):
        def _set(self, sparsity: float) -> None:
            made.append(sparsity)

    config = Sparsify(sparsity=sparsity, ramp=ramp, mask_every=every, schedule=ONE)
    rule = Watched(make_model(width=0.1), config)
    for step in range(1, total + 1):
        rule.after_step(Moment(step, total))
        assert ramp_sparsity(Moment(step, total), config) == made[-1]
    assert made[-1] == sparsity


@pytest.mark.parametrize("epochs", [0, 4])
def test_every_epoch_of_a_ramp_says_what_its_masks_left(epochs: int, parent: StageResult) -> None:
    schedule = ONE.model_copy(update={"epochs": epochs})
    config = Sparsify(sparsity=0.8, min_density=0.0, schedule=schedule)
    context = make_context(few_digits(), parent_result=parent)
    result = run_stage(config, context)
    total = sum(u.layer.weight.numel() for u in prunable(parent.model(), EXEMPT).values())
    steps = context.train.batch_count(25)
    assert len(result.history) == max(1, epochs)
    for epoch, row in enumerate(result.history, 1):
        wanted = ramp_sparsity(Moment(epoch * steps, len(result.history) * steps), config)
        assert row["sparsity_requested"] == wanted
        assert row["nonzeros"] == total - math.floor(total * wanted + 1e-9)
    last = result.history[-1]
    assert last["nonzeros"] == sum(
        int(u.layer.weight.count_nonzero()) for u in prunable(result.model(), EXEMPT).values()
    )
    assert last["sparsity_achieved"] == pytest.approx(result.metrics["sparsity_achieved"])
    assert last["val_accuracy"] == result.metrics["val_accuracy"]
    assert result.metrics["stopped_early"] == 0


def test_the_shape_of_the_steps(parent: StageResult) -> None:
    def shape(ramp_shape: str) -> list[float]:
        content = {"sparsity": 0.5, "mode": "iterative", "steps": 4, "ramp_shape": ramp_shape}
        config = Sparsify.model_validate({**content, "schedule": Schedule(epochs=0, lr=0.1)})
        result = run_stage(config, make_context(few_digits(), parent_result=parent))
        return [row["sparsity_requested"] for row in result.history]

    assert shape("linear") == pytest.approx([0.125, 0.25, 0.375, 0.5])
    # 0.9 in five cubic steps is 0.8424 at the third: 0.9·(1 − 0.4³)
    assert 0.9 * cubic(3 / 5) == pytest.approx(0.8424)
    assert shape("cubic") == pytest.approx([0.5 * cubic(i / 4) for i in (1, 2, 3, 4)])


def test_zeros_stay_zero_through_quantization_aware_training(parent: StageResult) -> None:
    sparse = run_stage(Sparsify(sparsity=0.7, schedule=ONE), make_context(few_digits(), parent_result=parent))
    schedule = Schedule(epochs=2, lr=0.02, batch_size=25, ema_decay=0.9)
    qat = QuantAwareTrain(kind="qat", scheme=QuantScheme(w_bits=4), schedule=schedule)
    result = run_stage(qat, make_context(few_digits(), parent_result=sparse))
    before, after = weights_in(sparse.state), weights_in(result.state)
    assert zero_share(before) > 0.5
    for name, tensor in before.items():
        assert (after[name][tensor == 0] == 0).all()
        assert not torch.equal(after[name], tensor)


def test_a_network_without_zeros_holds_none() -> None:
    model = make_model(width=0.1)
    rule = HoldZeros(model)
    assert rule.state() == {}
    with torch.no_grad():
        model.classifier.layer.weight[0, 0] = 0
    assert list(HoldZeros(model).state()) == ["classifier"]


def test_masks_that_do_not_hold_are_noticed(parent: StageResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.prune.sparsify.RaiseSparsity._set", lambda self, sparsity: None)
    with pytest.raises(ArtifactMismatch, match=r"0\.0000 of the weights are zero, but 0\.5000 were to be"):
        run_stage(Sparsify(sparsity=0.5, schedule=ONE), make_context(few_digits(), parent_result=parent))


def test_an_imported_network_with_zeros_may_be_sparsified_further(parent: StageResult) -> None:
    once = run_stage(Sparsify(sparsity=0.5, schedule=ONE), make_context(few_digits(), parent_result=parent))
    twice = run_stage(Sparsify(sparsity=0.6, schedule=ONE), make_context(few_digits(), parent_result=once))
    less = run_stage(Sparsify(sparsity=0.2, mode="iterative", steps=1, schedule=ONE),
                     make_context(few_digits(), parent_result=once))  # fmt: skip
    assert twice.metrics["sparsity_achieved"] == pytest.approx(0.6, abs=1e-3)
    assert less.metrics["sparsity_achieved"] == pytest.approx(0.5, abs=1e-3)


def test_a_weight_that_came_back_is_noticed(parent: StageResult, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = run_stage(Sparsify(sparsity=0.5, schedule=ONE), make_context(few_digits(), parent_result=parent))
    monkeypatch.setattr(HoldZeros, "after_step", lambda self, moment: None)
    qat = QuantAwareTrain(kind="qat", scheme=QuantScheme(w_bits=4), schedule=ONE)
    with pytest.raises(ArtifactMismatch, match=r"weights of blocks.* that were zero are not zero after quantization"):
        run_stage(qat, make_context(few_digits(), parent_result=sparse))
    zeros, ones = {"stem": torch.zeros(2, 3)}, {"stem": torch.eye(2, 3)}
    check_zeros(ones, ones, where="here")
    check_zeros(ones, zeros, where="here")
    with pytest.raises(ArtifactMismatch, match="2 weights of stem that were zero are not zero here"):
        check_zeros(zeros, ones, where="here")
