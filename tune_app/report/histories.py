"""Histories: the epochs of finished stages, read from their descriptions alone, without weights."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from trainables.config import digest
from trainables.stage_signs import FINISHED
from trainables.storage import StoragePath, read_many

History = list[dict[str, float]]


def read_histories(stages: StoragePath, keys: Iterable[str]) -> dict[str, History]:
    """By key of a stage its rows, one per epoch; a stage that is removed, failed or damaged is left out.

    Raises:
        StorageUnavailable: a file cannot be read.
    """
    asked = list(dict.fromkeys(keys))
    contents = read_many(stages / key / FINISHED for key in asked)
    found = {key: _history(content) for key, content in zip(asked, contents, strict=True)}
    return {key: history for key, history in found.items() if history}


def _history(content: bytes | OSError) -> History:
    if isinstance(content, OSError):
        return []
    try:
        about: Mapping[str, Any] = json.loads(content)
        body = {name: value for name, value in about.items() if name != "sha256"}
        history = body["history"]
        intact = about["sha256"] == digest(body)
        return [dict(row) for row in history] if intact else []
    except (ValueError, TypeError, KeyError, AttributeError):
        return []
