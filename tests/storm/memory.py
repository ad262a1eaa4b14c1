"""An object store in memory, in which a driver may be held up at every request."""

import fnmatch
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePath


class MemoryStore:
    """The functions of `trainables.storage.objects` that a lock and a ledger need, on a mapping of names to contents.

    `before` is called before each request. `loses_answer` says of a write that has just created an object whether its
    answer gets lost: the driver asks again then, and is told that the object is there.
    """

    def __init__(self, before: Callable[[], None], loses_answer: Callable[[], bool]) -> None:
        self.objects: dict[str, bytes] = {}
        self.on_write: Callable[[PurePath, bytes], None] = lambda path, content: None
        self.before, self._loses_answer = before, loses_answer

    def create_once(self, path: PurePath, content: bytes) -> bool:
        self.before()
        if str(path) in self.objects:
            return False
        self._put(path, content)
        return not self._loses_answer()

    def replace(self, path: PurePath, content: bytes) -> None:
        self.before()
        self._put(path, content)

    def read_bytes(self, path: PurePath) -> bytes:
        self.before()
        if str(path) not in self.objects:
            raise FileNotFoundError(str(path))
        return self.objects[str(path)]

    def read_many(self, paths: Sequence[PurePath]) -> list[bytes | OSError]:
        self.before()
        return [self.objects.get(str(path), FileNotFoundError(str(path))) for path in paths]

    def names(self, folder: PurePath, pattern: str) -> list[str]:
        self.before()
        found = [PurePath(name).relative_to(folder) for name in self.objects if PurePath(name).is_relative_to(folder)]
        parts = pattern.split("/")
        fitting = [n for n in found if len(n.parts) == len(parts) and all(map(fnmatch.fnmatchcase, n.parts, parts))]
        return sorted(map(str, fitting))

    def remove(self, path: PurePath) -> None:
        self.before()
        self.objects.pop(str(path), None)

    def move(self, path: PurePath, target: PurePath, markers: Collection[str]) -> None:
        self.before()
        if str(path) in self.objects:
            self._put(target, self.objects.pop(str(path)))

    def _put(self, path: PurePath, content: bytes) -> None:
        self.objects[str(path)] = content
        self.on_write(path, content)
