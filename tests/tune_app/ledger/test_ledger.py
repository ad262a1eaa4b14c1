import functools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.tune_app.factories import make_record, make_records
from trainables.config import digest
from trainables.errors import CorruptFile, StorageUnavailable
from trainables.results import METRICS
from trainables.storage import DRAFT, StoragePath, names, read_bytes, remove, replace
from tune_app.ledger.ledger import Assignment, Damaged, Ledger, TrialRecord, in_full, latest, params_label

POINT = {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}


@pytest.fixture
def ledger(storage: StoragePath) -> Ledger:
    return Ledger(storage / "trials")


def only_file(storage: StoragePath) -> StoragePath:
    [name] = names(storage / "trials", "*.json")
    return storage / "trials" / name


def test_a_record_is_added_once(ledger: Ledger, storage: StoragePath) -> None:
    record = make_record(0, POINT, 0.9)
    assert ledger.add(record) is True
    before = read_bytes(only_file(storage))
    assert ledger.add(record) is False
    assert ledger.add(make_record(0, POINT, 0.5)) is False
    assert read_bytes(only_file(storage)) == before
    assert ledger.read() == ([record], [])


@pytest.mark.parametrize("state", ["complete", "invalid", "failed"])
def test_what_is_read_is_what_was_written(state: Any, ledger: Ledger) -> None:
    record = make_record(3, {**POINT, "kind": "ä/\n", "lr": 0.1 + 0.2}, 1 / 3, state=state)
    ledger.add(record)
    assert ledger.find(record.assignment.trial_id) == record
    assert record.state == state


def test_attributes_of_the_sampler_come_back_as_json(ledger: Ledger) -> None:
    attributes = {"nsga2:generation": 3, "places": {"2": [1.5, None], "10": "x"}}
    plain = make_record(0, POINT)
    assignment = plain.assignment.model_copy(update={"sampler_attrs": attributes})
    record = plain.model_copy(update={"assignment": assignment})
    ledger.add(record)
    assert ledger.read() == ([record], [])


def test_numbers_of_a_point_keep_their_kind(ledger: Ledger) -> None:
    ledger.add(make_record(0, {"prune_frac": 0.0, "w_bits": 4, "mode": "4"}))
    (record,), _ = ledger.read()
    assert [(type(v), v) for v in record.assignment.params.values()] == [(float, 0.0), (int, 4), (str, "4")]


def test_records_are_read_in_order_of_proposal(ledger: Ledger) -> None:
    order = [(5, 1), (0, 2), (3, 1), (0, 1), (12, 1), (2, 1)]
    for number, attempt in order:
        ledger.add(make_record(number, {"w_bits": number}, attempt=attempt))
    records, damaged = ledger.read()
    assert [(r.assignment.number, r.assignment.attempt) for r in records] == sorted(order)
    assert damaged == []


def test_an_empty_ledger(ledger: Ledger) -> None:
    assert ledger.read() == ([], [])
    assert ledger.find("0" * 16 + "-full-a1") is None


def only_path(tmp_path: Path) -> Path:
    [path] = (tmp_path / "trials").glob("*.json")
    return path


def test_a_truncated_record_is_damaged_at_every_byte(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials")
    other = make_record(1, {**POINT, "w_bits": 8})
    record = make_record(0, POINT)
    ledger.add(record)
    path = only_path(tmp_path)
    ledger.add(other)
    content = path.read_bytes()
    assert content.endswith(b"}\n")
    for length in range(len(content) - 1):
        path.write_bytes(content[:length])
        records, damaged = ledger.read()
        assert records == [other]
        assert [d.path for d in damaged] == [path]
        assert str(path) in damaged[0].problem
    assert ledger.find(record.assignment.trial_id) is None


def test_no_flipped_bit_changes_a_record(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials")
    record = make_record(0, POINT)
    ledger.add(record)
    path = only_path(tmp_path)
    content = path.read_bytes()
    unchanged = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        records, damaged = ledger.read()
        assert len(records) + len(damaged) == 1
        assert records in ([], [record])
        unchanged += len(records)
    assert unchanged < 0.05 * len(content)  # another spelling of a number, or of white space


def envelope(record: TrialRecord, **changes: Any) -> dict[str, Any]:
    body = record.model_dump(mode="json")
    return {"schema": 1, "sha256": digest(body), "record": body, **changes}


def forge(body: dict[str, Any]) -> dict[str, Any]:
    return {"schema": 1, "sha256": digest(body), "record": body}


def forged(path: str, value: object) -> bytes:
    """A record with another value in one place, under a checksum that holds."""
    body = make_record(0, POINT).model_dump(mode="json")
    *parents, last = path.split(".")
    functools.reduce(lambda part, name: part[name], parents, body)[last] = value
    return json.dumps(forge(body)).encode()


PLAIN = make_record(0, POINT).model_dump(mode="json")
FOREIGN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"not a trial record \(0 bytes\)"),
    "zeros": (bytes(500), "not a trial record"),
    "not UTF-8": (b"\xff\xfe\xfd", "not a trial record"),
    "a list": (b"[1]", "not a trial record"),
    "null": (b"null", "not a trial record"),
    "text": (b'"text"', "not a trial record"),
    "deep": (b"[" * 100_000, "not a trial record"),
    "no fields": (b"{}", "not a trial record"),
    "NaN": (b'{"schema": 1, "sha256": "0", "record": NaN}', "not a trial record"),
    "html": (b"<!DOCTYPE html>", "not a trial record"),
    "newer schema": (json.dumps(envelope(make_record(0, POINT), schema=2)).encode(), "schema 2, this version reads 1"),
    "no schema": (json.dumps(envelope(make_record(0, POINT), schema=None)).encode(), "schema None"),
    "checksum": (json.dumps(envelope(make_record(0, POINT), sha256="0" * 64)).encode(), "checksum does not match"),
    "unknown field": (json.dumps(forge({**PLAIN, "author": "x"})).encode(), "1 fields do not fit"),
    "missing field": (json.dumps(forge({"assignment": PLAIN["assignment"]})).encode(), "fields do not fit"),
    "a number": (json.dumps({"schema": 1, "sha256": digest(3), "record": 3}).encode(), "1 fields do not fit"),
    "an accuracy above 1": (forged("result.measurement.accuracy", 7), "accuracy must be at most 1"),
    "a score below 0": (forged("result.measurement.macro_f1", -0.1), "macro_f1 must be at least 0"),
    "a negative size": (forged("result.measurement.size_bytes", -5), "size_bytes must be at least"),
    "a part of a negative size": (forged("result.measurement.size_breakdown", {"a": -5}), "must be at least 0"),
    "no ratio": (forged("result.measurement.compression_ratio", 0), "compression_ratio must be more than 0"),
    "more than a table holds": (forged("result.measurement.bops", 2**63), "bops must be less than"),
    "endless seconds": (forged("seconds", 1e300), "seconds must be at most 1,000,000,000"),
    "seconds below 0": (forged("seconds", -1), "seconds must be at least 0"),
    "a memory above 1": (forged("gpu_peak_share", 1.5), "gpu_peak_share must be at most 1"),
    "another trial": (json.dumps(envelope(make_record(0, {"w_bits": 2}))).encode(), "holds the record of "),
    "another attempt": (json.dumps(envelope(make_record(0, POINT, attempt=2))).encode(), "holds the record of .*-a2"),
}


def test_a_record_steers_no_terminal(ledger: Ledger, storage: StoragePath) -> None:
    record = make_record(0, POINT, state="failed", message="plain")
    ledger.add(record)
    body = record.model_dump(mode="json")
    body["result"]["failure"]["message"] = body["environment"]["host"] = "\x1b[2J gone"
    replace(only_file(storage), json.dumps(forge(body)).encode())
    [found], damaged = ledger.read()
    assert not damaged
    assert found.reason == r"Diverged: \x1b[2J gone"
    assert found.environment["host"] == r"\x1b[2J gone"


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_damaged_and_says_why(name: str, ledger: Ledger, storage: StoragePath) -> None:
    content, expected = FOREIGN[name]
    record = make_record(0, POINT)
    ledger.add(record)
    replace(only_file(storage), content)
    records, damaged = ledger.read()
    assert records == []
    assert [d.path for d in damaged] == [only_file(storage)]
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError(damaged[0].problem)
    assert ledger.find(record.assignment.trial_id) is None


def test_a_folder_in_the_place_of_a_record_is_damage(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "trials")
    record = make_record(0, POINT)
    path = tmp_path / "trials" / f"{record.assignment.trial_id}.json"
    path.mkdir(parents=True)
    assert ledger.read() == ([], [Damaged(path, f"{path}: a folder, not a trial record")])
    ledger.quarantine(ledger.read()[1])
    assert ledger.add(record) is True


def test_a_record_that_cannot_be_read_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "trials")
    record = make_record(0, POINT)
    ledger.add(record)

    def fails(_path: Path) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails)
        for read in (ledger.read, lambda: ledger.find(record.assignment.trial_id)):
            with pytest.raises(StorageUnavailable, match="Input/output error"):
                read()
    assert ledger.read() == ([record], [])


def test_a_record_that_goes_while_it_is_read_is_absent(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    record = make_record(0, POINT)
    ledger.add(record)

    def listed(folder: StoragePath, pattern: str) -> list[str]:
        return ["0.json", *names(folder, pattern)]

    monkeypatch.setattr("tune_app.ledger.ledger.names", listed)
    assert ledger.read() == ([record], [])


def test_drafts_and_other_files_are_not_read(ledger: Ledger, storage: StoragePath) -> None:
    ledger.add(make_record(0, POINT))
    replace(storage / "trials" / f"{DRAFT}0123", b"half")
    replace(storage / "trials" / "notes.txt", b"")
    assert len(ledger.read()[0]) == 1
    assert ledger.read()[1] == []


def test_a_quarantined_trial_can_run_again(ledger: Ledger, storage: StoragePath) -> None:
    record = make_record(0, POINT)
    other = make_record(1, {**POINT, "w_bits": 8})
    ledger.add(record)
    path = only_file(storage)
    ledger.add(other)
    for content in (b"half", b"half again"):
        replace(path, content)
        ledger.quarantine(ledger.read()[1])
        assert ledger.read() == ([other], [])
        assert read_bytes(storage / "trials" / "quarantine" / path.name) == content
        assert ledger.add(record) is True
        assert ledger.read() == ([record, other], [])


def test_a_record_that_was_written_since_the_ledger_was_read_stays(ledger: Ledger, storage: StoragePath) -> None:
    """A driver that slept moves what another one, which had put the damaged file aside, has written in its place."""
    record = make_record(0, POINT)
    ledger.add(record)
    path = only_file(storage)
    replace(path, b"half")
    seen_by_sleeper = ledger.read()[1]
    ledger.quarantine(ledger.read()[1])
    assert ledger.add(record) is True
    ledger.quarantine(seen_by_sleeper)
    assert ledger.read() == ([record], [])
    ledger.quarantine(seen_by_sleeper)
    assert ledger.read() == ([record], [])
    remove(path)
    ledger.quarantine(seen_by_sleeper)  # gone by now
    assert ledger.read() == ([], [])


@pytest.mark.parametrize("name", ["newer schema", "unknown field", "missing field"])
def test_a_whole_record_of_another_version_is_not_put_aside(name: str, ledger: Ledger, storage: StoragePath) -> None:
    for number in range(2):
        ledger.add(make_record(number, {"w_bits": number}))
    half, foreign = (storage / "trials" / name for name in names(storage / "trials", "*.json"))
    replace(half, b"half")
    replace(foreign, FOREIGN[name][0])
    damaged = ledger.read()[1]
    assert [d.whole for d in damaged] == [False, True]
    with pytest.raises(CorruptFile, match=rf"^{foreign}: .*, but it is whole: use the version of tune-app"):
        ledger.quarantine(damaged)
    assert ledger.read()[1] == damaged
    ledger.quarantine(damaged[:1])
    assert [d.path for d in ledger.read()[1]] == [foreign]


def test_an_unwritable_folder_is_storage_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/here")):
        with pytest.raises(StorageUnavailable):
            Ledger(folder).add(make_record(0, POINT))


def test_latest_keeps_the_newest_attempt_of_each_rung() -> None:
    records = [
        make_record(0, POINT, 0.1, attempt=1),
        make_record(0, POINT, 0.3, attempt=3),
        make_record(0, POINT, 0.2, attempt=2),
        make_record(0, POINT, 0.4, rung="short"),
        make_record(1, {"w_bits": 2}, 0.5),
    ]
    found = latest(records)
    assert [r.metrics()["accuracy"] for r in found] == [0.3, 0.4, 0.5]
    assert sorted(r.metrics()["accuracy"] for r in latest(reversed(records))) == [0.3, 0.4, 0.5]
    assert latest(make_records()) == make_records()
    assert latest([]) == []


def test_a_record_tells_its_state_reason_and_numbers() -> None:
    complete, failed = make_record(0, POINT, 0.9, 1000), make_record(0, POINT, state="failed", kind="WorkerLost")
    assert (complete.state, complete.reason) == ("complete", "")
    assert complete.metrics()["accuracy"] == 0.9
    assert complete.metrics()["size_bytes"] == 1000
    assert set(complete.metrics()) >= set(METRICS)
    assert all(isinstance(value, float) for value in complete.metrics().values()), "what was not measured is left out"
    assert (failed.state, failed.reason) == ("failed", "WorkerLost: the loss became NaN")
    assert failed.metrics() == {}


def test_a_record_from_before_there_were_repeats_is_of_a_first_run(ledger: Ledger, storage: StoragePath) -> None:
    body = make_record(0, POINT).model_dump(mode="json")
    del body["assignment"]["repeat"]
    path = storage / "trials" / f"{make_record(0, POINT).assignment.trial_id}.json"
    replace(path, json.dumps(forge(body)).encode())
    assert ledger.read() == ([make_record(0, POINT)], [])


def test_a_budget_counts_first_runs_of_the_full_schedule() -> None:
    records = [
        make_record(0, POINT, repeat=2),
        make_record(1, POINT, rung="ptq"),
        make_record(2, POINT, state="failed"),
    ]
    assert in_full(records) == 1
    assert len(latest(records)) == 3


def test_names_of_repeats_count_runs() -> None:
    found = [make_record(i, POINT, repeat=i).assignment for i in range(3)]
    assert [w.label for w in found] == ["p30_w4_a8", "p30_w4_a8#2", "p30_w4_a8#3"]
    assert len({w.trial_id for w in found}) == 3


def test_names_of_trials() -> None:
    assignment = Assignment(number=0, config_key="ab" * 32, params=POINT, seed=0, attempt=2)
    assert assignment.trial_id == "abababababababab-full-a2"
    assert assignment.label == "p30_w4_a8"
    assert params_label({"prune_frac": 0.125, "depth": 3}) == "p12.5_depth=3"
    assert params_label({"prune_frac": 0.0}) == "p0"
    assert params_label({"prune_frac": 0.1 + 0.2}) == "p30"
