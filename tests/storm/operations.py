"""Acts before or after the n-th thing that a process writes, removes or moves in its storage."""

import functools
import os
from collections.abc import Callable
from typing import Any

WRITING = ("fsync", "link", "mkdir", "open", "rename", "replace", "rmdir", "unlink", "write")
"""The calls of the operating system by which a process changes a disk, as `os` has them."""


def at_operation(number: int, act: Callable[[], object], *, after: bool) -> Callable[[], int]:
    """Lets this process act at one operation, counted from 0; returns a function that tells how many there were.

    It holds until the process ends, so it belongs into a child.
    """
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **more: Any) -> Any:
            nonlocal count
            here, count = count, count + 1
            if here == number and not after:
                act()
            result = function(*args, **more)
            if here == number and after:
                act()
            return result

        return call

    for name in WRITING:
        setattr(os, name, counted(getattr(os, name)))
    return lambda: count


def counter() -> Callable[[], int]:
    """Returns a function that tells how many operations there were since now."""
    return at_operation(-1, lambda: None, after=False)
