"""The stages that make the network to compress, prune it and sparsify it (torch-free)."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from trainables.config.model import ModelConfig
from trainables.config.plugins import IMPORTANCE, SPARSITY, STAGES
from trainables.config.quant import LayerGroup
from trainables.config.schedule import Schedule
from trainables.config.stage import BnImages, StageConfig
from trainables.config.written import POINTS, SHARE


class Start(StageConfig):
    """What the kinds of baselines and teachers have in common."""

    HANDLER = "trainables.baseline"
    STARTS = True
    PLACES = frozenset({"network", "arguments"})
    model: ModelConfig = ModelConfig()
    network: str = Field(
        "",
        exclude_if=lambda network: not network,
        description="a network of one's own instead of `model`: module:callable, or the file of a captured one",
    )
    arguments: dict[str, Any] = Field(
        {}, exclude_if=lambda arguments: not arguments, description="arguments of the callable, by name"
    )
    network_sha256: str = Field(
        "",
        exclude_if=lambda digest: not digest,
        description="digest of the captured network; found when a spec is read",
    )

    @field_validator("arguments")
    @classmethod
    def _is_json(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        for name, value in arguments.items():
            try:
                json.dumps(value, sort_keys=True, allow_nan=False)
            except (TypeError, ValueError) as err:
                raise ValueError(
                    f"{name} is {value!r}, but arguments are what JSON holds, finite numbers, words, true, false, "
                    "null, lists and tables of these: quote a date, and make other values in a callable of your own"
                ) from err
        return arguments

    @model_validator(mode="after")
    def _has_one_network(self) -> "Start":
        if self.network and "model" in self.model_fields_set and self.model != ModelConfig():
            raise ValueError("network stands instead of model: leave one of them out")
        if self.arguments and ":" not in self.network:
            raise ValueError("arguments are those of a callable: give network as module:callable, or leave them out")
        return self


@STAGES.register("train")
class BaselineTrain(Start):
    """Train the shared network from scratch."""

    TITLE = "Training of the baseline"
    SCHEDULE = "schedule"
    kind: Literal["train"] = "train"
    schedule: Schedule


@STAGES.register("import")
class BaselineImport(Start):
    """Take the shared network from a file: safetensors, or a state dict saved by torch.save.

    `sha256` of the file names the stage, not its path; it is filled in when the spec is resolved.
    """

    PLACES = frozenset({"checkpoint", "network", "arguments"})
    kind: Literal["import"]
    checkpoint: str = Field("", description="path of the file; a captured network brings its own weights")
    sha256: str = Field("", description="digest of the file; found when a spec is read")
    bn_images: BnImages = 0


@STAGES.register("untrained")
class BaselineUntrained(Start):
    """A placeholder with random weights, to try everything out: sizes and costs are real, accuracies mean nothing.

    Its trials do not fail for an accuracy at chance, and outputs call the baseline untrained.
    """

    PLACEHOLDER = True
    kind: Literal["untrained"]


@STAGES.register("channel_prune")
class ChannelPrune(StageConfig):
    """Remove whole channels, coupled layers together, fit the rest, fine-tune. prune_frac = 0 leaves the stage out."""

    VERSION = 3
    HANDLER = "trainables.prune.channel_prune"
    TITLE = "Pruning and fine-tuning"
    SCHEDULE = "fine_tune"
    AMOUNT = "prune_frac"
    COLUMNS: ClassVar[Mapping[str, str]] = {
        "val_accuracy_pruned": "accuracy_pruned",
        "val_accuracy": "accuracy_fine_tuned",
        "prune_frac_requested": "prune_frac_requested",
    }
    kind: Literal["channel_prune"] = "channel_prune"
    prune_frac: Annotated[float, SHARE] = Field(
        0.0, ge=0, lt=1, description="share of the prunable channels to remove; 0: none"
    )
    importance: Annotated[str, IMPORTANCE] = Field("l1", description="criterion that ranks the channels of a group")
    scope: Literal["uniform", "global"] = Field(
        "uniform", description="the same share of each group, or the least important channels of all"
    )
    head: bool = Field(False, description="the 1x1 convolution before the classifier is prunable too")
    groups: Literal["inner", "all"] = Field(
        "inner", description="the channels inside of blocks, or those of residual streams as well"
    )
    round_to: int | None = Field(
        None, ge=1, le=256, description="kept channels are a multiple of this; null: 16 in groups of 96 or more"
    )
    max_group_frac: Annotated[float, SHARE] = Field(
        0.8, gt=0, lt=1, description="most that scope: global takes from a group; 1 would cut it through"
    )
    min_channels: int = Field(
        16,
        ge=1,
        description="fewest that scope: global leaves in a group; lower: smaller networks, some of them broken",
    )
    importance_images: int = Field(
        2048, ge=1, description="images for criteria that need gradients; more: steadier ranks"
    )
    reconstruction_images: int = Field(
        512,
        ge=0,
        le=1_000_000,
        description="images on which what is left of each layer is fitted to its outputs before; 0: weights stay",
    )
    steps: int = Field(1, ge=1, le=100, description="prune in this many steps, fine-tuning after each; 1 costs least")
    step_epochs: int = Field(
        1, ge=0, description="epochs after each step but the last; more: the next one starts better"
    )
    fine_tune: Schedule

    @property
    def planned_epochs(self) -> int:
        """The epochs after the last step, and those after each step before it."""
        return self.fine_tune.epochs + (self.steps - 1) * self.step_epochs


@STAGES.register("sparsify")
class Sparsify(StageConfig):
    """Set single weights to zero while training; they stay zero afterwards. sparsity = 0 leaves the stage out.

    `mode: gradual` raises the sparsity inside one training run by the cubic schedule of Zhu and Gupta (arXiv
    1710.01878) and lets weights come back until the ramp ends. `mode: iterative` prunes in `steps`, trains for
    the whole schedule after each, never lets a weight come back, and stops after the first step whose accuracy
    drop passes `max_accuracy_drop`: the network before that step is the result.
    """

    HANDLER = "trainables.prune.sparsify"
    TITLE = "Sparsifying and fine-tuning"
    SCHEDULE = "schedule"
    AMOUNT = "sparsity"
    COLUMNS: ClassVar[Mapping[str, str]] = {
        "val_accuracy": "accuracy_sparsified",
        "sparsity_requested": "sparsity_requested",
        "sparsity_achieved": "sparsity_reached",
        "stopped_early": "stopped_early",
    }
    kind: Literal["sparsify"] = "sparsify"
    sparsity: Annotated[float, SHARE] = Field(
        0.0, ge=0, lt=1, description="share of zeros among weights that are not exempt; 0: none"
    )
    criterion: Annotated[str, SPARSITY] = Field("lamp", description="criterion that ranks weights")
    mode: Literal["gradual", "iterative"] = Field("gradual", description="in one training run, or in steps")
    exempt: tuple[LayerGroup, ...] = Field(
        ("first_conv", "depthwise", "classifier"), description="groups of layers that keep all weights"
    )
    min_density: Annotated[float, SHARE] = Field(
        0.3, ge=0, le=1, description="share that layers below 10,000 weights keep at least: their zeros save few bytes"
    )
    ramp: Annotated[float, SHARE] = Field(
        0.6,
        gt=0,
        le=1,
        description="share of a gradual run after which the mask is fixed; the rest mends what it broke",
    )
    mask_every: int = Field(
        100,
        ge=1,
        description="training steps between two masks of a gradual run; the least of Zhu and Gupta's 100 to 1,000",
    )
    steps: int = Field(5, ge=1, le=100, description="steps of mode: iterative; more: gentler, and longer by as much")
    ramp_shape: Literal["cubic", "linear"] = Field("cubic", description="how the sparsity rises over the steps")
    max_accuracy_drop: Annotated[float | None, POINTS] = Field(
        None, gt=0, le=1, description="against the parent, on validation; null = no bound (iterative only)"
    )
    schedule: Schedule

    @property
    def planned_epochs(self) -> int:
        """The epochs of the schedule, once for each step."""
        return self.schedule.epochs * (self.steps if self.mode == "iterative" else 1)

    def revisions(self) -> Mapping[str, int]:
        """Adds that of the bound, which the result keeps since its second version."""
        bound = self.mode == "iterative" and self.max_accuracy_drop is not None
        return {**super().revisions(), **({"bound": 2} if bound else {})}


Teacher = Annotated[BaselineTrain | BaselineImport, Field(discriminator="kind")]
Baseline = Annotated[BaselineTrain | BaselineImport | BaselineUntrained, Field(discriminator="kind")]
