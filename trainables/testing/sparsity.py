"""SparsityContract: what every criterion for single weights must do, as tests to inherit."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


class SparsityContract:
    """Subclass it in a test file and set `score`, as a static method or by a fixture."""

    score: Callable[[Tensor], Tensor]

    def test_every_weight_has_one_finite_score_of_at_least_zero(self) -> None:
        """Scores have the weight's shape, are finite and at least zero."""
        for weight in self._weights():
            scores = self.score(weight)
            assert scores.shape == weight.shape
            assert torch.isfinite(scores).all()
            assert (scores >= 0).all()

    def test_within_a_layer_the_smallest_magnitudes_go_first(self) -> None:
        """Removing a larger weight before a smaller one of the same layer costs more than it saves."""
        for weight in self._weights():
            order = torch.argsort(weight.abs().flatten(), stable=True)
            ranked = self.score(weight).flatten()[order]
            assert (ranked.diff() >= -1e-6 * ranked[1:]).all()

    def test_a_weight_of_zero_scores_zero(self) -> None:
        """A weight of zero scores zero: nothing is lost with it, and a mask once made is kept."""
        for weight in self._weights():
            weight.flatten()[::3] = 0
            assert (self.score(weight)[weight == 0] == 0).all()

    def test_scores_move_with_their_weights(self) -> None:
        """Another order of the same weights is the same layer."""
        for weight in self._weights():
            order = torch.randperm(weight.numel(), generator=torch.Generator().manual_seed(1))
            moved = weight.flatten()[order].view_as(weight)
            assert torch.allclose(self.score(moved).flatten(), self.score(weight).flatten()[order], rtol=1e-4)

    def test_signs_do_not_matter_and_the_weight_stays(self) -> None:
        """A criterion sees magnitudes alone and does not change the weight."""
        for weight in self._weights():
            before = weight.clone()
            assert torch.equal(self.score(weight), self.score(-weight))
            assert torch.equal(weight, before)

    def test_no_gradient_is_recorded(self) -> None:
        """Scores of a network that trains hold no graph."""
        for weight in self._weights():
            assert not self.score(weight.requires_grad_()).requires_grad

    def _weights(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(0)
        for shape in ((1, 1), (16, 1, 3, 3), (24, 12, 1, 1), (10, 40)):
            yield torch.randn(shape, generator=generator)
