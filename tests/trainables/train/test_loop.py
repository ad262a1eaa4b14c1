import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.stored import content
from tests.trainables.factories import few_digits, make_architecture, make_context, make_images, make_model
from trainables.config import (
    Augment,
    BaselineTrain,
    ChannelPrune,
    Distillation,
    Freezing,
    ModelConfig,
    QuantAwareTrain,
    QuantScheme,
    Schedule,
    Sparsify,
    StageConfig,
)
from trainables.data.images import Images
from trainables.device import choose_device, seed_for, use_threads
from trainables.errors import Diverged
from trainables.models.model import Model, build
from trainables.stages.saved_epochs import SavedEpoch, SavedEpochs
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.storage import StoragePath, exists, names, replace
from trainables.train import batch_norm
from trainables.train.averaging import WeightAverage
from trainables.train.batch_norm import reestimate_batch_norm_
from trainables.train.evaluation import score
from trainables.train.loop import evaluate, evaluated, fit, learning_rate
from trainables.train.loss import distillation
from trainables.train.step_rule import Moment, StepRule

Batch = tuple[torch.Tensor, torch.Tensor]
MODEL = ModelConfig(width=0.1, dropout=0.1)
THREE = Schedule(epochs=3, lr=0.05, batch_size=50)
GENTLE = Schedule(epochs=3, lr=0.001, batch_size=50)


class Killed(Exception):
    """Stands for SIGKILL right after a checkpoint was written."""


class MortalEpochs(SavedEpochs):
    """Dies after the checkpoint of one epoch."""

    def __init__(self, folder: Path, last: int) -> None:
        super().__init__(folder)
        self._last = last

    def save(self, saved: SavedEpoch) -> None:
        super().save(saved)
        if len(saved.history) == self._last:
            raise Killed

    def phase(self, number: int) -> SavedEpochs:
        folder = super().phase(number)._folder
        assert folder is not None
        return MortalEpochs(folder, self._last)


def stages() -> dict[str, StageConfig]:
    scheme = QuantScheme(w_bits=3, a_bits=4)
    qat = QuantAwareTrain(kind="qat", scheme=scheme, schedule=GENTLE, calibration_images=64, bn_images=64)
    extras = {
        "freezing": Freezing(threshold_start=0.01, threshold_end=0.001, start=0.1, momentum=0.1),
        "freeze_steps_after": 0.5,
        "guard_channels": True,
    }
    averaged = {"ema_decay": 0.9, "distill": Distillation()}
    return {
        "baseline": BaselineTrain(model=MODEL, schedule=THREE),
        "baseline by adam": BaselineTrain(model=MODEL, schedule=changed(THREE, optimizer="adam", lr=0.001)),
        "best epoch": BaselineTrain(model=MODEL, schedule=changed(THREE, keep="best")),
        "prune": ChannelPrune(prune_frac=0.3, fine_tune=changed(THREE, **averaged)),
        "sparsify": Sparsify(sparsity=0.5, schedule=THREE),
        "sparsify in steps": Sparsify(sparsity=0.5, mode="iterative", steps=2, schedule=THREE),
        "qat": qat,
        "qat with everything": changed(qat, schedule=changed(GENTLE, **averaged), **extras),
        "qat in phases": changed(qat, progressive_bits=(8,), progressive_epochs=3),
    }


def changed(config: Any, **changes: Any) -> Any:
    """A checked copy."""
    return type(config).model_validate({**config.model_dump(), **changes})


@pytest.fixture(scope="module")
def parent() -> StageResult:
    # Enough steps for batch norm's running statistics: a parent without them calibrates to nonsense.
    schedule = Schedule(epochs=3, lr=0.02, batch_size=10)
    return run_stage(BaselineTrain(model=MODEL, schedule=schedule), make_context(few_digits()))


@pytest.mark.parametrize("name", stages())
def test_a_run_that_was_interrupted_ends_bit_for_bit_as_one_that_was_not(
    name: str, parent: StageResult, tmp_path: Path
) -> None:
    config, data = stages()[name], few_digits()
    augment = Augment(crop_padding=1, flip=True, cutout=2)

    def run(saved_epochs: SavedEpochs) -> StageResult:
        context = make_context(
            data, saved_epochs, augment=augment, seed=5, parent_result=parent, find_teacher=lambda: parent
        )
        return run_stage(config, context)

    whole = run(SavedEpochs(None))
    deaths = 0
    for last in (1, 2, 3, 1, 2, 3, 1, 2, 3):  # each phase is killed after each of its epochs
        with contextlib.suppress(Killed):
            run(MortalEpochs(tmp_path, last))
            break
        deaths += 1
    assert deaths == len(whole.history)
    continued = run(SavedEpochs(tmp_path))
    assert all(torch.equal(whole.state[name], tensor) for name, tensor in continued.state.items())
    assert whole.metrics == continued.metrics

    def without_time(result: StageResult) -> list[dict[str, float]]:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]

    assert without_time(whole) == without_time(continued)
    assert {row["epoch"] for row in continued.history} == {1, 2, 3}


def test_the_result_follows_the_seed(parent: StageResult) -> None:
    def weights(seed: int) -> torch.Tensor:
        config = BaselineTrain(model=MODEL, schedule=Schedule(epochs=1, lr=0.05, batch_size=100))
        return run_stage(config, make_context(few_digits(), seed=seed)).state["classifier.layer.weight"]

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_training_lowers_the_loss() -> None:
    schedule = Schedule(epochs=8, lr=0.02, batch_size=25)
    torch.manual_seed(0)
    model = build(make_architecture(width=0.1))
    history = fit(model, schedule, make_context(few_digits(), augment=Augment(crop_padding=0)))
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert history[-1]["train_accuracy"] > 0.4
    assert all(math.isfinite(value) for row in history for value in row.values())


def test_every_epoch_and_every_seed_has_its_own_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    shuffled = Images.shuffled

    def spy(images: Images, size: int, augment: Augment, generator: torch.Generator) -> Iterator[Batch]:
        seen.append(generator.initial_seed())
        return shuffled(images, size, augment, generator)

    monkeypatch.setattr(Images, "shuffled", spy)
    for seed in (0, 0, 1):
        fit(build(make_architecture(width=0.1)), GENTLE, make_context(few_digits(60), seed=seed))
    assert seen[:3] == seen[3:6]
    assert len(set(seen)) == 6


def test_no_epochs_change_nothing() -> None:
    model = make_model(width=0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert fit(model, Schedule(epochs=0, lr=1.0), make_context(few_digits())) == []
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def break_weights(model: Model) -> None:
    torch.nn.init.constant_(model.classifier.layer.weight, float("nan"))


def grow_weights(model: Model) -> None:
    torch.nn.init.constant_(model.classifier.layer.weight, 1e38)


@pytest.mark.parametrize("spoil", [break_weights, grow_weights])
def test_a_loss_that_is_not_finite_is_a_divergence(spoil: Callable[[Model], None], tmp_path: Path) -> None:
    model = make_model(width=0.1)
    spoil(model)
    with pytest.raises(Diverged, match=r"the loss of epoch 1 is (nan|inf): lower the learning rate \(0.05\)"):
        fit(model, THREE, make_context(few_digits(), SavedEpochs(tmp_path)))
    assert list(tmp_path.iterdir()) == []


class Spoiled(StepRule):
    """Makes a weight infinite in the very last step."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def after_step(self, moment: Moment) -> None:
        if moment.step == moment.total:
            next(self.model.parameters()).data.view(-1)[0] = math.inf


def test_a_weight_that_is_not_finite_after_the_last_step_is_a_divergence(tmp_path: Path) -> None:
    model = make_model(width=0.1)
    with pytest.raises(Diverged, match=r"after epoch 3 a weight is not finite: lower the learning rate \(0.05\)"):
        fit(model, THREE, make_context(few_digits(), SavedEpochs(tmp_path)), rules=[Spoiled(model)])


def test_learning_rate_rises_and_falls() -> None:
    schedule = Schedule(epochs=10, lr=2.0, warmup_epochs=2)
    assert learning_rate(schedule, 0) == pytest.approx(0, abs=0.01)
    assert learning_rate(schedule, 1) == pytest.approx(1, abs=0.01)
    assert learning_rate(schedule, 2) == 2
    assert learning_rate(schedule, 6) == pytest.approx(1)
    assert learning_rate(schedule, 10) == pytest.approx(0)
    rates = [learning_rate(schedule, e / 10) for e in range(20, 101)]
    assert rates == sorted(rates, reverse=True)
    assert learning_rate(Schedule(epochs=1, lr=1, warmup_epochs=1), 1.0) == 1
    floored = schedule.model_copy(update={"min_lr": 0.5})
    assert learning_rate(floored, 2) == 2
    assert learning_rate(floored, 6) == pytest.approx(1.25)
    assert learning_rate(floored, 10) == pytest.approx(0.5)


def test_evaluate_counts_right_answers() -> None:
    images = make_images(70)
    model = make_model(width=0.1).train()
    with torch.no_grad():
        logits = torch.cat([model.eval()(x) for x, _ in images.batches(7)])
    assert evaluate(model.train(), images) == int((logits.argmax(1) == images.labels).sum()) / 70
    assert not model.training


def test_a_stage_without_a_handler_is_an_error_of_ours() -> None:
    with pytest.raises(TypeError, match="no stage is registered for int"):
        run_stage(3, make_context(few_digits()))


def test_seeds_of_places_differ() -> None:
    # A trailing zero makes no difference to NumPy's seed sequences; no place but the first ends with one.
    seeds = [seed_for(s, *p) for s in range(5) for p in [(0,), (3,), (4,), (0, 1), (0, 2), (1, 1), (1, 2), (3, 1)]]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= s < 2**63 for s in seeds)
    assert seed_for(3, 1, 2) == seed_for(3, 1, 2)


def test_without_a_share_of_a_gpu_the_device_is_the_cpu() -> None:
    device = choose_device(0)
    assert device.torch.type == "cpu"
    assert device.name == "cpu"
    model = device.place(make_model())
    assert model.stem.layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_threads_follow_the_share() -> None:
    before = torch.get_num_threads()
    try:
        use_threads(2.5)
        assert torch.get_num_threads() == 2
        use_threads(0.3)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def saved(epochs: int) -> SavedEpoch:
    return SavedEpoch({"a": torch.full((100,), float(epochs)), "b": torch.tensor(epochs)}, [{"epoch": 1.0}] * epochs)


def test_progress_keeps_the_two_newest(storage: StoragePath) -> None:
    saved_epochs = SavedEpochs(storage / "key")
    assert saved_epochs.load() is None
    for epochs in (8, 9, 10, 11):
        saved_epochs.save(saved(epochs))
    assert [name[:12] for name in names(storage / "key", "*")] == ["epoch-000010", "epoch-000011"]
    found = SavedEpochs(storage / "key").load()
    assert found is not None
    assert len(found.history) == 11
    assert found.tensors["a"][0] == 11
    assert found.tensors["b"] == 11
    saved_epochs.clear()
    assert saved_epochs.load() is None
    assert not exists(storage / "key")


def test_progress_falls_back_to_the_checkpoint_before(tmp_path: Path) -> None:
    saved_epochs = SavedEpochs(tmp_path)
    saved_epochs.save(saved(1))
    saved_epochs.save(saved(2))
    newest = max(tmp_path.iterdir())
    content = newest.read_bytes()
    damages = [content[:n] for n in range(0, len(content), 13)]
    for place in range(0, len(content), 13):
        damages.append(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
    for damaged in damages:
        newest.write_bytes(damaged)
        found = saved_epochs.load()
        assert found is not None
        assert len(found.history) == 1
    newest.write_bytes(content)
    found = saved_epochs.load()
    assert found is not None
    assert len(found.history) == 2


def test_without_an_intact_checkpoint_training_begins_anew(storage: StoragePath) -> None:
    saved_epochs = SavedEpochs(storage)
    for epochs in (1, 2):
        saved_epochs.save(saved(epochs))
    for name, found in content(storage).items():
        replace(storage / name, found[:-1])
    assert saved_epochs.load() is None


def test_progress_reads_no_other_files(tmp_path: Path) -> None:
    saved_epochs = SavedEpochs(tmp_path)
    saved_epochs.save(saved(1))
    content = next(tmp_path.iterdir()).read_bytes()
    (tmp_path / ".draft-0123").write_bytes(content)
    (tmp_path / "epoch-000009.safetensors").write_bytes(content)
    (tmp_path / "notes.txt").touch()
    found = saved_epochs.load()
    assert found is not None
    assert len(found.history) == 1


def test_progress_without_a_folder_keeps_nothing() -> None:
    saved_epochs = SavedEpochs(None)
    saved_epochs.save(saved(1))
    assert saved_epochs.load() is None
    saved_epochs.clear()


def test_the_rate_falls_in_steps_or_not_at_all() -> None:
    steps = Schedule(epochs=10, lr=1.0, decay="step", step_epochs=4, step_factor=0.1)
    assert [learning_rate(steps, e) for e in (0, 3.9, 4, 8, 9.9)] == pytest.approx([1, 1, 0.1, 0.01, 0.01])
    constant = Schedule(epochs=10, lr=0.5, decay="constant", warmup_epochs=1)
    assert [learning_rate(constant, e) for e in (1, 5, 9.9)] == [0.5] * 3
    assert learning_rate(constant, 0.5) == pytest.approx(0.25, abs=0.01)


class ForgetsAtLast(StepRule):
    """Sets the classifier to zero in the last third of a run: whatever the processor, the end is then no good."""

    def __init__(self, model: Model) -> None:
        self._classifier = model.get_submodule("classifier.layer")

    def after_step(self, moment: Moment) -> None:
        if moment.share > 2 / 3:
            with torch.no_grad():
                for parameter in self._classifier.parameters():
                    parameter.zero_()


def test_the_loss_of_an_epoch_on_validation_images_comes_from_the_same_pass() -> None:
    """That of `score`: also with smoothed labels, where the training loss is another one."""
    torch.manual_seed(0)
    model = build(make_architecture(width=0.1))
    context, passes = make_context(few_digits()), list[int]()
    model.register_forward_hook(lambda module, args, _: None if module.training else passes.append(len(args[0])))
    schedule = Schedule(epochs=2, lr=0.05, batch_size=50, label_smoothing=0.2)
    history = fit(model, schedule, context)
    assert sum(passes) == 2 * len(context.val)
    assert history[-1]["val_loss"] == pytest.approx(score(model, context.val).cross_entropy)
    assert history[0]["val_loss"] != history[-1]["val_loss"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_left_out(bad: float) -> None:
    model, images = build(make_architecture(width=0.1)), make_context(few_digits()).val
    assert set(evaluated(model, images)) == {"val_accuracy", "val_loss"}
    with torch.no_grad():
        model.classifier.layer.bias[0] = bad
    assert set(evaluated(model, images)) == {"val_accuracy"}


def test_steps_without_training_say_the_loss_too(parent: StageResult) -> None:
    none = Schedule(epochs=0, lr=0.05)
    context = make_context(few_digits(), parent_result=parent)
    for config in (
        ChannelPrune(prune_frac=0.3, fine_tune=none),
        Sparsify(sparsity=0.5, schedule=none),
        Sparsify(sparsity=0.5, mode="iterative", steps=2, schedule=none),
    ):
        result = run_stage(config, context)
        last = result.history[-1]
        found = score(context.device.place(result.model()), context.val)
        assert (last["val_accuracy"], last["val_loss"]) == (found.accuracy, pytest.approx(found.cross_entropy))


def test_an_older_run_goes_on_without_the_losses_that_it_did_not_measure(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build(make_architecture(width=0.1))
    kept = SavedEpochs(tmp_path)
    context = dataclasses.replace(make_context(few_digits()), saved_epochs=kept)
    fit(model, Schedule(epochs=1, lr=0.05, batch_size=50), context)
    saved = kept.load()
    assert saved is not None
    kept.save(SavedEpoch(saved.tensors, [{n: v for n, v in row.items() if n != "val_loss"} for row in saved.history]))
    for path in tmp_path.glob("*.safetensors"):
        if b"val_loss" in path.read_bytes():
            path.unlink()
    first, second = fit(model, Schedule(epochs=2, lr=0.05, batch_size=50), context)
    assert ("val_loss" in first, "val_loss" in second) == (False, True)


def test_the_best_epoch_is_kept() -> None:
    schedule = Schedule(epochs=9, lr=0.1, batch_size=25, keep="best", decay="constant")
    torch.manual_seed(0)
    model = build(make_architecture(width=0.1))
    context = make_context(few_digits())
    history = fit(model, schedule, context, rules=[ForgetsAtLast(model)])
    accuracies = [row["val_accuracy"] for row in history]
    assert accuracies[-1] < max(accuracies)
    assert evaluate(model, context.val) == max(accuracies)


def averaged(context: StageContext, ema_decay: float = 0.9) -> Model:
    torch.manual_seed(0)
    model = build(make_architecture(width=0.1))
    fit(model, Schedule(epochs=2, lr=0.05, batch_size=50, ema_decay=ema_decay), context)
    return model


def test_averaged_weights_are_the_result_with_batch_norm_of_their_own() -> None:
    context = make_context(few_digits())
    plain, average = averaged(context, 0.0).state_dict(), averaged(context).state_dict()
    assert not torch.equal(plain["classifier.layer.weight"], average["classifier.layer.weight"])
    again = build(make_architecture(width=0.1))
    again.load_state_dict(average)
    reestimate_batch_norm_(again, context.train.sample(2048, 0).batches(512))
    for name, tensor in again.state_dict().items():
        if name.endswith("running_mean"):
            torch.testing.assert_close(tensor, average[name], rtol=1e-3, atol=1e-4)


def test_after_a_parent_averaged_weights_keep_statistics_that_are_better(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = StageResult(make_architecture(width=0.1), None, {}, {}, [])
    context, states = make_context(few_digits(), parent_result=parent), {}
    for name, ema_decay, losses in (("plain", 0.0, ()), ("better", 0.9, (0.2, 0.1)), ("worse", 0.9, (0.2, 0.3))):
        found = iter(losses)
        monkeypatch.setattr(batch_norm, "mean_loss", lambda *_, found=found: next(found))
        states[name] = averaged(context, ema_decay).state_dict()
    plain, better, worse = states.values()
    for name in plain:
        statistic = name.endswith(("running_mean", "running_var"))
        assert torch.equal(better[name], worse[name]) is not statistic or name.endswith("tracked"), name
        assert torch.equal(plain[name], worse[name]) is statistic or name.endswith("tracked"), name


def test_the_average_is_that_of_the_formula() -> None:
    model = torch.nn.Linear(1, 1)
    average = WeightAverage(model, 0.8)
    expected = model.weight.item()
    for count in range(60):
        torch.nn.init.constant_(model.weight, float(count))
        average.update()
        decay = min(0.8, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * count
    average.copy_to_model_()
    assert model.weight.item() == pytest.approx(expected)


def test_distillation_is_the_divergence_from_the_teacher() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(5, 4, generator=generator), torch.randn(5, 4, generator=generator)
    p, q = (torch.softmax(x.double() / 3, 1) for x in (teacher, student))
    expected = 9 * (p * (p / q).log()).sum(1).mean()
    assert float(distillation(student, teacher, 3.0)) == pytest.approx(float(expected), rel=1e-5)
    assert float(distillation(teacher, teacher, 3.0)) == pytest.approx(0, abs=1e-6)


def test_a_student_moves_towards_its_teacher(parent: StageResult) -> None:
    """Trained on the teacher alone, the student agrees with it more than one that learns from labels."""
    data = few_digits()
    wrong = dataclasses.replace(data, train=dataclasses.replace(data.train, labels=data.train.labels[::-1].copy()))
    agreement = {}
    for weight in (None, 1.0):
        schedule = Schedule(
            epochs=4, lr=0.01, batch_size=25, distill=None if weight is None else Distillation(weight=weight)
        )
        context = make_context(wrong, parent_result=parent, find_teacher=lambda: parent)
        student = context.parent_model()
        fit(student, schedule, context)
        images = next(context.val.batches(50))[0]
        with torch.no_grad():
            answers = context.teacher()(images).argmax(1)
            agreement[weight] = float((student.eval()(images).argmax(1) == answers).float().mean())
    assert agreement[1.0] > agreement[None] + 0.2
