"""QuantizerContract: what every quantizer must do, as tests to inherit."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor

from trainables.models.quantizer import Quantizer, code_range, nearest_codes

BITS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16)
"""All widths of quantized weights."""


class QuantizerContract:
    """Subclass it in a test file and set `quantizer_type`, as a class attribute or by a fixture."""

    quantizer_type: type[Quantizer]

    def test_values_are_codes_times_the_step(self) -> None:
        """Values go to the nearest grid point, halves to even, clipped to the range, as in float64 arithmetic.

        One signed bit is the sign.
        """
        for quantizer, values in self._cases():
            step = quantizer.safe_step().detach().double()
            ratio = values.double() / step
            codes = nearest_codes(ratio, quantizer.bits, signed=quantizer.qn > 0).to(torch.int64)
            out = quantizer(values).detach()
            assert out.dtype == torch.float32
            # A quotient within float32's rounding of a half may go to either side.
            clear = (ratio - ratio.floor() - 0.5).abs() > 1e-6 + 2e-7 * ratio.abs()
            assert torch.equal(quantizer.codes(values)[clear], codes[clear])
            assert torch.allclose(out.double(), quantizer.codes(values) * step, rtol=1e-6, atol=0)

    def test_codes_fill_the_range_and_stay_in_it(self) -> None:
        """Codes reach both ends of their range and do not pass them, at every width, signed and unsigned."""
        for quantizer, values in self._cases():
            codes = quantizer.codes(values)
            assert (int(codes.min()), int(codes.max())) == (-quantizer.qn, quantizer.qp)

    def test_a_value_on_the_grid_stays(self) -> None:
        """Quantizing twice is quantizing once."""
        for quantizer, values in self._cases():
            once = quantizer(values).detach()
            assert torch.equal(quantizer.codes(once), quantizer.codes(values))

    def test_gradients_pass_inside_the_range_only(self) -> None:
        """The gradient of a value is 1 inside the range, and 0 where the value is clipped."""
        for quantizer, values in self._cases():
            x = values.clone().requires_grad_()
            quantizer(x).sum().backward()
            ratio = values / quantizer.safe_step().detach()
            clearly_inside = (ratio > -quantizer.qn + 0.01) & (ratio < quantizer.qp - 0.01)
            clearly_outside = (ratio < -quantizer.qn - 0.01) | (ratio > quantizer.qp + 0.01)
            assert x.grad is not None
            assert (x.grad[clearly_inside] == 1).all()
            assert (x.grad[clearly_outside] == 0).all()

    def test_the_step_is_in_the_state(self) -> None:
        """A loaded quantizer computes the same, so that a finished stage can be read back."""
        for quantizer, values in self._cases():
            other = self.quantizer_type(
                quantizer.bits, signed=quantizer.qn > 0, weight=quantizer.weight, step_shape=quantizer.step_shape
            )
            assert list(quantizer.state_dict()) == ["step"]
            other.load_state_dict(quantizer.state_dict())
            assert torch.equal(other(values), quantizer(values))

    def test_a_step_of_zero_or_below_does_no_harm(self) -> None:
        """A step that training took to zero or below still gives finite values."""
        for value in (0.0, -0.5):
            quantizer = self._make(4, signed=True, shape=())
            with torch.no_grad():
                quantizer.step.fill_(value)
            assert float(quantizer.safe_step().detach()) > 0
            assert torch.isfinite(quantizer(torch.linspace(-2, 2, 9)).detach()).all()

    def test_the_limit_is_never_passed(self) -> None:
        """No value passes the limit, however wide the step is."""
        quantizer = self.quantizer_type(4, signed=False, limit=6.0)
        for value in (0.01, 0.4, 5.0):
            with torch.no_grad():
                quantizer.step.fill_(value)
            assert float(quantizer(torch.full((2, 3), 100.0)).detach().max()) <= 6.0 + 1e-5

    def test_it_has_no_memory(self) -> None:
        """Forward passes change nothing, in training mode and outside."""
        for quantizer, values in self._cases():
            before = deepcopy(quantizer.state_dict())
            first = quantizer.train()(values)
            second = quantizer.eval()(values)
            assert torch.equal(first, second)
            assert all(torch.equal(before[name], tensor) for name, tensor in quantizer.state_dict().items())

    def _make(self, bits: int, *, signed: bool, shape: tuple[int, ...]) -> Quantizer:
        quantizer = self.quantizer_type(bits, signed=signed, weight=bool(shape), step_shape=shape)
        generator = torch.Generator().manual_seed(bits)
        with torch.no_grad():
            quantizer.step.copy_(torch.rand(shape, generator=generator) * 0.1 + 0.01)
        return quantizer

    def _cases(self) -> Iterator[tuple[Quantizer, Tensor]]:
        generator = torch.Generator().manual_seed(0)
        for bits in BITS:
            for signed in (False, True):
                for shape in ((), (6, 1, 1, 1)):
                    quantizer = self._make(bits, signed=signed, shape=shape)
                    reach = code_range(bits, signed=signed)[1] * 1.5
                    values = torch.rand(6, 7, 5, 5, generator=generator) * 2 - 1
                    yield quantizer, values * reach * quantizer.step.detach()
