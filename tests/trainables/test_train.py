import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.trainables.factories import few_digits, make_architecture, make_context, make_images, make_model
from trainables.config import (
    Augment,
    BaselineTrain,
    ChannelPrune,
    ModelConfig,
    QuantAwareTrain,
    QuantScheme,
    Schedule,
    StageConfig,
)
from trainables.data import Images
from trainables.device import choose_device, seed_for, use_threads
from trainables.errors import Diverged
from trainables.models.model import Model, build
from trainables.progress import Progress, SavedEpoch
from trainables.stage import StageResult, run_stage
from trainables.train import evaluate, fit, learning_rate

Batch = tuple[torch.Tensor, torch.Tensor]
MODEL = ModelConfig(width=0.1, dropout=0.1)
THREE = Schedule(epochs=3, lr=0.05, batch_size=50)
GENTLE = Schedule(epochs=3, lr=0.001, batch_size=50)


class Killed(Exception):
    """Stands for SIGKILL right after a checkpoint was written."""


class MortalProgress(Progress):
    """Dies after the checkpoint of one epoch."""

    def __init__(self, folder: Path, last: int) -> None:
        super().__init__(folder)
        self._last = last

    def save(self, saved: SavedEpoch) -> None:
        super().save(saved)
        if len(saved.history) == self._last:
            raise Killed


def stages() -> dict[str, StageConfig]:
    scheme = QuantScheme(w_bits=3, a_bits=4)
    return {
        "baseline": BaselineTrain(model=MODEL, schedule=THREE),
        "prune": ChannelPrune(prune_frac=0.3, fine_tune=THREE),
        "qat": QuantAwareTrain(kind="qat", scheme=scheme, schedule=GENTLE, calibration_images=64, bn_images=64),
    }


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

    def run(progress: Progress) -> StageResult:
        context = make_context(data, progress, augment=augment, seed=5, parent_result=parent)
        return run_stage(config, context)

    whole = run(Progress(None))
    for last in (1, 2, 3):
        with pytest.raises(Killed):
            run(MortalProgress(tmp_path, last))
    continued = run(Progress(tmp_path))
    assert all(torch.equal(whole.state[name], tensor) for name, tensor in continued.state.items())
    assert whole.metrics == continued.metrics

    def without_time(result: StageResult) -> list[dict[str, float]]:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]

    assert without_time(whole) == without_time(continued)
    assert [row["epoch"] for row in continued.history] == [1, 2, 3]


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
        fit(model, THREE, make_context(few_digits(), Progress(tmp_path)))
    assert list(tmp_path.iterdir()) == []


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


def test_progress_keeps_the_two_newest(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "key")
    assert progress.load() is None
    for epochs in (8, 9, 10, 11):
        progress.save(saved(epochs))
    assert len(list((tmp_path / "key").iterdir())) == 2
    found = Progress(tmp_path / "key").load()
    assert found is not None
    assert len(found.history) == 11
    assert found.tensors["a"][0] == 11
    assert found.tensors["b"] == 11
    progress.clear()
    assert progress.load() is None
    assert not (tmp_path / "key").exists()


def test_progress_falls_back_to_the_checkpoint_before(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    progress.save(saved(1))
    progress.save(saved(2))
    newest = max(tmp_path.iterdir())
    content = newest.read_bytes()
    damages = [content[:n] for n in range(0, len(content), 13)]
    for place in range(0, len(content), 13):
        damages.append(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
    for damaged in damages:
        newest.write_bytes(damaged)
        found = progress.load()
        assert found is not None
        assert len(found.history) == 1
    newest.write_bytes(content)
    found = progress.load()
    assert found is not None
    assert len(found.history) == 2


def test_without_an_intact_checkpoint_training_begins_anew(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    for epochs in (1, 2):
        progress.save(saved(epochs))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert progress.load() is None


def test_progress_reads_no_other_files(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    progress.save(saved(1))
    content = next(tmp_path.iterdir()).read_bytes()
    (tmp_path / ".draft-0123").write_bytes(content)
    (tmp_path / "epoch-000009.safetensors").write_bytes(content)
    (tmp_path / "notes.txt").touch()
    found = progress.load()
    assert found is not None
    assert len(found.history) == 1


def test_progress_without_a_folder_keeps_nothing() -> None:
    progress = Progress(None)
    progress.save(saved(1))
    assert progress.load() is None
    progress.clear()
