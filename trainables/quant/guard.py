"""GuardChannels: no channel of a network that learns to be quantized falls silent for good."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trainables.models.attach import quantized_units, weight_quantizer
from trainables.models.quantizer import Quantizer
from trainables.train.flat_weights import FlatSteps, FlatWeights, runs, together
from trainables.train.step_rule import Moment, StepRule


class GuardChannels(StepRule):
    """The rule that a channel whose codes are all zero gets its largest weight back, as one step."""

    def __init__(self, model: nn.Module) -> None:
        silenced = {name: unit for name, unit in quantized_units(model).items() if not weight_quantizer(unit).binary}
        by_length = sorted(silenced.items(), key=lambda item: item[1].layer.weight[0].numel())
        quantizers = {name: weight_quantizer(unit) for name, unit in by_length}
        groups = together({name: unit.layer.weight for name, unit in by_length})
        self._channels = [_Channels(weights, [quantizers[name] for name in weights]) for weights in groups]

    @torch.no_grad()
    def after_step(self, moment: Moment | None = None) -> None:
        """Revives silent channels; a channel of nothing but zeros was pruned and stays as it is."""
        for channels in self._channels:
            channels.revive_()


class _Channels:
    """The output channels of some layers, in the order of their lengths: layers of equal length are one matrix."""

    def __init__(self, weights: Mapping[str, Tensor], quantizers: Sequence[Quantizer]) -> None:
        self._weights = FlatWeights(weights)
        self._steps = FlatSteps(quantizers, [len(weight) for weight in weights.values()])
        lengths, sizes = [w[0].numel() for w in weights.values()], [w.numel() for w in weights.values()]
        self._matrices = runs(lengths, sizes)
        starts = [torch.arange(start, end, length) for length, start, end in self._matrices]
        self._starts = torch.cat(starts).to(self._weights.values.device)

    def revive_(self) -> None:
        """Moves the largest weight of each channel whose codes are all zero to one step, with its sign.

        Every channel's largest weight is written, most with the value it had: to count those that are not would
        wait for a GPU.
        """
        weights, steps = self._weights.read_(), self._steps.read()
        sizes = weights.abs()
        within = [sizes[start:end].view(-1, length).max(1).indices for length, start, end in self._matrices]
        place = torch.cat(within).add_(self._starts)
        largest = weights.index_select(0, place)
        dead = ((largest * steps.reciprocal()).round_() == 0) & (largest != 0)
        weights.index_copy_(0, place, torch.where(dead, largest.sign() * steps, largest))
        self._weights.write_()
