"""QuantScheme: which tensor gets how many bits (torch-free)."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from trainables.config.frozen import Frozen
from trainables.config.plugins import OBSERVERS, QUANTIZERS

FLOAT_BITS = 32
"""A tensor with so many bits is left alone: it stays float32."""

LayerGroup = Literal["first_conv", "expansion", "depthwise", "projection", "head", "conv", "linear", "classifier"]
GROUPS: tuple[LayerGroup, ...] = get_args(LayerGroup)
ALIASES: dict[str, tuple[LayerGroup, ...]] = {
    "inverted_residual": ("expansion", "depthwise", "projection"),
    "final_conv": ("head",),
}
"""Names that stand for several groups; a group's own entry wins."""

EDGES: tuple[LayerGroup, ...] = ("first_conv", "classifier")
"""The weights of these groups keep `edge_bits`."""


WEIGHT_WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 12, 16, FLOAT_BITS)
ACTIVATION_WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16, FLOAT_BITS)
"""The bits that weights and activations may have, ascending."""


def _one_of(legal: tuple[int, ...]) -> AfterValidator:
    def check(bits: int) -> int:
        if bits not in legal:
            raise ValueError(f"bits must be one of {', '.join(map(str, legal))} ({FLOAT_BITS} = untouched)")
        return bits

    return AfterValidator(check)


WeightBits = Annotated[int, Field(strict=True), _one_of(WEIGHT_WIDTHS)]
ActivationBits = Annotated[int, Field(strict=True), _one_of(ACTIVATION_WIDTHS)]
SideBits = Literal[8, 16, 32]


def _group(name: str) -> str:
    if name not in GROUPS and name not in ALIASES:
        raise ValueError(f"unknown layer group {name!r}; known: {', '.join([*GROUPS, *ALIASES])}")
    return name


GroupName = Annotated[str, AfterValidator(_group)]


class QuantScheme(Frozen):
    """Bit widths and granularity, the same for PTQ, QAT and packing.

    Weights are symmetric, with a step per output channel or per tensor; activations are symmetric or unsigned per
    tensor, with a static step unless their ranges are dynamic. One bit of what may be negative is its sign, ±step,
    which holds no zero. The first and last weight layer and the classifier's input keep `edge_bits`, and sums of the
    residual stream keep at least `residual_bits`: their errors reach every later block. What is set for a layer or a
    group wins over these.
    """

    w_bits: WeightBits = Field(8, description="1 to 8, 12, 16, or 32 for untouched; fewer: smaller, less accurate")
    a_bits: ActivationBits = Field(
        8, description="bits of activations: 1 to 8, 16, or 32 for untouched; 8 is what integer hardware computes with"
    )
    edge_bits: WeightBits = Field(
        8, description="bits of the first and last layer's weights and the last one's input: few bytes, costly errors"
    )
    residual_bits: ActivationBits = Field(
        8, description="fewest bits of sums of the residual stream, whose errors reach every later block"
    )
    narrow_block_inputs: bool = Field(
        False,
        description="layers that read a sum of the residual stream read it in `a_bits`, as papers count; the stream "
        "keeps `residual_bits`, or is float with 32",
    )
    w_bits_by_group: dict[GroupName, WeightBits] = Field({}, description="bits of the weights of a group of layers")
    a_bits_by_group: dict[GroupName, ActivationBits] = Field(
        {}, description="bits of the outputs of a group's layers; of the inputs for linear layers"
    )
    w_bits_by_layer: dict[str, WeightBits] = Field({}, description="bits of weights by unit; win over all else")
    granularity: Literal["channel", "tensor"] = Field("channel", description="what of a weight has a step of its own")
    quantizer: Annotated[str, QUANTIZERS] = Field(
        "lsq", description="lsq: steps are learned in training; ste: they stay calibrated"
    )
    observer: Annotated[str, OBSERVERS] = Field("mse", description="how a step is read from weights")
    activation_observer: Annotated[str | None, OBSERVERS] = Field(None, description="null: as for weights")
    activation_ranges: Literal["static", "dynamic"] = Field(
        "static",
        description="dynamic: codes are unsigned, from the smallest to the largest value of each batch, as in some "
        "other tools; predictions then depend on what else is in a batch, and there are no ONNX files; take 2 bits "
        "or more",
    )
    percentile: float = Field(
        99.9,
        gt=50,
        le=100,
        description="percentile of the magnitudes above zero that its observer keeps; lower: finer steps, more clipped",
    )
    side_bits: SideBits = Field(
        16, description="bits of each multiplier and bias in the file; 8: coarser; 32: as trained"
    )

    def weight_bits(self, unit: str, group: LayerGroup) -> int:
        """Returns the bits of one unit's weight."""
        if unit in self.w_bits_by_layer:
            return self.w_bits_by_layer[unit]
        return _by_group(self.w_bits_by_group, group, self.edge_bits if group in EDGES else self.w_bits)

    def activation_bits(self, group: str) -> int:
        """Returns the bits of an activation: `group` of the unit whose output it is, "residual" or "classifier".

        A "block_input" is what layers read from the residual stream, where it is quantized once more for them.
        """
        if group in ("residual", "block_input"):
            stream = _by_group(self.a_bits_by_group, "projection", max(self.residual_bits, self.a_bits))
            narrower = self.narrow_block_inputs and self.a_bits < stream
            return stream if group == "residual" else self.a_bits if narrower else FLOAT_BITS
        return _by_group(self.a_bits_by_group, group, self.edge_bits if group == "classifier" else self.a_bits)


def _by_group(table: dict[str, int], group: str, otherwise: int) -> int:
    names = [group, *(alias for alias, members in ALIASES.items() if group in members)]
    return next((table[name] for name in names if name in table), otherwise)
