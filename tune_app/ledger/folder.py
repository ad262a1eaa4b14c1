"""ExperimentFolder: where the files of an experiment lie, and whose experiment it is."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trainables.errors import ConfigError, CorruptFile
from trainables.storage import (
    StoragePath,
    create_once,
    exists,
    read_bytes,
    read_many,
    remove,
    replace,
    require_create_once,
    sha256,
    storage_path,
    subfolders,
)
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import as_text, as_written, dump_spec, in_one_line, parse_spec

MOVED = {
    "storage",
    "base.data.root",
    "base.data.on_error",
    *(f"base.{who}.{what}" for who in ("baseline", "teacher") for what in ("checkpoint", "network")),
}
"""A change of these keys moves files, or mends some, and leaves the experiment what it is."""
SEALED = "# sha256 of the lines above: "
"""Begins the last line of a stored spec; one of an older version has none."""
MANY = 100
"""Folders that are looked into for experiments, in order to name some: each costs a request."""
PACKED = "model.mbq"
"""What the packed file of a trial is called, in an experiment and in an export."""


def stored_text(spec: ExperimentSpec) -> bytes:
    """Returns the content of the file that keeps an experiment's spec, with a checksum as its last line."""
    text = dump_spec(spec)
    return f"{text}{SEALED}{sha256(text.encode())}\n".encode()


def is_whole_spec(text: bytes) -> bool:
    """Whether a text is one that `stored_text` made, as its last line proves."""
    above, mark, seal = text.rpartition(SEALED.encode())
    return bool(mark) and seal.strip() == sha256(above).encode()


class DamagedSpec(CorruptFile):
    """The stored spec of an experiment is not what was written."""


class ExperimentFolder:
    """The files of one experiment; knows their names and nothing of their content."""

    def __init__(self, path: StoragePath) -> None:
        self.path = path
        self.spec_file = path / "experiment.yaml"
        self.baseline_file = path / "baseline" / "baseline.json"
        self.baseline_threads_file = path / "baseline" / "threads.json"
        self.in_flight_file = path / "in_flight.json"
        self.decoding_file = path / "decoding.json"
        self.lease = path / "lease"
        self.stages = path / "stages"
        self.trials = path / "trials"
        self.artifacts = path / "artifacts"
        self.trials_table = path / "trials.parquet"
        self.frontier_table = path / "frontier.parquet"
        self.totals_file = path / "totals.json"
        self.heartbeats = path / "running"
        self.tracking = path / "tracking"

    def packed_file(self, trial_id: str) -> StoragePath:
        """Returns where the packed file of a complete trial lies."""
        return self.artifacts / trial_id / PACKED

    def heartbeat(self, trial_id: str) -> StoragePath:
        """Returns the file in which a running trial says of itself where it runs."""
        return self.heartbeats / f"{trial_id}.json"

    @staticmethod
    def existing(place: str | StoragePath) -> "ExperimentFolder":
        """Finds an experiment that is there by its folder's path or URI.

        Raises:
            ConfigError: the place holds no experiment.
            StorageUnavailable: the object store does not answer.
        """
        path = storage_path(place)
        folder = ExperimentFolder(path)
        try:
            if exists(folder.spec_file):
                return folder
            if isinstance(path, Path) and not exists(path):
                raise ConfigError(f"{path} does not exist: give the folder that `tune-app run` printed.")
            near = _experiments_in(path)
        except (OSError, ValueError) as err:
            raise ConfigError(f"cannot look into {str(path)!r}: {err}. Give the folder of an experiment.") from err
        hint = f"it holds experiments: {', '.join(near[:8])}" if near else "give the folder that `tune-app run` printed"
        raise ConfigError(f"{path} is no experiment (it has no experiment.yaml): {hint}.")

    def read_spec(self) -> ExperimentSpec:
        """Reads the stored spec.

        Raises:
            DamagedSpec: the file is not what was written.
            CorruptFile: there is no file, or a whole one of another version.
        """
        source, whole = str(self.spec_file), False
        try:
            content = read_bytes(self.spec_file)
            text, whole = as_text(content, source=source), is_whole_spec(content)
            if SEALED in text and not whole:
                raise ConfigError(f"{source} is not what was written: its checksum does not match.")
            return parse_spec(text, source=source)
        except ConfigError as err:
            said = f"stored spec: {str(err).rstrip('.')}"
            if whole:
                raise CorruptFile(f"{said}; it is whole: use the version of tune-app that wrote it.") from err
            raise DamagedSpec(f"{said}: `tune-app run` writes it again, given a spec that fits the records.") from err
        except OSError as err:
            raise CorruptFile(f"stored spec: {source} is no file.") from err

    def store_spec(self, spec: ExperimentSpec) -> None:
        """Replaces the stored spec; StorageUnavailable when the folder cannot be written."""
        replace(self.spec_file, stored_text(spec))

    def claim(self, spec: ExperimentSpec) -> list[str]:
        """Writes the spec of a new experiment, or compares it with the stored one and updates what may change.

        Returns:
            What changed, such as "budget.trials: 18 → 30".

        Raises:
            ConfigError: a field that decides what the records mean differs.
            DamagedSpec: the stored spec is not what was written.
            CorruptFile: the stored spec is of another version.
            StorageUnavailable: the folder cannot be written.
        """
        if self.holds(spec):
            return []
        text = stored_text(spec)
        if create_once(self.spec_file, text):
            require_create_once(self.spec_file, text)
            return []
        stored = self.read_spec()
        shared = stored.rungs.keys() & spec.rungs.keys()
        different = differences(_identity(stored, shared), _identity(spec, shared))
        if different:
            where, old, new = different[0]
            raise ConfigError(
                f"{self.path} holds an experiment with another {where.partition('.')[0]}: {where} is "
                f"{in_one_line(old)} there and {in_one_line(new)} here. Its records would mean something else: give "
                "this spec another name."
            )
        if stored == spec:
            return []
        self.store_spec(spec)
        changed = (found for found in differences(as_written(stored), as_written(spec)) if found[0] not in MOVED)
        return [f"{where}: {in_one_line(old)} → {in_one_line(new)}" for where, old, new in changed]

    def holds(self, spec: ExperimentSpec) -> bool:
        """Whether the stored spec is this one, byte by byte, as a run finds it that changes nothing."""
        try:
            return read_bytes(self.spec_file) == stored_text(spec)
        except OSError:
            return False

    def probe(self) -> None:
        """Proves that the folder can be written, or raises StorageUnavailable."""
        probe = self.path / ".probe"
        replace(probe, b"ok\n")
        remove(probe)


def told_apart(folders: Sequence[ExperimentFolder]) -> list[str]:
    """Returns a name for each of several experiments: that of its folder, with as much of its path before it as tells
    them apart."""
    paths = [str(folder.path).split("/") for folder in folders]
    longest = max(map(len, paths), default=0)
    names = (["/".join(path[-n:]) for path in paths] for n in range(1, longest + 1))
    return next((found for found in names if len({*found}) == len(found)), [str(folder.path) for folder in folders])


def _experiments_in(path: StoragePath) -> list[str]:
    """Names the experiments in a folder; of many folders the first are looked into."""
    found = subfolders(path)[:MANY]
    specs = read_many(path / name / "experiment.yaml" for name in found)
    return [name for name, content in zip(found, specs, strict=True) if isinstance(content, bytes)]


def _identity(spec: ExperimentSpec, rungs: Iterable[str]) -> dict[str, Any]:
    """Returns what decides the meaning of a record, under the names of a spec: the base, and what these rungs are."""
    epochs = {name: None if rung is None else rung.qat_epochs for name, rung in spec.rungs.items() if name in rungs}
    base, data = spec.base.identity(), spec.base.data
    base["data"].pop("val_fraction", None)  # as the validation is called where it names results
    base["data"]["validation"] = data.validation.model_dump(mode="json")
    return {"base": base, "rungs": epochs}


def differences(old: Any, new: Any, where: str = "") -> list[tuple[str, Any, Any]]:
    """Lists the leaves in which two trees of dicts differ: path, old and new value; None stands for a missing one."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [(where, old, new)]
    return [
        found
        for key in dict.fromkeys([*old, *new])
        for found in differences(old.get(key), new.get(key), f"{where}.{key}".lstrip("."))
    ]
