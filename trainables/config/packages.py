"""Packages: which installed packages make a result, with their versions (torch-free).

Our own code is known by the VERSION of its stage; the code of another package by the version of that package.
"""

import itertools
from collections.abc import Iterable

from trainables.config.data import DataConfig
from trainables.config.plugins import CODERS, STAGES
from trainables.config.stage import Component, StageConfig, named_plugins
from trainables.config.trial import TrialConfig


def data_packages(config: DataConfig) -> list[str]:
    """Returns the package that brings the loader of the data, as `own-plug-ins 1.0`; nothing where it is ours."""
    return _packages(named_plugins(config))


def stage_packages(stage: StageConfig) -> list[str]:
    """Returns the packages of what a stage uses beside its parent, sorted; nothing where all of it is ours."""
    return _packages([(STAGES, stage.kind), *stage.components()])


def coder_packages() -> list[str]:
    """Returns the packages of all installed coders: each may be the one that stores a layer in the fewest bytes."""
    return _packages((CODERS, name) for name in CODERS.installed())


def trial_packages(config: TrialConfig) -> list[str]:
    """Returns the packages of everything that a trial uses, packing included."""
    teacher = [] if config.own_teacher is None else [config.own_teacher]
    stages = map(stage_packages, [*teacher, *config.stages()])
    return sorted({*data_packages(config.data), *coder_packages(), *itertools.chain.from_iterable(stages)})


def _packages(named: Iterable[Component]) -> list[str]:
    return sorted({package for registry, name in named if (package := registry.package(name))})
