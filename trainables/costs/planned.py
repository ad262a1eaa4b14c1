"""What a configuration alone decides: parameters, operations and activations, before anything is trained."""

import torch

from trainables.config import Architecture, TrialConfig
from trainables.costs.counts import counted_metrics
from trainables.errors import InfeasiblePoint
from trainables.models.attach import attach_quantizers_, quantized_units, weight_quantizer
from trainables.models.model import Model, build
from trainables.prune.plan import channel_counts, kept_count, multiple_of


def planned_metrics(config: TrialConfig, architecture: Architecture) -> dict[str, int]:
    """Counts the metrics of a trial from its configuration and the baseline's architecture, before it runs.

    They equal what the trial will measure. Those that depend on weights are left out: all of them under a global
    ranking of channels, BOPs under automatic bits.

    Raises:
        InfeasiblePoint: the configuration gives no legal network.
    """
    widths = _widths(config, architecture)
    if widths is None:
        return {}
    with torch.device("meta"):
        narrow = architecture.model_copy(update={"widths": {**architecture.widths, **widths}})
        model = build(narrow)
        attach_quantizers_(model, config.quantize.scheme)
        _refuse_sparse_signs(config, model)
    found = counted_metrics(model, narrow)
    return {name: value for name, value in found.items() if name != "bops" or config.quantize.auto_bits is None}


def _refuse_sparse_signs(config: TrialConfig, model: Model) -> None:
    """Raises InfeasiblePoint where weights are to be zero and to have one bit, which holds no zero."""
    signs = [name for name, unit in quantized_units(model).items() if weight_quantizer(unit).binary]
    if signs and config.sparsify is not None and config.sparsify.sparsity > 0:
        raise InfeasiblePoint(
            f"{signs[0]} has weights of 1 bit, which holds no zero: choose 2 bits, or a sparsity of 0."
        )


def _widths(config: TrialConfig, architecture: Architecture) -> dict[str, int] | None:
    """Returns the channels that pruning leaves in each group; None where that depends on the weights."""
    prune = config.prune
    if prune is None or prune.prune_frac == 0:
        return {}
    if prune.scope != "uniform":
        return None
    with torch.device("meta"):
        full: Model = build(architecture)
    counts = channel_counts(full, prune)
    return {name: kept_count(n, prune.prune_frac, multiple_of(n, prune.round_to)) for name, n in counts.items()}
