"""Batch norm measured again: on the whole sample, and kept where held-back images have a smaller loss."""

import math

import pytest
import torch
from torch import Tensor, nn

from tests.trainables.factories import few_digits, make_context, make_images, make_model
from trainables.data.images import Images
from trainables.train import batch_norm
from trainables.train.batch_norm import improve_batch_norm_, mean_loss, reestimate_batch_norm_


def trained(images: Images) -> nn.Sequential:
    """A network that has learned the images, with statistics as training leaves them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(8):
        for batch, labels in images.batches(50):
            loss = nn.functional.cross_entropy(model(batch), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_statistics_that_are_better_are_kept() -> None:
    images = make_context(few_digits()).train
    model = trained(images)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.running_mean += 1
        norm.running_var *= 4
    before = mean_loss(model, images)
    improve_batch_norm_(model, images, 300, seed=0)
    assert mean_loss(model, images) < before
    assert norm.momentum == 0.1
    assert not model.training


def test_statistics_that_are_not_finite_are_never_kept() -> None:
    images = make_context(few_digits()).train
    model = trained(images)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        norm.running_var.fill_(math.nan)
    improve_batch_norm_(model, images, 300, seed=0)
    assert math.isfinite(mean_loss(model, images))


def test_statistics_that_are_worse_are_not_kept() -> None:
    images = make_context(few_digits()).train
    model = trained(images)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():  # its weights were learned for statistics that no image gives
        shift = torch.full_like(norm.running_mean, 1.5)
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.running_mean += shift
        norm.bias += gain * shift
    before = state(model)
    improve_batch_norm_(model, images, 300, seed=0)
    assert all(torch.equal(before[name], value) for name, value in state(model).items())


@pytest.mark.parametrize(("count", "images"), [(0, 64), (128, 3)])
def test_no_images_change_nothing(count: int, images: int) -> None:
    model = make_model()
    before = state(model)
    improve_batch_norm_(model, make_images(images), count, seed=0)
    assert all(torch.equal(before[name], value) for name, value in state(model).items())


def test_images_that_decide_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    images, model = make_images(200), make_model()
    seen: dict[str, list[Tensor]] = {"measured": [], "decided": []}
    real = batch_norm.reestimate_batch_norm_

    def measure(model: nn.Module, batches: object) -> None:
        kept = list(batches)  # type: ignore[call-overload]
        seen["measured"] += [batch for batch, _ in kept]
        real(model, iter(kept))

    def loss(_model: nn.Module, images: Images) -> float:
        seen["decided"] += [batch for batch, _ in images.batches(10)]
        return 1.0

    monkeypatch.setattr(batch_norm, "reestimate_batch_norm_", measure)
    monkeypatch.setattr(batch_norm, "mean_loss", loss)
    improve_batch_norm_(model, images, 120, seed=0)
    rows = {name: {tuple(row) for row in torch.cat(found).flatten(1).tolist()} for name, found in seen.items()}
    assert (len(rows["measured"]), len(rows["decided"])) == (120, 50)
    assert not rows["measured"] & rows["decided"]


def test_norms_of_vectors_are_measured_too() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5)).eval()
    images = make_images(64)
    reestimate_batch_norm_(model, images.batches(64))
    out = model(next(images.batches(64))[0])
    torch.testing.assert_close(out.mean(0), torch.zeros(5), rtol=0, atol=1e-3)
