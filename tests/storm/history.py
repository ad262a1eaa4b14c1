"""What the files of an experiment tell of its past, and what must hold of it whatever happened."""

import json
import re
from collections import Counter

from tests.storm.search import record_files
from trainables.storage import exists, names, read_bytes, read_many
from tune_app.artifacts.verify import verify
from tune_app.frontier.points import frontier_ids
from tune_app.ledger.baseline import require_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.reading import read_records
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.at_rest import recall
from tune_app.tables.totals import totals_of
from tune_app.tables.trials import read_table


def finished_twice(folder: ExperimentFolder) -> list[str]:
    """The keys of stages that were finished more than once."""
    log = folder.stages / "log.jsonl"
    parts = [read_bytes(log)] if exists(log) else []
    parts += filter(
        lambda found: isinstance(found, bytes),
        read_many(folder.stages / "log" / name for name in names(folder.stages / "log", "*.json")),
    )  # each line of its own, in an object store
    lines = [line for part in parts for line in part.decode(errors="replace").splitlines()]
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
    found = (re.fullmatch(r"([0-9]{8})\.json", name) for name in names(folder.lease, "*.json"))
    return sorted(int(each[1]) for each in found if each)


def check(folder: ExperimentFolder, kept: dict[str, bytes], spec: ExperimentSpec) -> None:
    """Asserts what is promised at the end of a search: nothing lost, changed or done twice, all parts in agreement.

    `kept` are the records that were there when a fault came, `spec` is that of the driver which ended the search.
    """
    now = record_files(folder)
    for name, content in kept.items():
        assert now.get(name) == content, f"{name} was changed or lost"
    assert finished_twice(folder) == []
    held = generations(folder)
    assert held == list(range(1, len(held) + 1))
    assert folder.holds(spec), "the stored spec is not that of the last driver"
    records = read_records(folder)
    trials, front = read_table(folder.trials_table), read_table(folder.frontier_table)
    assert sorted(trials["trial_id"].to_pylist()) == sorted(r.assignment.trial_id for r in records)
    assert front["trial_id"].to_pylist() == frontier_ids(records, spec)
    known = recall(folder)
    assert known is not None
    assert known.totals == totals_of(records, spec, require_baseline(folder).reference(spec))
    found = verify(folder, all=True)
    assert found.holds, (found.broken, found.problems, found.damaged)
