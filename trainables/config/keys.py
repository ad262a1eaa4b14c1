"""Keys: the name of a stage's result is a digest of everything that made it (torch-free).

What packages with plug-ins make is named by their versions too; where all is ours, a key says nothing of packages.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainables.config.data import DataConfig
from trainables.config.packages import coder_packages, data_packages, stage_packages
from trainables.config.stage import StageConfig
from trainables.config.trial import TrialConfig
from trainables.errors import ConfigError


def digest(body: object) -> str:
    """Returns the SHA-256 of a JSON value as 64 hex digits; equal values give equal digests."""
    return hashlib.sha256(json.dumps(body, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, or raises ConfigError: the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as err:
        reason = err.strerror if isinstance(err, OSError) else err
        raise ConfigError(f"cannot read {path}: {reason}. Give the path of a checkpoint file.") from err


def repeat_seed(seed: int, repeat: int) -> int:
    """Returns the seed of the stages after the baseline: the configuration's own, or that of a repeat, below 2**31.

    The first 31 bits of the SHA-256 of both numbers, so that repeats of neighboring seeds share no random numbers.
    """
    return seed if repeat == 0 else int(digest(["repeat", seed, repeat])[:8], 16) >> 1


def stage_key(parent: str, config: StageConfig, *, seed: int, teacher: str = "") -> str:
    """Names the result of a stage by everything that made it; `parent` is the previous key or the data key.

    `teacher` is the key of a teacher that is not among the stage's ancestors.
    """
    content = config.model_dump(mode="json", exclude_defaults=True, exclude=set(config.PLACES))
    revisions = [{name: version} for name, version in config.revisions().items()]
    more = [*([teacher] if teacher else []), *revisions, *_by(stage_packages(config))]
    return digest([parent, config.VERSION, config.kind, content, seed, *more])


def data_key(config: DataConfig, fingerprint: str) -> str:
    """Names the parent of the first stage: which images, in which split, with which augmentation."""
    auto = [] if config.augment.auto == "none" else [{"auto": config.augment.AUTO_VERSION}]
    return digest([fingerprint, config.identity(), *auto, *_by(data_packages(config))])


def teacher_key(config: TrialConfig, *, fingerprint: str) -> str:
    """Names the result of the configuration's own teacher; empty when its baseline teaches."""
    if config.teacher is None:
        return ""
    return stage_key(data_key(config.data, fingerprint), config.teacher, seed=config.seed)


def stage_keys(config: TrialConfig, *, fingerprint: str) -> list[str]:
    """Returns the key of each stage of a configuration, in order."""
    keys = [data_key(config.data, fingerprint)]
    teacher = teacher_key(config, fingerprint=fingerprint)
    later = repeat_seed(config.seed, config.repeat)
    for place, stage in enumerate(config.stages()):
        seed = config.seed if place == 0 else later
        keys.append(stage_key(keys[-1], stage, seed=seed, teacher=teacher if stage.distills else ""))
    return keys[1:]


def trial_key(config: TrialConfig, *, fingerprint: str) -> str:
    """Names a configuration as a whole: its last stage, and what is done with the result of that one."""
    after = {
        "pack": config.pack.model_dump(mode="json", exclude_defaults=True),
        "measure": config.measure.model_dump(mode="json", exclude_defaults=True),
        "packages": coder_packages(),
    }
    changed = {name: content for name, content in after.items() if content}
    last = stage_keys(config, fingerprint=fingerprint)[-1]
    return digest(["trial", last, *([changed] if changed else [])])


def _by(packages: Sequence[str]) -> list[dict[str, Any]]:
    return [{"packages": list(packages)}] if packages else []
