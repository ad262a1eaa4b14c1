"""ImportanceContract: what every importance criterion must do, as tests to inherit."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from trainables.config import Architecture, ModelConfig
from trainables.models.model import Model, build
from trainables.models.prune_groups import PruneGroup
from trainables.models.units import ConvUnit, units
from trainables.prune.importance import Batch, Criterion

NETWORKS = (("mobilenet_v2", 0.1), ("vgg16", 0.1))
"""Families with all kinds of groups, at widths where a forward pass takes milliseconds."""


class ImportanceContract:
    """Subclass it in a test file and set `criterion`, as a class attribute or by a fixture."""

    criterion: Criterion

    def test_every_channel_has_one_finite_score_of_at_least_zero(self) -> None:
        """A criterion returns one tensor (channels,) for each group, under its name and no other."""
        for model, _ in self._networks():
            scores = self._scores(model)
            assert list(scores) == [group.name for group in model.prune_groups()]
            for group in model.prune_groups():
                assert scores[group.name].shape == (_channels(model, group),)
                assert torch.isfinite(scores[group.name]).all()
                assert (scores[group.name] >= 0).all()

    def test_scores_tell_channels_apart(self) -> None:
        """Scores differ within a group; a constant would prune by place."""
        for model, _ in self._networks():
            for group in model.prune_groups():
                assert len(self._scores(model)[group.name].unique()) > 1

    def test_scores_move_with_their_channels(self) -> None:
        """Scores follow channels into another order, in which all that belongs to them makes the same network."""
        for model, architecture in self._networks():
            orders = {
                group.name: torch.randperm(_channels(model, group), generator=torch.Generator().manual_seed(7)).tolist()
                for group in model.prune_groups()
            }
            moved = _moved(model, architecture, orders)
            before, after = self._scores(model), self._scores(moved.eval())
            for name, order in orders.items():
                assert torch.allclose(
                    after[name], before[name][order], rtol=1e-3, atol=1e-5 * float(before[name].max())
                )

    def test_a_channel_of_zeros_scores_lowest(self) -> None:
        """No channel scores below one whose weights are all zero, since nothing is lost with that."""
        for model, _ in self._networks():
            for group in model.prune_groups():
                channel = _channels(model, group) // 2
                _zero_(model, group, channel)
                score = self._scores(model)[group.name]
                assert score[channel] == score.min()
                assert score[channel] < score.max()

    def test_equal_seeds_give_equal_scores(self) -> None:
        """Scores depend on the seed alone, whatever the state of torch's own random numbers."""
        for model, _ in self._networks():
            torch.manual_seed(1)
            first = self._scores(model, seed=3)
            torch.manual_seed(2)
            second = self._scores(model, seed=3)
            assert all(torch.equal(first[name], second[name]) for name in first)

    def test_scoring_changes_nothing(self) -> None:
        """Scoring leaves weights, statistics, gradients, modes and torch's random numbers as they are."""
        for model, _ in self._networks():
            model.train()
            next(model.children()).eval()
            next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
            tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            modes = [module.training for module in model.modules()]
            random_state = torch.get_rng_state()
            self._scores(model)
            assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
            assert [module.training for module in model.modules()] == modes
            gradients = [parameter.grad for parameter in model.parameters()]
            assert gradients[0] is not None
            assert (gradients[0] == 1).all()
            assert gradients[1:] == [None] * (len(gradients) - 1)
            assert all(parameter.requires_grad for parameter in model.parameters())
            assert torch.equal(torch.get_rng_state(), random_state)

    def test_scores_do_not_depend_on_the_mode(self) -> None:
        """Batch norm uses its running statistics, also where the network was training."""
        for model, _ in self._networks():
            evaluating, training = self._scores(model.eval()), self._scores(model.train())
            assert all(torch.equal(evaluating[name], training[name]) for name in evaluating)

    def test_comparable_scores_keep_the_order_within_a_group(self) -> None:
        """Making scores comparable changes the scale of a group, not its order."""
        for model, _ in self._networks():
            for group in model.prune_groups():
                score = self._scores(model)[group.name]
                comparable = self.criterion.compare(model, group, score)
                assert comparable.shape == score.shape
                assert torch.isfinite(comparable).all()
                assert (comparable[torch.argsort(score, stable=True)].diff() >= 0).all()
                assert torch.isfinite(self.criterion.compare(model, group, torch.zeros_like(score))).all()

    def _scores(self, model: Model, *, seed: int = 0) -> dict[str, Tensor]:
        return self.criterion.score(model, model.prune_groups(), batches=_batches(), seed=seed)

    def _networks(self) -> Iterator[tuple[Model, Architecture]]:
        for name, width in NETWORKS:
            architecture = Architecture(model=ModelConfig(name=name, width=width), classes=10, channels=1, image_size=8)
            torch.manual_seed(0)
            model = build(architecture)
            _randomise_norms_(model)
            yield model.eval(), architecture


def _batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(8, 1, 8, 8, generator=generator), torch.randint(10, (8,), generator=generator)) for _ in range(3)
    ]


def _randomise_norms_(model: Model) -> None:
    """Draws scales, shifts and statistics like those after some training."""
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for unit in units(model).values():
            if isinstance(unit, ConvUnit):
                for tensor in (unit.bn.weight, unit.bn.bias, unit.bn.running_mean, unit.bn.running_var):
                    assert isinstance(tensor, Tensor)
                    tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))


def _moved(model: Model, architecture: Architecture, orders: Mapping[str, Sequence[int]]) -> Model:
    """Returns the network with the channels of each group in another order, wherever they lie."""
    places: dict[tuple[str, int], Tensor] = {}
    layers, state = units(model), model.state_dict()
    for group in model.prune_groups():
        for part in (*group.sources, *group.sinks):
            size = layers[part.node].layer.weight.shape[part.dim]
            place = places.setdefault((part.node, part.dim), torch.arange(size))
            place[torch.tensor(part.positions)] = torch.tensor(part.positions)[list(orders[group.name])]
    for (unit, dim), place in places.items():
        for name in (f"{unit}.layer.weight",) if dim else [n for n in state if n.startswith(f"{unit}.")]:
            state[name] = state[name].index_select(dim, place) if state[name].ndim else state[name]
    moved = build(architecture)
    moved.load_state_dict(state)
    return moved


@torch.no_grad()
def _zero_(model: Model, group: PruneGroup, channel: int) -> None:
    layers = units(model)
    for part in group.sources:
        for parameter in layers[part.node].parameters():
            parameter[list(part.positions[channel])] = 0


def _channels(model: Model, group: PruneGroup) -> int:
    return group.channels
