"""Memory: what was shown at a tracker's destination already, so that nothing is shown twice."""

from pydantic import TypeAdapter

from trainables.storage import StoragePath, read_bytes, replace_json

PLACES = TypeAdapter(dict[str, dict[str, tuple[int, bool]]])
"""By destination and run: the last step that was shown, and whether the run is done."""


class Memory:
    """The last step of each run at one destination, and which runs are done; other destinations are kept as they are.

    The file is a hint: without it runs are shown once more. A damaged one counts as none.
    """

    def __init__(self, path: StoragePath, destination: str, *, again: bool = False) -> None:
        """Reads the memory; with `again`, what was shown at this destination is forgotten."""
        self._path = path
        try:
            self._places = PLACES.validate_json(read_bytes(path))
        except (OSError, ValueError):
            self._places = {}
        if again:
            self._places.pop(destination, None)
        self._runs = self._places.setdefault(destination, {})
        self._changed = again

    def step(self, name: str) -> int:
        """Returns the last step of a run that was shown; 0 means none."""
        return self._runs[name][0] if name in self._runs else 0

    def done(self) -> set[str]:
        """Returns the runs that need nothing more."""
        return {name for name, (_, done) in self._runs.items() if done}

    def note(self, name: str, step: int, *, done: bool = False) -> None:
        """Notes that a run was shown up to a step."""
        if self._runs.get(name) != (step, done):
            self._runs[name] = (step, done)
            self._changed = True

    def save(self) -> None:
        """Writes the memory if there is something new.

        Raises:
            StorageUnavailable: the folder cannot be written.
        """
        if self._changed:
            replace_json(self._path, self._places, durable=False)
            self._changed = False
