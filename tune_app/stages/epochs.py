"""Epochs: how many the stages of a trial train for, and how many of them are done, by the files that stages leave."""

from collections import defaultdict
from collections.abc import Mapping

from trainables.config import StageConfig, TrialConfig, stage_keys, teacher_key
from trainables.stages.markers import MARKERS
from trainables.storage import StoragePath, names, published


def stages_by_key(config: TrialConfig, *, fingerprint: str) -> dict[str, StageConfig]:
    """Returns the stages that a trial needs by their keys, in their order; a teacher of its own comes first."""
    found = dict(zip(stage_keys(config, fingerprint=fingerprint), config.stages(), strict=True))
    if config.own_teacher is None:
        return found
    return {teacher_key(config, fingerprint=fingerprint): config.own_teacher, **found}


def epochs_by_stage(config: TrialConfig, *, fingerprint: str) -> dict[str, int]:
    """Returns the planned epochs of each stage that a trial needs by its key, those of its teacher first."""
    return {key: stage.planned_epochs for key, stage in stages_by_key(config, fingerprint=fingerprint).items()}


def epochs_done(stages: StoragePath, wanted: Mapping[str, int]) -> int:
    """Counts how many of these epochs are done: all of a finished stage, of others those that are saved.

    Raises:
        StorageUnavailable: the folder cannot be listed.
    """
    finished = {folder.name for folder in published([stages / key for key in wanted], MARKERS)}
    saved = saved_epochs(stages)
    return sum(n if key in finished else min(n, saved.get(key, 0)) for key, n in wanted.items())


def saved_epochs(stages: StoragePath) -> dict[str, int]:
    """Counts the epochs that each stage saved that is at work or was cut off, by key; a stage may train in phases.

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
