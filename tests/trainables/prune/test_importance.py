from collections.abc import Iterable, Sequence

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.trainables.factories import inner_groups, make_images, make_model
from trainables.config import IMPORTANCE
from trainables.models.model import Model
from trainables.models.prune_groups import PruneGroup
from trainables.models.units import units
from trainables.prune.importance import Batch, Criterion, Score, channel_bytes, unchanged
from trainables.testing.importance import ImportanceContract

WHOLE_NETWORKS = True


class TestEveryCriterion(ImportanceContract):
    @pytest.fixture(autouse=True, params=IMPORTANCE.names())
    def _criterion(self, request: pytest.FixtureRequest) -> None:
        self.criterion = IMPORTANCE[request.param]


Groups = Sequence[PruneGroup]
Scores = dict[str, torch.Tensor]


def by_place(model: Model, groups: Groups, *, batches: Iterable[Batch], seed: int) -> Scores:
    return {g.name: torch.arange(float(len(units(model)[g.source].layer.weight))) for g in groups}


def of_global_random_numbers(model: Model, groups: Groups, *, batches: Iterable[Batch], seed: int) -> Scores:
    return {name: score + torch.rand(()) for name, score in l1(model, groups)}


def l1(model: Model, groups: Groups) -> list[tuple[str, torch.Tensor]]:
    return list(IMPORTANCE["l1"].score(model, groups, batches=[], seed=0).items())


def missing_a_group(model: Model, groups: Groups, *, batches: Iterable[Batch], seed: int) -> Scores:
    return dict(l1(model, groups)[1:])


def keeping_the_smallest(model: Model, groups: Groups, *, batches: Iterable[Batch], seed: int) -> Scores:
    return {name: score.max() - score for name, score in l1(model, groups)}


def leaving_gradients(model: Model, groups: Groups, *, batches: Iterable[Batch], seed: int) -> Scores:
    for images, labels in batches:
        F.cross_entropy(model(images), labels).backward()
    return dict(l1(model, groups))


def training(model: Model, groups: Groups, *, batches: Iterable[Batch], seed: int) -> Scores:
    model(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))  # moves statistics in training mode
    return dict(l1(model, groups))


def alike(model: Model, groups: Groups, *, batches: Iterable[Batch], seed: int) -> Scores:
    return {name: torch.ones_like(score) for name, score in l1(model, groups)}


@pytest.mark.parametrize(
    ("score", "fails"),
    [
        (by_place, "test_scores_move_with_their_channels"),
        (by_place, "test_a_channel_of_zeros_scores_lowest"),
        (of_global_random_numbers, "test_equal_seeds_give_equal_scores"),
        (of_global_random_numbers, "test_scoring_changes_nothing"),
        (missing_a_group, "test_every_channel_has_one_finite_score_of_at_least_zero"),
        (keeping_the_smallest, "test_a_channel_of_zeros_scores_lowest"),
        (leaving_gradients, "test_scoring_changes_nothing"),
        (training, "test_scoring_changes_nothing"),
        (alike, "test_scores_tell_channels_apart"),
    ],
)
def test_the_contract_refuses(score: Score, fails: str) -> None:
    contract = ImportanceContract()
    contract.criterion = Criterion(score, unchanged)
    with pytest.raises(AssertionError):
        getattr(contract, fails)()


def scores(name: str, model: Model, *, seed: int = 0, batches: list[Batch] | None = None) -> dict[str, torch.Tensor]:
    found = list(make_images().batches(8)) if batches is None else batches
    return IMPORTANCE[name].score(model, model.prune_groups(), batches=found, seed=seed)


@pytest.mark.parametrize(("name", "order"), [("l1", 1), ("l2", 2)])
def test_norms_are_of_each_filter_of_the_source(name: str, order: int) -> None:
    model = make_model()
    for group in inner_groups(model):
        assert torch.allclose(scores(name, model)[group.name], filter_norms(model, group.source, order))


def filter_norms(model: Model, name: str, order: int) -> torch.Tensor:
    filters = units(model)[name].layer.weight.detach()
    return torch.stack([(f.abs() ** order).sum() ** (1 / order) for f in filters])


@pytest.mark.parametrize(("name", "order"), [("l1", 1), ("l2", 2)])
def test_norms_of_a_residual_stream_are_sums_over_the_layers_that_write_it(name: str, order: int) -> None:
    model = make_model(width=1.0)
    [stream] = [g for g in model.prune_groups() if g.name == "blocks.1.project"]
    expected = sum(filter_norms(model, f"blocks.{i}.project", order) for i in (1, 2))
    assert torch.allclose(scores(name, model)[stream.name], expected)


class Gates(nn.Module):
    """Multiplies the channels of a feature map; at 1 it is the identity."""

    def __init__(self, norm: nn.Module, count: int) -> None:
        super().__init__()
        self.norm = norm
        self.gate = nn.Parameter(torch.ones(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale, shift = self.norm.weight, self.norm.bias
        normal = F.batch_norm(x, self.norm.running_mean, self.norm.running_var, eps=self.norm.eps)
        return normal * (scale * self.gate).view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


@pytest.mark.parametrize("name", ["mobilenet_v2", "vgg16"])
def test_bn_taylor_is_the_squared_gradient_of_a_gate_on_each_norm(name: str) -> None:
    model, batches = make_model(name, width=0.1), list(make_images(24).batches(8))
    found = scores("bn_taylor", model, batches=batches)
    gates: dict[str, Gates] = {}
    for unit_name, unit in units(model).items():
        if hasattr(unit, "bn"):
            unit.bn = gates[unit_name] = Gates(unit.bn, len(unit.bn.weight))
    sums = {unit_name: torch.zeros_like(gate.gate) for unit_name, gate in gates.items()}
    for images, labels in batches:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        for unit_name, gate in gates.items():
            sums[unit_name] += gate.gate.grad.square() / len(batches)
    for group in model.prune_groups():
        expected = sum(sums[unit_name] for unit_name in (part.node for part in group.sources))
        assert expected.max() > 0
        assert torch.allclose(found[group.name], expected, rtol=1e-3, atol=1e-6 * float(expected.max()))


@pytest.mark.numeric
def test_bn_taylor_foretells_the_loss_of_a_weakened_channel() -> None:
    model = make_model(width=0.1).double()  # a difference of two float32 losses is mostly their last bits
    [(images, labels)] = make_images(16).batches(16)
    images = images.double()
    group = inner_groups(model)[0]
    score = scores("bn_taylor", model, batches=[(images, labels)])[group.name]
    norms = [units(model)[name].bn.weight for name in (part.node for part in group.sources)]
    eps = 1e-2
    for channel in (1, 2, 3):
        moves = []
        for norm in norms:
            losses = []
            for factor in (1 - eps, 1 / (1 - eps)):
                with torch.no_grad():
                    norm[channel] *= factor
                    losses.append(F.cross_entropy(model(images), labels).item())
            moves.append((losses[1] - losses[0]) / eps)
        assert score[channel].item() == pytest.approx(sum(m * m for m in moves), rel=0.1, abs=1e-14)


def test_random_scores_follow_the_seed_and_are_uniform() -> None:
    model = make_model("vgg16", width=1.0)
    one, other = (scores("random", model, seed=seed)[model.prune_groups()[-1].name] for seed in (0, 1))
    assert not torch.equal(one, other)
    for found in (one, other):
        assert 0 < found.min() <= found.max() <= 1
        # Standard deviation of the mean of 512 draws: 0.013.
        assert abs(found.mean() - 0.5) < 0.06


def test_random_scores_do_not_follow_the_weights() -> None:
    model = make_model("vgg16", width=1.0)
    last = model.prune_groups()[-1].name
    together = torch.stack([scores(name, model)[last] for name in ("random", "l1")])
    assert abs(torch.corrcoef(together)[0, 1]) < 0.2


def test_norms_are_compared_as_multiples_of_the_groups_mean() -> None:
    model = make_model()
    for name in ("l1", "l2"):
        for group in model.prune_groups():
            score = scores(name, model)[group.name]
            comparable = IMPORTANCE[name].compare(model, group, score)
            assert comparable.mean().item() == pytest.approx(1, rel=1e-5)
            assert torch.allclose(comparable, IMPORTANCE[name].compare(model, group, 100 * score))


def test_bn_taylor_is_compared_per_byte() -> None:
    model = make_model()
    for group in model.prune_groups():
        comparable = IMPORTANCE["bn_taylor"].compare(model, group, torch.full((4,), 12.0))
        assert comparable.tolist() == pytest.approx([12 / channel_bytes(model, group)] * 4)


@pytest.mark.parametrize(
    ("family", "group", "expected"),
    [
        # inputs + 4, 9 + 4, outputs of the projection
        ("mobilenet_v2", "blocks.1", (16 + 4) + (9 + 4) + 24),
        # 1x1 from 320 channels, ten classes
        ("mobilenet_v2", "head", (320 + 4) + 10),
        # 3x3 from 3 channels, 3x3 to 64
        ("vgg16", "features.0", (27 + 4) + 9 * 64),
        # 3x3 from 512, ten classes
        ("vgg16", "features.16", (9 * 512 + 4) + 10),
    ],
)
def test_a_channel_costs_its_weights_and_side_information(family: str, group: str, expected: int) -> None:
    model = make_model(family, width=1.0, channels=3, image_size=32)
    [found] = [g for g in model.prune_groups() if g.name == group]
    assert channel_bytes(model, found) == expected
