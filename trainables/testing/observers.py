"""ObserverContract: what every observer of ranges must do, as tests to inherit."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from trainables.models.quantizer import code_range


class ObserverContract:
    """Subclass it in a test file and set `observe`, as a static method or by a fixture."""

    observe: Callable[..., Tensor]

    def test_every_row_has_one_positive_step(self) -> None:
        """Every row gets a finite step above zero, also a row of zeros and one with a single value."""
        for values, qn, qp in self._cases():
            steps = self.observe(values, qn, qp, percentile=99.0)
            assert steps.shape == (len(values),)
            assert torch.isfinite(steps).all()
            assert (steps > 0).all()

    def test_rows_do_not_know_of_each_other(self) -> None:
        """The step of a row does not depend on the other rows."""
        for values, qn, qp in self._cases():
            steps = self.observe(values, qn, qp, percentile=99.0)
            alone = torch.cat([self.observe(row[None], qn, qp, percentile=99.0) for row in values])
            assert torch.equal(steps, alone)

    def test_the_step_scales_with_the_values(self) -> None:
        """Values four times as large get exactly four times the step."""
        for values, qn, qp in self._cases():
            rows = values[values.abs().amax(dim=1) > 1e-3]
            steps = self.observe(rows, qn, qp, percentile=99.0)
            assert torch.equal(self.observe(rows * 4, qn, qp, percentile=99.0), steps * 4)

    def test_the_order_of_values_does_not_matter(self) -> None:
        """Values in another order get the same step, but for the rounding of sums."""
        for values, qn, qp in self._cases():
            order = torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(1))
            found = self.observe(values[:, order], qn, qp, percentile=99.0)
            assert torch.allclose(found, self.observe(values, qn, qp, percentile=99.0), rtol=0.02)

    def test_no_step_is_wider_than_the_values_need(self) -> None:
        """The range covers at most a tenth more than the largest magnitude."""
        for values, qn, qp in self._cases():
            steps = self.observe(values, qn, qp, percentile=99.0)
            assert (steps * qp <= values.abs().amax(dim=1) * 1.11 + 1e-6 * qp).all()

    def test_zeros_do_not_take_the_other_values_along(self) -> None:
        """A row that is nearly all zeros, as sparse layers have them, keeps a range for what is left."""
        for values, qn, qp in self._cases():
            rows = values[values.abs().amax(dim=1) > 1e-3]
            sparse = torch.cat([rows, torch.zeros(len(rows), 60_000)], dim=1)
            steps = self.observe(sparse, qn, qp, percentile=99.0)
            assert (steps * qp >= 0.1 * rows.abs().amax(dim=1)).all()

    def test_the_values_stay_as_they_are(self) -> None:
        """An observer does not change the values."""
        for values, qn, qp in self._cases():
            before = values.clone()
            self.observe(values, qn, qp, percentile=99.0)
            assert torch.equal(values, before)

    def _cases(self) -> Iterator[tuple[Tensor, int, int]]:
        generator = torch.Generator().manual_seed(0)
        for bits in (2, 4, 8):
            normal = torch.randn(5, 400, generator=generator)
            normal[3] = 0
            yield (normal, *code_range(bits, signed=True))
            yield (normal.abs(), *code_range(bits, signed=False))
            yield (normal[:3, :1], *code_range(bits, signed=True))
