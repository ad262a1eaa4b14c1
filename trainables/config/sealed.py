"""Sealed: a value as a JSON file with a checksum of its content, so that no flipped bit passes (torch-free)."""

import json
from typing import Any, TypeVar

from pydantic import BaseModel

from trainables.config.keys import digest

SEAL = "sha256"
"""The key of the checksum, beside those of the value."""
Value = TypeVar("Value", bound=BaseModel)


def sealed(value: BaseModel) -> bytes:
    """Returns the content of a file that holds a value, for `unsealed` to read."""
    return sealed_mapping(value.model_dump(mode="json"))


def sealed_mapping(body: dict[str, Any]) -> bytes:
    """Returns the content of a file that holds a mapping, with the checksum under a key of its own."""
    return (json.dumps({**body, SEAL: digest(body)}, indent=1) + "\n").encode()


def unsealed(content: bytes, kind: type[Value], *, older: bool = True) -> Value:
    """Reads a value of this kind from the content of its file; `older`: one of an older version has no checksum.

    Raises:
        ValueError: it is no such value, or not what was written.
    """
    body = json.loads(content)
    if not isinstance(body, dict):
        raise ValueError("no mapping of keys")
    seal = body.pop(SEAL, None)
    if seal != digest(body) and not (older and seal is None):
        raise ValueError("the checksum does not match the content")
    return kind.model_validate(body)
