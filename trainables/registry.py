"""Registry: names of plug-in points, imported when they are used (torch-free)."""

import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

from trainables.errors import ConfigError, nearest

T = TypeVar("T")
Item = TypeVar("Item")


class Registry(Generic[T]):
    """A map of names to objects, or to the "module:attribute" where an object lives.

    Installed packages add names with entry points in `group`
    (https://packaging.python.org/specifications/entry-points): every process that can import them knows these names.
    Our own names come first, so that looking one up does not search the installed packages. Listing names costs no
    import, so a spec can be checked without torch. A name that is taken already raises ConfigError. The name `reserved`
    is accepted and stands for nothing here.
    """

    def __init__(self, noun: str, entries: Mapping[str, str], *, group: str = "", reserved: str = "") -> None:
        self.noun = noun
        self.reserved = reserved
        self.group = group
        self._entries: dict[str, str | T] = dict(entries)

    def register(self, name: str) -> Callable[[Item], Item]:
        """Returns a decorator that gives a plug-in this name in this process alone, as in a notebook.

        Raises:
            ConfigError: another object has this name.
        """

        def add(item: Item) -> Item:
            if self._entries.get(name, item) is not item:
                raise ConfigError(f"{self.noun} {name!r} is registered already: choose another name.")
            self._entries[name] = cast(T, item)
            return item

        return add

    def names(self) -> list[str]:
        """Returns the known names, sorted."""
        return sorted({*self._entries, *self.installed()})

    def installed(self) -> Mapping[str, EntryPoint]:
        """Finds what installed packages add, by name."""
        found = _installed(self.group) if self.group else {}
        for name in self._entries.keys() & found.keys():
            raise ConfigError(f"{self.noun} {name!r} of {source(found[name])} is the name of another one: rename it.")
        return found

    def check(self, name: str) -> str:
        """Returns a name that is known, or raises ConfigError: it is unknown; the message lists the known ones."""
        if name in self._entries or name in self.installed() or (name and name == self.reserved):
            return name
        known = self.names()
        close = nearest(name, known)
        hint = f" Did you mean {close!r}?" if close else ""
        raise ConfigError(f"unknown {self.noun} {name!r}; known: {', '.join(known)}.{hint}")

    def package(self, name: str) -> str:
        """Returns the package and version that bring a name (`own-plug-ins 1.0`); empty for ours and unknown names."""
        point = None if name in self._entries else self.installed().get(name)
        return "" if point is None else source(point)

    def __getitem__(self, name: str) -> T:
        entry = self._entries.get(self.check(name))
        if entry is not None:
            return cast(T, pkgutil.resolve_name(entry)) if isinstance(entry, str) else entry
        point = self.installed()[name]
        try:
            return cast(T, point.load())
        except (ImportError, AttributeError) as err:
            place = f"{self.noun} {name!r} of {source(point)}"
            raise ConfigError(f"{place} cannot be imported from {point.value}: {err}. Mend that package.") from err

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Makes `Annotated[str, registry]` the type of a field with a known name, or none."""
        return no_info_after_validator_function(
            lambda name: None if name is None else self.check(name), handler(source)
        )


def source(point: EntryPoint) -> str:
    """Returns the package that brings an entry point, and its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


@cache
def _installed(group: str) -> Mapping[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for point in _scan().select(group=group):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise ConfigError(f"{point.name!r} of {group} is in {source(other)} and in {source(point)}: remove one.")
    return found


_scan = cache(entry_points)
"""The entry points of all installed packages, searched once in a process: a search reads the files of each package."""
