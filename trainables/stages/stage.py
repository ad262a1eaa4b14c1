"""run_stage: the type of a stage configuration picks the function that runs it.

Each handler sits beside its method (`@run_stage.register`); its module is imported when a stage of its kind runs.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import singledispatch
from typing import Any

from torch import Tensor

from trainables.config import Architecture, Augment, QuantScheme, StageConfig
from trainables.data.data_sets import DataSet
from trainables.data.images import Images
from trainables.device import Device, seed_for
from trainables.models.attach import attach_quantizers_
from trainables.models.model import Model, build
from trainables.stages.saved_epochs import SavedEpochs


@dataclass(frozen=True)
class StageResult:
    """What a stage made: enough to build the network again, and how it went.

    `history` has a row for each epoch; `plan` says which channels pruning kept, by prune group.
    """

    architecture: Architecture
    scheme: QuantScheme | None
    state: Mapping[str, Tensor]
    metrics: Mapping[str, float]
    history: list[dict[str, float]] = field(default_factory=list)
    plan: Mapping[str, list[int]] = field(default_factory=dict)

    def model(self) -> Model:
        """Builds the network with its weights, and with its quantizers if the stage put some there. On CPU.

        Raises:
            RuntimeError: the state does not fit the architecture (a bug or a damaged file).
        """
        model = build(self.architecture)
        if self.scheme is not None:
            attach_quantizers_(model, self.scheme)
        model.load_state_dict(dict(self.state))
        return model


@dataclass(frozen=True)
class StageContext:
    """What a stage may use: its parent, data on the device, a seed, and a place for its saved epochs."""

    data: DataSet
    train: Images
    val: Images
    augment: Augment
    device: Device
    seed: int
    saved_epochs: SavedEpochs
    parent_result: StageResult | None = None
    find_teacher: Callable[[], StageResult] | None = None

    @property
    def parent(self) -> StageResult:
        """The result of the stage before this one, which the first stage does not have."""
        assert self.parent_result is not None, "the first stage has no parent"
        return self.parent_result

    def phase(self, number: int) -> "StageContext":
        """Returns the context of one of several training runs inside this stage: own epochs, own random numbers.

        A run that ended is restored from its last saved epoch, so a stage that was killed repeats its phases
        in order and trains only from where it stopped.
        """
        return replace(self, saved_epochs=self.saved_epochs.phase(number), seed=seed_for(self.seed, 6, number) % 2**31)

    def teacher(self) -> Model:
        """Trains or reads the network to distill from, and returns it on the device, in eval mode."""
        assert self.find_teacher is not None, "only a trial has a teacher"
        return self.device.place(self.find_teacher().model()).eval().requires_grad_(False)

    def parent_model(self) -> Model:
        """Returns a fresh copy of the parent's network, on the device."""
        return self.device.place(self.parent.model())


@singledispatch
def run_stage(config: Any, context: StageContext) -> StageResult:
    """Runs one stage, whose configuration's type picks the handler.

    Raises:
        Diverged: training left the finite numbers.
        ConfigError: an input file is not what the configuration says.
    """
    if isinstance(config, StageConfig) and config.HANDLER:
        importlib.import_module(config.HANDLER)
    handler = run_stage.dispatch(type(config))
    if handler is run_stage.dispatch(object):
        raise TypeError(f"no stage is registered for {type(config).__name__}")
    return handler(config, context)


def on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors contiguous and on the CPU, as safetensors writes them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
