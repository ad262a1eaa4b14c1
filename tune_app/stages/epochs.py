"""Epochs: how many the stages of a trial train for, and how many of them are done, by the files that stages leave."""

from collections import defaultdict
from collections.abc import Mapping

from trainables.config import (
    Baseline,
    ChannelPrune,
    QuantAwareTrain,
    Sparsify,
    StageConfig,
    TrialConfig,
    stage_keys,
    teacher_key,
    training_of,
)
from trainables.stages.markers import MARKERS
from trainables.storage import StoragePath, names, published


def planned_epochs(stage: StageConfig) -> int:
    """Of all training runs inside a stage; an iterative one may stop earlier."""
    schedule = training_of(stage)
    if schedule is None:
        return 0
    if isinstance(stage, ChannelPrune):
        return schedule.epochs + (stage.steps - 1) * stage.step_epochs
    if isinstance(stage, Sparsify) and stage.mode == "iterative":
        return schedule.epochs * stage.steps
    if isinstance(stage, QuantAwareTrain):
        return schedule.epochs + len(stage.progressive_bits) * stage.progressive_epochs
    return schedule.epochs


def teacher_of(config: TrialConfig) -> Baseline | None:
    """The network of its own that some stage distils from."""
    schedules = map(training_of, config.stages())
    return config.teacher if any(s is not None and s.distill is not None for s in schedules) else None


def epochs_by_stage(config: TrialConfig, *, fingerprint: str) -> dict[str, int]:
    """By key of each stage that a trial needs, teacher and baseline included."""
    keys = stage_keys(config, fingerprint=fingerprint)
    found = {key: planned_epochs(stage) for stage, key in zip(config.stages(), keys, strict=True)}
    teacher = teacher_of(config)
    return (
        found if teacher is None else {teacher_key(config, fingerprint=fingerprint): planned_epochs(teacher), **found}
    )


def epochs_done(stages: StoragePath, wanted: Mapping[str, int]) -> int:
    """How many of these epochs are done: all of a finished stage, of others those that are saved.

    Raises:
        StorageUnavailable: the folder cannot be listed.
    """
    finished = {folder.name for folder in published([stages / key for key in wanted], MARKERS)}
    saved = saved_epochs(stages)
    return sum(n if key in finished else min(n, saved.get(key, 0)) for key, n in wanted.items())


def saved_epochs(stages: StoragePath) -> dict[str, int]:
    """By key of each stage at work, or cut off, how many epochs it saved; a stage may train in several phases.

    Raises:
        StorageUnavailable: the folder cannot be listed.
    """
    newest: dict[str, int] = {}
    for depth in ("*", "*/*"):
        for name in names(stages / "progress", f"{depth}/epoch-*.safetensors"):
            run, _, file = name.rpartition("/")
            number = file.split("-")[1]
            newest[run] = max(newest.get(run, 0), int(number) if number.isdecimal() else 0)
    found: dict[str, int] = defaultdict(int)
    for run, count in newest.items():
        found[run.partition("/")[0]] += count
    return dict(found)
