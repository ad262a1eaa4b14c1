"""Rungs: what a configuration becomes when it is tried at less cost (torch-free)."""

from pydantic import Field

from trainables.config import Frozen, TrialConfig

FULL = "full"
"""The rung of the configuration as it is; only its records enter the frontier."""
TOP_CLASS = 5
"""Bits from which on weights learn alike; a larger number would compare fewer points with each other."""


class Rung(Frozen):
    """A shorter complete schedule of the last stage; everything before it is shared by all rungs."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,15}$", description="as in p30_w4_a8@NAME")
    qat_epochs: int = Field(ge=0, le=100_000, description="of the quantization-aware training; 0: after training only")


def at_rung(config: TrialConfig, rung: Rung | None) -> TrialConfig:
    """Returns the configuration at a rung, or as it is for None; raises ValueError: there is no training to shorten."""
    if rung is None:
        return config
    return config.model_copy(update={"quantize": config.quantize.shortened(rung.qat_epochs)})


def bit_class(config: TrialConfig) -> int:
    """Returns the narrowest weights of a configuration, 2 to TOP_CLASS: fewer bits learn more slowly."""
    scheme = config.quantize.scheme
    return min(TOP_CLASS, scheme.w_bits, *scheme.w_bits_by_group.values(), *scheme.w_bits_by_layer.values())
