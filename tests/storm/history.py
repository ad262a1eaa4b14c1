"""What the files of an experiment tell of its past, and what must hold of it whatever happened."""

import json
import re
from collections import Counter
from pathlib import Path

from tune_app.artifacts.verify import verify
from tune_app.ledger.folder import ExperimentFolder
from tune_app.tables.trials import read_table


def finished_twice(folder: ExperimentFolder) -> list[str]:
    """The keys of stages that were finished more than once."""
    log = Path(str(folder.stages)) / "log.jsonl"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    counts = Counter(event["key"] for event in map(_event, lines) if event.get("event") == "finish")
    return [key for key, count in counts.items() if count > 1]


def _event(line: str) -> dict[str, str]:
    """What a line of the log says; nothing if its end was lost with the power."""
    try:
        found: dict[str, str] = json.loads(line)
    except ValueError:
        return {}
    return found


def generations(folder: ExperimentFolder) -> list[int]:
    """The numbers of those who have held the lease, in order."""
    names = (re.fullmatch(r"([0-9]{8})\.json", path.name) for path in Path(str(folder.lease)).iterdir())
    return sorted(int(found[1]) for found in names if found)


def check(folder: ExperimentFolder, kept: dict[str, bytes]) -> None:
    """Asserts what is promised at the end of a search: nothing lost, changed or done twice, all parts in agreement.

    `kept` are the records that were there when a fault came.
    """
    for name, content in kept.items():
        assert (Path(str(folder.trials)) / name).read_bytes() == content, f"{name} was changed or lost"
    assert finished_twice(folder) == []
    held = generations(folder)
    assert held == list(range(1, len(held) + 1))
    trials, front = read_table(folder.trials_table), read_table(folder.frontier_table)
    assert len(trials) == len(list(Path(str(folder.trials)).glob("*.json")))
    assert set(front["trial_id"].to_pylist()) <= set(trials["trial_id"].to_pylist())
    found = verify(folder, all=True)
    assert found.holds, (found.broken, found.problems, found.damaged)
