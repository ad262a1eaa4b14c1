"""Packages: which installed packages make a result, with their versions (torch-free).

Our own code is known by the VERSION of its stage; the code of another package by the version of that package.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from trainables.config.data import DataConfig
from trainables.config.plugins import CODERS, DATASETS, IMPORTANCE, MODELS, OBSERVERS, QUANTIZERS, SPARSITY
from trainables.config.stages import (
    BaselineImport,
    BaselineTrain,
    BaselineUntrained,
    ChannelPrune,
    PostTrainingQuant,
    QuantAwareTrain,
    Sensitivity,
    Sparsify,
    StageConfig,
    training_of,
)
from trainables.config.trial import TrialConfig
from trainables.registry import Registry

Named = tuple[Registry[Any], str]


def data_packages(config: DataConfig) -> list[str]:
    """Of the loader: `own-plug-ins 1.0`; empty where it is ours."""
    return _packages([(DATASETS, config.name)])


def stage_packages(stage: StageConfig) -> list[str]:
    """Of what a stage uses beside its parent, sorted; empty where all of it is ours."""
    return _packages(_named(stage))


def coder_packages() -> list[str]:
    """Of all installed coders: each may be the one that stores a layer in the fewest bytes."""
    return _packages(_coders())


def trial_packages(config: TrialConfig) -> list[str]:
    """Of everything that a trial uses, packing included."""
    stages = config.stages()
    learns = any(training is not None and training.distill is not None for training in map(training_of, stages))
    teacher = [] if config.teacher is None or not learns else stage_packages(config.teacher)
    found = [data_packages(config.data), coder_packages(), teacher, *map(stage_packages, stages)]
    return sorted({package for part in found for package in part})


def _named(stage: StageConfig) -> Iterator[Named]:
    """The components that a stage names, and those that it uses without a name."""
    if isinstance(stage, BaselineTrain | BaselineImport | BaselineUntrained):
        yield MODELS, stage.model.name
    elif isinstance(stage, ChannelPrune):
        yield IMPORTANCE, stage.importance
    elif isinstance(stage, Sparsify):
        yield SPARSITY, stage.criterion
    elif isinstance(stage, Sensitivity):
        yield OBSERVERS, stage.observer
        yield from _coders()
    elif isinstance(stage, PostTrainingQuant | QuantAwareTrain):
        yield QUANTIZERS, stage.scheme.quantizer
        yield OBSERVERS, stage.scheme.observer
        yield OBSERVERS, stage.scheme.activation_observer or stage.scheme.observer


def _coders() -> list[Named]:
    return [(CODERS, name) for name in CODERS.installed()]


def _packages(named: Iterable[Named]) -> list[str]:
    return sorted({package for registry, name in named if (package := registry.package(name))})
