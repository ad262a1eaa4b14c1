"""Registry: names of plug-in points, imported when they are used (torch-free)."""

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Generic, TypeVar, cast

from trainables.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps a name to an object, or to the "module:attribute" where the object lives.

    Listing names costs no import, so a spec can be checked without torch.
    """

    def __init__(self, noun: str, entries: Mapping[str, str]) -> None:
        self._noun = noun
        self._entries: dict[str, str | T] = dict(entries)

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator for plug-ins; a name that is taken is refused.

        Raises:
            ConfigError: another object has this name.
        """

        def add(item: T) -> T:
            if self._entries.get(name, item) is not item:
                raise ConfigError(f"{self._noun} {name!r} is registered already: choose another name.")
            self._entries[name] = item
            return item

        return add

    def names(self) -> list[str]:
        """The known names, sorted."""
        return sorted(self._entries)

    def check(self, name: str) -> str:
        """Returns the name, or lists the known ones.

        Raises:
            ConfigError: the name is unknown.
        """
        if name in self._entries:
            return name
        close = difflib.get_close_matches(name, self._entries, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"unknown {self._noun} {name!r}; known: {', '.join(self.names())}.{hint}")

    def __getitem__(self, name: str) -> T:
        entry = self._entries[self.check(name)]
        if isinstance(entry, str):
            module, attribute = entry.split(":")
            entry = cast(T, getattr(importlib.import_module(module), attribute))
        return entry
