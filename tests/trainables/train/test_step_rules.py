"""Step rules over many layers at once: what they compute, and that no training step waits for a GPU."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.trainables.factories import few_digits, make_context, make_images, make_model, make_quantized
from trainables.config import (
    Augment,
    BaselineTrain,
    Distillation,
    Freezing,
    ModelConfig,
    QuantAwareTrain,
    QuantScheme,
    Schedule,
    Sparsify,
)
from trainables.data.images import Images
from trainables.device import Device
from trainables.models.attach import weight_quantizer
from trainables.models.units import Unit, units
from trainables.prune import masks, sparsify
from trainables.prune.masks import HoldZeros
from trainables.quant import freezing, guard, lsq
from trainables.quant.freezing import FreezeOscillations
from trainables.quant.guard import GuardChannels
from trainables.stages.stage import StageResult, run_stage
from trainables.train import loop
from trainables.train.step_rule import Moment, StepRule

MIXED = {"w_bits": 3, "w_bits_by_group": {"depthwise": 4, "projection": 2}}
STEPS = 12
READS = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "masked_select", "_unique2"}
"""Operators whose result, or its shape, the host waits for."""


class SlowFreezing:
    """Algorithm 1 of arXiv 2203.11086, layer by layer, each operation a pass of its own."""

    def __init__(self, model: nn.Module, config: Freezing) -> None:
        self.config = config
        named = {name: unit for name, unit in units(model).items() if unit.weight_point.quantizer is not None}
        self.units = {name: unit for name, unit in named.items() if weight_quantizer(unit).bits <= config.max_bits}
        self.kinds: dict[str, Tensor] = {}
        for name, unit in self.units.items():
            codes = self.codes(unit)
            self.kinds |= {f"{name}.code": codes, f"{name}.average": codes.clone()}
            self.kinds |= {f"{name}.{kind}": torch.zeros_like(codes) for kind in ("direction", "frequency")}
            self.kinds[f"{name}.frozen"] = torch.zeros_like(codes, dtype=torch.bool)

    @staticmethod
    def codes(unit: Unit) -> Tensor:
        quantizer, weight = weight_quantizer(unit), unit.layer.weight.detach()
        return (weight / quantizer.safe_step().detach()).clamp(-quantizer.qn, quantizer.qp).round()

    @torch.no_grad()
    def after_step(self, moment: Moment) -> None:
        config, share = self.config, moment.share
        for name, unit in self.units.items():
            last, frozen = self.kinds[f"{name}.code"], self.kinds[f"{name}.frozen"]
            direction, frequency, average = (self.kinds[f"{name}.{k}"] for k in ("direction", "frequency", "average"))
            codes = torch.where(frozen, last, self.codes(unit))
            change = (codes - last).sign()
            frequency.lerp_((change * direction < 0).float(), config.momentum)
            average.lerp_(codes, config.momentum)
            direction.copy_(torch.where(change == 0, direction, change))
            last.copy_(codes)
            if share > config.start:
                fall = 0.5 * (1 + math.cos(math.pi * (share - config.start) / (1 - config.start)))
                threshold = config.threshold_end + (config.threshold_start - config.threshold_end) * fall
                new = (frequency > threshold) & ~frozen
                last.copy_(torch.where(new, average.round(), last))
                frozen |= new
            kept = last * weight_quantizer(unit).safe_step()
            unit.layer.weight.copy_(torch.where(frozen, kept, unit.layer.weight))


@torch.no_grad()
def revive_slowly_(model: nn.Module) -> int:
    """One channel after another; returns how many had only zero codes."""
    count = 0
    for unit in units(model).values():
        quantizer = weight_quantizer(unit)
        codes = quantizer.codes(unit.layer.weight)
        steps = quantizer.safe_step().flatten().expand(len(codes))
        for row, code, step in zip(unit.layer.weight, codes, steps, strict=True):
            place = tuple(int(i) for i in torch.unravel_index(row.abs().argmax(), row.shape))
            if bool((code == 0).all()) and row[place] != 0:
                row[place] = row[place].sign() * step
                count += 1
    return count


@pytest.fixture(params=["groups of a cache", "all at once", "one by one"])
def grouping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How a CPU, a GPU and large layers are served."""
    ways: dict[str, Callable[..., list[dict[str, Tensor]]]] = {
        "all at once": lambda weights, **options: [dict(weights)] if weights else [],
        "one by one": lambda weights, **options: [{name: weight} for name, weight in weights.items()],
    }
    for module in (freezing, guard, masks) if request.param in ways else ():
        monkeypatch.setattr(module, "together", ways[request.param])


def make_pair(name: str, granularity: str) -> tuple[nn.Module, nn.Module]:
    """Two equal networks with channels that are zero, or all but, in the layout of training."""
    pair = tuple(make_quantized(name, granularity=granularity, **MIXED) for _ in range(2))
    for model in pair:
        model.to(memory_format=torch.channels_last)
        with torch.no_grad():
            for unit in units(model).values():
                unit.layer.weight[0] = 0.0
                unit.layer.weight[1] *= 0.01 * weight_quantizer(unit).safe_step().min()
    return pair[0], pair[1]


def shake_(model: nn.Module, seed: int) -> None:
    """Moves every weight and every step, as an optimizer would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for unit in units(model).values():
            quantizer = weight_quantizer(unit)
            noise = torch.randn(unit.layer.weight.shape, generator=generator)
            unit.layer.weight.add_(0.5 * quantizer.safe_step() * noise)
            quantizer.step.mul_(1 + 0.01 * torch.randn(quantizer.step.shape, generator=generator))


def same(one: nn.Module, other: nn.Module) -> bool:
    """Bit for bit: -0.0 is not 0.0."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(a.contiguous().numpy().tobytes() == b.contiguous().numpy().tobytes() for a, b in pairs)


@pytest.mark.usefixtures("grouping")
@pytest.mark.parametrize("momentum", [0.1, 0.7])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("name", ["mobilenet_v2", "vgg16"])
def test_freezing_is_that_of_every_layer_alone(name: str, granularity: str, momentum: float) -> None:
    model, slow_model = make_pair(name, granularity)
    config = Freezing(threshold_start=0.2, threshold_end=0.05, start=0.3, momentum=momentum, max_bits=3)
    rule, slow = FreezeOscillations(model, config), SlowFreezing(slow_model, config)
    shares = []
    for step in range(1, STEPS + 1):
        shake_(model, step)
        shake_(slow_model, step)
        rule.after_step(Moment(step, STEPS))
        slow.after_step(Moment(step, STEPS))
        assert same(model, slow_model)
        shares.append(rule.frozen_share())
        if step == STEPS // 2:
            saved = {name: tensor.clone() for name, tensor in rule.state().items()}
            rule = FreezeOscillations(model, config)
            rule.load(saved)
    state = rule.state()
    assert set(state) == set(slow.kinds)
    for key, tensor in slow.kinds.items():
        assert state[key].dtype == tensor.dtype
        assert state[key].shape == tensor.shape
        assert torch.equal(state[key], tensor)
    assert shares[2] == 0 < shares[STEPS // 2 - 1] < shares[-1] < 1


@pytest.mark.usefixtures("grouping")
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("name", ["mobilenet_v2", "vgg16"])
def test_guarded_channels_are_those_of_every_layer_alone(name: str, granularity: str) -> None:
    model, slow_model = make_pair(name, granularity)
    GuardChannels(model).after_step()
    assert revive_slowly_(slow_model) >= len(units(model))
    assert same(model, slow_model)


@pytest.mark.usefixtures("grouping")
def test_zeros_are_held_in_every_layer_that_has_some() -> None:
    model, slow_model = (make_model().to(memory_format=torch.channels_last) for _ in range(2))
    named, slow_named = units(model), units(slow_model)
    sparse = [name for name in named if "depthwise" not in name]
    with torch.no_grad():
        for name in sparse:
            named[name].layer.weight[:, 0] = 0.0
    rule = HoldZeros(model)
    randomise_weights_(model)
    randomise_weights_(slow_model)
    rule.after_step(Moment(1, 2))
    with torch.no_grad():
        for name in sparse:
            slow_named[name].layer.weight[:, 0] = 0.0
    assert same(model, slow_model)
    again = HoldZeros(model)
    again.load({name: torch.ones_like(zero) for name, zero in rule.state().items()})
    again.after_step(Moment(1, 2))
    assert [name for name, unit in named.items() if not unit.layer.weight.any()] == sparse


def randomise_weights_(model: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for unit in units(model).values():
            unit.layer.weight.copy_(torch.randn(unit.layer.weight.shape, generator=generator))


class NoHostReads(TorchDispatchMode):
    """Forbids what makes the host wait for a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in READS:
            raise AssertionError(f"a training step reads the device: {func}")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every training step runs as on a GPU and under `NoHostReads`; holds how many there were."""
    found: list[int] = []
    step, make_masks = loop._Run._step, sparsify.make_masks

    def watched(self: Any, *args: Any) -> Any:
        found.append(len(found))
        with NoHostReads():
            return step(self, *args)

    def unwatched(*args: Any, **options: Any) -> Any:
        with torch.utils._python_dispatch._disable_current_modes():  # reads once for each new mask
            return make_masks(*args, **options)

    monkeypatch.setattr(loop._Run, "_step", watched)
    monkeypatch.setattr(sparsify, "make_masks", unwatched)
    monkeypatch.setattr(lsq, "is_dense", lambda values: False)
    return found


@pytest.fixture(scope="module")
def parent() -> StageResult:
    schedule = Schedule(epochs=1, lr=0.02, batch_size=10)
    return run_stage(BaselineTrain(model=ModelConfig(width=0.1), schedule=schedule), make_context(few_digits()))


def test_no_training_step_waits_for_the_device(parent: StageResult, steps: list[int]) -> None:
    schedule = Schedule(epochs=2, lr=0.002, batch_size=50, ema_decay=0.9, distill=Distillation())
    for mode in ("iterative", "gradual"):
        sparse_config = Sparsify(sparsity=0.5, mode=mode, steps=2, schedule=schedule)
        sparse = run_stage(sparse_config, make_context(few_digits(), parent_result=parent, find_teacher=lambda: parent))
    config = QuantAwareTrain(
        kind="qat",
        scheme=QuantScheme(w_bits=3, a_bits=4),
        schedule=schedule,
        freezing=Freezing(threshold_start=0.01, threshold_end=0.001, start=0.1, momentum=0.1),
        freeze_steps_after=0.5,
        guard_channels=True,
        bn_images=64,
        calibration_images=64,
    )
    run_stage(config, make_context(few_digits(), parent_result=sparse, find_teacher=lambda: parent))
    assert len(steps) == (2 + 1 + 1) * 2 * 4


def test_a_rule_that_reads_is_noticed(steps: list[int]) -> None:
    class Reads:
        def after_step(self, moment: Moment) -> None:
            float(torch.ones(()))

        def state(self) -> dict[str, Tensor]:
            return {}

        def load(self, state: object) -> None: ...

    rules: list[StepRule] = [Reads()]
    schedule = Schedule(epochs=1, lr=0.002, batch_size=50)
    with pytest.raises(AssertionError, match="reads the device"):
        loop.fit(make_model(width=0.1), schedule, make_context(few_digits()), rules=rules)


def test_the_teacher_is_compiled_with_its_student(parent: StageResult, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []

    def noted(self: Device, model: nn.Module) -> nn.Module:
        compiled.append(model)
        return model

    monkeypatch.setattr(Device, "compiled", noted)
    context = make_context(few_digits(), parent_result=parent, find_teacher=lambda: parent)
    student = context.parent_model()
    loop.fit(student, Schedule(epochs=0, lr=0.1, distill=Distillation()), context)
    teacher = next(model for model in compiled if model is not student)
    assert student in compiled
    assert not teacher.training
    assert all(torch.equal(t, parent.state[name]) for name, t in teacher.state_dict().items())


def test_batches_are_moved_to_the_device_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[bool] = []
    move = torch.Tensor.to

    def noted(self: Tensor, *args: Any, **options: Any) -> Tensor:
        if args and isinstance(args[0], torch.device):
            moves.append(options.get("non_blocking", False))
        return move(self, *args, **options)

    images: Images = make_images(20)
    monkeypatch.setattr(torch.Tensor, "to", noted)
    augment = Augment(crop_padding=1, flip=True, rotation_degrees=5, cutout=2, erasing=0.5)
    for _ in images.shuffled(10, augment, torch.Generator().manual_seed(0)):
        pass
    assert len(moves) > 10
    assert all(moves)
