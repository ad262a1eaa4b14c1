"""Reconstruction: after channels are removed, each layer is fitted to the outputs that it had before.

The weights that are left make up for the inputs that are gone, by least squares on images (He, Zhang and Sun, arXiv
1707.06168, section 3.1). Layers are fitted from the first to the last, each on the inputs that those before it give
now, so that it makes up for their errors too.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from trainables.data.images import Images
from trainables.models.model import Model
from trainables.models.units import Unit, norm_of, units
from trainables.prune.channels import removed_positions
from trainables.prune.plan import ChannelPlan
from trainables.train.moments import COLUMNS, batch_that_fits, columns_of, groups_of, penalty_of


@torch.no_grad()
def reconstruct_(narrow: Model, model: Model, plan: ChannelPlan, images: Images) -> None:
    """Fits `narrow`, which is what a plan left of `model`, layer by layer to the outputs of that.

    The mean error of an output goes into the running mean of the batch norm that follows, or into the bias. Weights
    that are zero stay zero, and outputs with such weights keep all others too; a layer whose inputs are not finite
    stays as it is. Both networks are on the device of the images, and end in evaluation mode.
    """
    model.eval()
    narrow.eval()
    gone = removed_positions(model.prune_groups(), plan)
    before, batch = units(model), batch_that_fits(model, images)
    seen: dict[str, Tensor] = {}

    def note(name: str, _unit: nn.Module, inputs: tuple[Tensor]) -> None:
        seen[name] = inputs[0]

    def fit(name: str, unit: nn.Module, inputs: tuple[Tensor]) -> None:
        old, removed = before[name], gone.get((name, 0), set())
        kept = [place for place in range(len(old.layer.weight)) if place not in removed]
        _Fit(unit, old, torch.tensor(kept, device=batch.device), inputs[0], seen.pop(name)).run_()  # type: ignore[arg-type]

    with ExitStack() as hooks:
        for name, unit in before.items():
            hooks.enter_context(unit.register_forward_pre_hook(partial(note, name)))
        for name, unit in units(narrow).items():
            hooks.enter_context(unit.register_forward_pre_hook(partial(fit, name)))
        for _ in zip(model.resumed(batch), narrow.resumed(batch), strict=True):
            pass  # by turns, a step of each: when a layer is fitted, what it read before is at hand


@dataclass(frozen=True)
class _Fit:
    """A layer, the one that it is left of, the outputs of this that are kept, and what both read of the same images."""

    unit: Unit
    old: Unit
    kept: Tensor
    inputs: Tensor
    of_old: Tensor

    def run_(self) -> None:
        """Moves the layer's weights, and its bias or its norm's running mean."""
        if self.inputs.shape == self.of_old.shape and torch.equal(self.inputs, self.of_old):
            return
        layer, norm = self.unit.layer, norm_of(self.unit)
        found = layer.weight.double().reshape(groups_of(self.unit), -1, layer.weight[0].numel())
        held, error = (found == 0).any(-1, keepdim=True), torch.zeros(())
        mean_follows = norm is not None or layer.bias is not None
        for start in range(0, found.shape[-1], COLUMNS):
            part = slice(start, start + COLUMNS)
            sums = self._sums(found, part)
            change = sums.change(centered=mean_follows).masked_fill(held, 0.0)
            found[..., part] += change
            error = (sums.error - change @ sums.mean).flatten()
        if not bool(torch.isfinite(found).all() & torch.isfinite(error).all()):
            return
        layer.weight.copy_(found.view_as(layer.weight))
        if norm is not None and norm.running_mean is not None:
            norm.running_mean.sub_(error)
        elif layer.bias is not None:
            layer.bias.add_(error)

    def _sums(self, weight: Tensor, part: slice) -> "_Sums":
        """Returns what the layer reads in a part of its inputs, and what outputs of these weights lack."""
        own = cross = mean = error = torch.zeros((), dtype=torch.float64, device=weight.device)
        rows, first = 0, torch.zeros((), device=weight.device)
        for every, wanted in self._rows():
            lacking, x = wanted - every @ weight.float().mT, every[..., part]
            first = first if first.ndim else x.mean(1, keepdim=True)
            x = x - first  # float32 would lose small changes of large values
            own, cross = own + (x.mT @ x).double(), cross + (lacking.mT @ x).double()
            mean, error = mean + x.sum(1).double(), error + lacking.sum(1).double()
            rows += x.shape[1]
        own, cross, mean, error = (total / rows for total in (own, cross, mean, error))
        mean, error = mean[..., None], error[..., None]
        return _Sums(own - mean @ mean.mT, cross - error @ mean.mT, mean + first.mT.double(), error, rows)

    def _rows(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields by group what the outputs are weighted sums of, (groups, rows, K), and the outputs that are wanted."""
        weight = self.old.layer.weight
        weight = weight.reshape(groups_of(self.old), -1, weight[0].numel())
        both = columns_of(self.unit, self.inputs), columns_of(self.old, self.of_old)
        for x, y in zip(*both, strict=True):
            wanted = (y @ weight.mT).mT.flatten(0, 1)[self.kept]
            yield x, wanted.unflatten(0, (groups_of(self.unit), -1)).mT


@dataclass(frozen=True)
class _Sums:
    """Means over so many rows, by group: products of inputs, and of errors and inputs, about their means, and these."""

    own: Tensor
    cross: Tensor
    mean: Tensor
    error: Tensor
    rows: int

    def change(self, *, centered: bool) -> Tensor:
        """Returns what to add to the weights for the least error, of which the mean counts if it is not `centered`."""
        own = self.own if centered else self.own + self.mean @ self.mean.mT
        cross = self.cross if centered else self.cross + self.error @ self.mean.mT
        found: Tensor = torch.linalg.solve(own + penalty_of(own, self.rows), cross.mT).mT
        return found
