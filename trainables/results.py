"""What a trial returns: a measurement of a real file, or a failure (torch-free)."""

from typing import Literal

from pydantic import Field

from trainables.config import Architecture, Frozen
from trainables.errors import State


class StageCost(Frozen):
    """What one stage cost this trial; a cache hit cost the time of reading."""

    kind: str
    key: str
    seconds: float
    cached: bool


class Measurement(Frozen):
    """What the written file is, decoded again, and what its network costs.

    `formula_bytes` and everything of ONNX stand beside it for comparison; they are never objectives.
    """

    accuracy: float = Field(description="fraction right, of the decoded file")
    accuracy_trained: float = Field(description="fraction right, of the trained network before packing")
    n: int = Field(description="images the accuracy was read on")
    split: Literal["val", "test"] = "val"
    size_bytes: int = Field(description="length of the packed file")
    size_breakdown: dict[str, int] = Field(description="bytes by part; they sum to size_bytes")
    compression_ratio: float = Field(description="fp32 bytes of the unpruned baseline / size_bytes")
    parameters: int = Field(description="weights and biases of the pruned network, BN affine included")
    prune_frac_achieved: float = Field(description="share of prunable channels that were removed")
    sparsity_achieved: float = Field(description="share of zero codes among the weights of the decoded file")
    macs: int = Field(description="multiply-accumulates of one image")
    bops: int = Field(description="sum of MACs · weight bits · input bits")
    activation_bytes: int = Field(description="all activations of one image, at their bits")
    peak_activation_bytes: int = Field(description="most activations that are alive at once, one image")
    formula_bytes: dict[str, int] = Field(description="by the size formulas of earlier systems")
    onnx_size_bytes: int | None = None
    onnx_accuracy: float | None = Field(default=None, description="fraction right in onnxruntime")
    onnx_failure: str | None = Field(default=None, description="why there is no ONNX file or no accuracy of it")


class Completed(Frozen):
    """A verified artifact and its measurement."""

    measurement: Measurement
    architecture: Architecture
    artifact_sha256: str
    stages: list[StageCost]


class Failure(Frozen):
    """Why there is no usable result."""

    kind: str = Field(description="name of the error, as in the error tree")
    state: State
    stage: str
    message: str
    traceback: str = ""


class Failed(Frozen):
    """No usable result; it can never reach the frontier, since it holds no measurement."""

    failure: Failure
    stages: list[StageCost] = Field(description="up to the one that failed; none of a worker that was lost")


METRICS = {
    "accuracy": "maximize",
    "size_bytes": "minimize",
    "compression_ratio": "maximize",
    "parameters": "minimize",
    "macs": "minimize",
    "bops": "minimize",
    "activation_bytes": "minimize",
    "peak_activation_bytes": "minimize",
    "sparsity_achieved": "maximize",
}
"""Columns that may be objectives or bounds, with their natural direction."""
