"""What a configuration alone decides: parameters, operations and activations, before anything is trained."""

import torch

from trainables.config import Architecture, TrialConfig
from trainables.costs.counts import count
from trainables.models.attach import attach_quantizers_
from trainables.models.model import Model, build
from trainables.models.units import count_parameters
from trainables.prune.plan import channel_counts, kept_count, multiple_of

COUNTED = ("parameters", "macs", "bops", "activation_bytes", "peak_activation_bytes")
"""Metrics that need no weights."""


def analyze(config: TrialConfig, architecture: Architecture) -> dict[str, int]:
    """The counted metrics of a configuration, equal to what its trial will measure; those that depend on weights
    (all of them under a global ranking of channels, BOPs under automatic bits) are left out.

    Args:
        config: of a trial.
        architecture: of the baseline, unpruned.

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
    counts = count(model, narrow)
    found = {
        "parameters": count_parameters(model),
        "macs": counts.macs,
        "bops": counts.bops,
        "activation_bytes": counts.activation_bytes,
        "peak_activation_bytes": counts.peak_activation_bytes,
    }
    if config.quantize.auto_bits is not None:
        del found["bops"]
    return found


def _widths(config: TrialConfig, architecture: Architecture) -> dict[str, int] | None:
    """Channels that pruning leaves in each group; None where that depends on the weights."""
    prune = config.prune
    if prune is None or prune.prune_frac == 0:
        return {}
    if prune.scope != "uniform":
        return None
    with torch.device("meta"):
        full: Model = build(architecture)
    counts = channel_counts(full, head=prune.head)
    return {name: kept_count(n, prune.prune_frac, multiple_of(n, prune.round_to)) for name, n in counts.items()}
