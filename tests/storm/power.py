"""Power that is lost at one operation of a search: what was not synced may be gone, torn or there.

What a disk keeps for sure is known from the calls of fsync: the content of a file as it was then, and the names in a
folder as they were then. Of everything else a seed decides.
"""

import json
import os
import random
import shutil
import signal
import stat
from functools import partial
from pathlib import Path

from tests.storm.history import check
from tests.storm.operations import at_operation
from tests.storm.search import Facts, facts, in_child, quick_spec, search
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger, TrialRecord
from tune_app.spec.experiment import ExperimentSpec

Entries = dict[str, int]
"""The numbers of inodes by their names in a folder."""


class Disk:
    """What of a folder was synced so far, by this process; a file that may be needed again has a link elsewhere."""

    def __init__(self, root: Path, links: Path) -> None:
        self._root, self._links = root, links
        self._folders: dict[str, Entries] = {}
        self._files: dict[str, tuple[int, int]] = {}
        self._link, self._sync = os.link, os.fsync

    def watch(self) -> None:
        """Takes note of each fsync from here on, in this process until it ends."""
        os.fsync = self._fsync

    def _fsync(self, handle: int) -> None:
        self._sync(handle)
        path, about = Path(os.readlink(f"/proc/self/fd/{handle}")), os.fstat(handle)
        if not path.is_relative_to(self._root):
            return
        if not stat.S_ISDIR(about.st_mode):
            self._files[str(about.st_ino)] = (about.st_size, about.st_mtime_ns)
            return
        with os.scandir(path) as found:
            entries = {entry.name: (entry.inode(), entry.is_file()) for entry in found}
        for name, (inode, is_file) in entries.items():
            if is_file and not (self._links / str(inode)).exists():
                self._link(path / name, self._links / str(inode))
        self._folders[str(about.st_ino)] = {name: inode for name, (inode, _) in entries.items()}

    def lose_power(self) -> None:
        """Says what is certain, and ends the process."""
        (self._links / "certain.json").write_text(json.dumps({"folders": self._folders, "files": self._files}))
        os.kill(os.getpid(), signal.SIGKILL)


class Loss:
    """What a loss of power leaves of a folder."""

    def __init__(self, links: Path, seed: int) -> None:
        certain = json.loads((links / "certain.json").read_text())
        self._folders: dict[str, Entries] = certain["folders"]
        self._files: dict[str, tuple[int, int]] = {name: tuple(found) for name, found in certain["files"].items()}
        self._links, self._random = links, random.Random(seed)

    def strike(self, folder: Path) -> None:
        """Takes from a folder and what is below it what was not certain, or a part of that."""
        certain = self._names(folder)
        for path in sorted(folder.iterdir()):
            if certain.get(path.name) != path.lstat().st_ino and self._happens():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                self._restore(path, certain)
            elif path.is_dir():
                self.strike(path)
            else:
                self._tear(path)
        for name in sorted(certain.keys() - {path.name for path in folder.iterdir()}):
            if self._happens():
                self._restore(folder / name, certain)

    def _names(self, folder: Path) -> Entries:
        """What is certain to be in a folder, wherever it lay when it was synced."""
        return self._folders.get(str(folder.lstat().st_ino), {})

    def _happens(self) -> bool:
        return self._random.random() < 0.5

    def _restore(self, path: Path, certain: Entries) -> None:
        """Puts the file back that was of this name; a folder that was removed stays away."""
        known = self._links / str(certain.get(path.name))
        if known.exists():
            os.link(known, path)

    def _tear(self, path: Path) -> None:
        """Leaves of what was never synced a part; of what was appended since, too."""
        about = path.lstat()
        least, changed_ns = self._files.get(str(about.st_ino), (0, 0))
        if (about.st_size, about.st_mtime_ns) != (least, changed_ns) and self._happens():
            os.truncate(path, self._random.randint(min(least, about.st_size), about.st_size))


def power_lost(number: int, place: Path, expected: Facts, *, seed: int) -> bool:
    """Lets power fail at an operation of a search, ends it by the same call, and asserts that nothing shows it.

    Returns False where it ended before there were so many operations.
    """
    root, links = place / "storage", place / "links"
    root.mkdir(parents=True)
    links.mkdir()
    spec = quick_spec(root)
    folder = ExperimentFolder(spec.folder)
    first = in_child(partial(_lose_at, number, spec, Disk(root, links), links))
    assert first in {0, -signal.SIGKILL}
    if first != 0:
        Loss(links, seed).strike(root)
    kept = {path.name: path.read_bytes() for path in links.glob("*-full-a1.json")}
    assert in_child(partial(search, spec)) == 0
    check(folder, kept, spec)
    assert facts(folder) == expected
    shutil.rmtree(place)
    return first != 0


def _lose_at(number: int, spec: ExperimentSpec, disk: Disk, links: Path) -> None:
    add = Ledger.add

    def noted(ledger: Ledger, record: TrialRecord) -> bool:
        """Notes what a search was told that it is stored: this must be there whatever comes."""
        done, name = add(ledger, record), f"{record.assignment.trial_id}.json"
        shutil.copyfile(Path(str(ExperimentFolder(spec.folder).trials)) / name, links / name)
        return done

    Ledger.add = noted  # type: ignore[method-assign]
    disk.watch()
    at_operation(number, disk.lose_power, after=False)
    search(spec)
