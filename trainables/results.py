"""What a trial returns: a measurement of a real file, or a failure (torch-free)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from trainables.config import Architecture, Frozen, stage_of_kind
from trainables.errors import State
from trainables.printable import Printable

CHANCE_FACTOR, CHANCE_SHARE = 1.5, 0.1
"""A trial is refused as collapsed with at most so many times the accuracy of chance, or, of few classes, at most this
share of the way from chance to 1. Larger: poor but real networks are refused; smaller: one that answers at random
passes by luck."""
STAGE_METRICS = (
    "val_accuracy",
    "val_accuracy_pruned",
    "prune_frac_requested",
    "prune_frac_achieved",
    "sparsity_requested",
    "sparsity_achieved",
    "stopped_early",
)
"""The metrics of stages that a trial's record keeps: some stages have hundreds, one for each layer."""

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
"""A number of things or bytes, as the integers of a table hold it."""
Seconds = Annotated[float, Field(ge=0, le=1e9)]
"""Within thirty years."""


class StageRun(Frozen):
    """A note of one stage of a trial: what it cost, and how it ended; a cache hit cost the time of reading."""

    kind: Printable
    key: Printable
    seconds: Seconds
    cached: bool
    metrics: dict[Printable, float] = Field(
        default_factory=dict, description="those that records keep; none of a stage that failed, or of older records"
    )


def kept_metrics(kind: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns those of a stage's metrics that a trial's record keeps."""
    kept = dict.fromkeys([*STAGE_METRICS, *stage_of_kind(kind).COLUMNS])
    return {name: metrics[name] for name in kept if name in metrics}


def chance_limit(classes: int) -> float:
    """Returns the accuracy up to which a network counts as one that answers at random: 0.15 of ten classes."""
    chance = 1 / classes
    return min(CHANCE_FACTOR / classes, chance + CHANCE_SHARE * (1 - chance))


class Scores(Frozen):
    """How well a network tells the classes of images apart; files of older versions have the accuracy alone."""

    accuracy: Share = Field(description="fraction of images whose largest logit is at the label")
    top5_accuracy: Share | None = Field(
        None, description="fraction with the label among the five largest logits; null with five classes or fewer"
    )
    balanced_accuracy: Share | None = Field(None, description="mean recall of the classes that have an image")
    macro_f1: Share | None = Field(None, description="mean F1 score of the classes that occur or are predicted")
    cross_entropy: float | None = Field(None, ge=0, description="mean loss in nats; null where a logit is not finite")


class Measurement(Scores):
    """The measurement of a trial: what the written file is, decoded again, and what its network costs.

    `formula_bytes` and everything of ONNX stand beside it for comparison; they are never objectives.
    """

    accuracy_trained: Share = Field(description="fraction right, of the trained network before packing")
    n: Count = Field(description="images the accuracy was read on")
    split: Literal["val", "test"] = "val"
    size_bytes: Count = Field(ge=1, description="length of the packed file")
    size_breakdown: dict[Printable, Count] = Field(description="bytes by part; they sum to size_bytes")
    compression_ratio: float = Field(gt=0, description="fp32 bytes of the unpruned baseline / size_bytes")
    parameters: Count = Field(description="weights and biases of the pruned network, BN affine included")
    prune_frac_achieved: Share = Field(description="share of prunable channels that were removed")
    sparsity_achieved: Share = Field(description="share of zero codes among the weights of the decoded file")
    macs: Count = Field(description="multiply-accumulates of one image")
    bops: Count = Field(description="sum of MACs · weight bits · input bits")
    activation_bytes: Count = Field(description="all activations of one image, at their bits")
    peak_activation_bytes: Count = Field(description="most activations that are alive at once, one image")
    formula_bytes: dict[Printable, Count] = Field(description="by the size formulas of earlier systems")
    onnx_size_bytes: Count | None = None
    onnx_accuracy: Share | None = Field(None, description="fraction right in onnxruntime")
    onnx_failure: Printable | None = Field(None, description="why there is no ONNX file or no accuracy of it")


class Completed(Frozen):
    """The result of a trial that ended well: a verified packed file and its measurement."""

    measurement: Measurement
    architecture: Architecture
    artifact_sha256: Printable
    stages: list[StageRun]


class Failure(Frozen):
    """The reason why a trial has no usable result."""

    kind: Printable = Field(description="name of the error, as in the error tree")
    state: State
    stage: Printable
    message: Printable
    traceback: Printable = ""


class Failed(Frozen):
    """The result of a trial that failed; it never reaches the frontier, even where its file was measured."""

    failure: Failure
    measurement: Measurement | None = Field(
        None,
        description="of the packed file, where one was written, decoded and measured before it was refused",
    )
    stages: list[StageRun] = Field(description="up to the one that failed; none of a worker that was lost")


@dataclass(frozen=True)
class Metric:
    """A column that may be an objective or have a bound: which way is better, and what its values are.

    A `share` lies between 0 and 1; everything else is 0 or more.
    """

    better: Literal["maximize", "minimize"]
    unit: Literal["share", "bytes", "ratio", "nats", "count"]

    @property
    def highest(self) -> float:
        """The largest value that it can have."""
        return 1 if self.unit == "share" else math.inf


METRICS = {
    "accuracy": Metric("maximize", "share"),
    "top5_accuracy": Metric("maximize", "share"),
    "balanced_accuracy": Metric("maximize", "share"),
    "macro_f1": Metric("maximize", "share"),
    "cross_entropy": Metric("minimize", "nats"),
    "size_bytes": Metric("minimize", "bytes"),
    "compression_ratio": Metric("maximize", "ratio"),
    "parameters": Metric("minimize", "count"),
    "macs": Metric("minimize", "count"),
    "bops": Metric("minimize", "count"),
    "activation_bytes": Metric("minimize", "bytes"),
    "peak_activation_bytes": Metric("minimize", "bytes"),
    "sparsity_achieved": Metric("maximize", "share"),
}
"""The columns that may be objectives or bounds, by name."""
SCORES = tuple(Scores.model_fields)
"""Metrics that are read of the network's logits on images: more training changes them."""
TOP = 5
"""Classes that `top5_accuracy` looks at; of so many classes or fewer it would be 1 always."""
COUNTED = ("parameters", "macs", "bops", "activation_bytes", "peak_activation_bytes")
"""Metrics that a configuration decides, without weights; the bytes of the file and the SCORES must be measured."""
