"""Packed files against their records: what holds, what does not, and that looking changes nothing."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Result
from tests.specs import tiny_spec
from tests.tune_app.factories import make_experiment, make_record, make_records, store_baseline, store_files, tabulate
from tests.tune_app.real import label_of, make_real_experiment
from trainables.config import sealed
from trainables.errors import ConfigError
from trainables.export.packed import unpack
from trainables.measure import file_metrics
from trainables.results import METRICS, SCORES
from trainables.storage import StoragePath, remove, remove_tree, replace, sha256
from tune_app.artifacts.verify import verify
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Ledger, TrialRecord
from tune_app.tables.trials import read_table

Cli = Callable[..., Result]
GOLDEN = Path(__file__).parents[2] / "trainables/golden/side8.mbq"
OTHER_GPU = "a GPU that nobody has"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    return make_real_experiment(tmp_path_factory.mktemp("verify"))


@pytest.fixture
def folder(made: ExperimentFolder, tmp_path: Path) -> ExperimentFolder:
    """A copy, which a test may change."""
    return ExperimentFolder(Path(shutil.copytree(str(made.path), tmp_path / "tiny")))


def record_of(folder: ExperimentFolder) -> TrialRecord:
    [record] = Ledger(folder.trials).read()[0]
    return record


def artifact(folder: ExperimentFolder) -> Path:
    return Path(str(folder.artifacts)) / record_of(folder).assignment.trial_id / "model.mbq"


def rewrite(folder: ExperimentFolder, **measured: Any) -> None:
    """The record with other measured values and a checksum that fits; `device` is where it was measured."""
    record = record_of(folder)
    environment = {**record.environment, "device": measured.pop("device", record.environment["device"])}
    result: Any = record.result
    digest, architecture = measured.pop("sha", result.artifact_sha256), measured.pop("architecture", {})
    changes = {
        "measurement": result.measurement.model_copy(update=measured),
        "artifact_sha256": digest,
        "architecture": result.architecture.model_copy(update=architecture),
    }
    (Path(str(folder.trials)) / f"{record.assignment.trial_id}.json").unlink()
    changed = {"result": result.model_copy(update=changes), "environment": environment}
    assert Ledger(folder.trials).add(record.model_copy(update=changed))


def rules(folder: ExperimentFolder, **options: Any) -> list[str]:
    """The rules that the one trial breaks."""
    [verdict] = verify(folder, **options).verdicts
    return [mismatch.rule for mismatch in verdict.mismatches]


def tree(folder: ExperimentFolder) -> dict[str, tuple[bytes, int]]:
    """Content and time of every file."""
    files = [path for path in Path(str(folder.path)).rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("options", [{}, {"all": True}, {"evaluate": True}], ids=lambda o: " ".join(o) or "frontier")
def test_what_was_measured_holds_and_nothing_is_changed(options: dict[str, bool], folder: ExperimentFolder) -> None:
    before = tree(folder)
    found = verify(folder, **options)
    assert found.holds
    [verdict] = found.verdicts
    assert verdict.mismatches == ()
    assert verdict.accuracy == (record_of(folder).metrics()["accuracy"] if "evaluate" in options else None)
    assert tree(folder) == before


def test_a_search_that_runs_is_no_hindrance(folder: ExperimentFolder) -> None:
    with Lease(folder):
        assert verify(folder).holds


def test_a_file_alone_says_every_metric_but_the_accuracy(folder: ExperimentFolder) -> None:
    content, measured = artifact(folder).read_bytes(), record_of(folder).metrics()
    found = file_metrics(unpack(content), size_bytes=len(content))
    assert found == {name: measured[name] for name in METRICS if name not in SCORES}


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda content: content[:-7], ["size_bytes", "sha256", "decoding"]),
        (lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:], ["sha256", "decoding"]),
        (lambda content: GOLDEN.read_bytes(), ["size_bytes", "sha256"]),
        (lambda content: None, ["file"]),
    ],
    ids=["truncated", "one bit", "another network", "missing"],
)
def test_harm_to_a_file_is_a_line_with_rule_value_and_way_out(
    harm: Callable[[bytes], bytes | None], expected: list[str], folder: ExperimentFolder, cli: Cli
) -> None:
    path, label = artifact(folder), label_of(folder)
    old = path.read_bytes()
    new = harm(old)
    path.unlink() if new is None else path.write_bytes(new)
    done = cli("verify", folder.path, "--evaluate")
    assert (done.code, done.err) == (6, f"error: 1 of 1 trial of {folder.path} is not as recorded.\n")
    lines = [line for line in done.out.splitlines() if line.startswith(f"{label}: ")]
    assert [line.split()[1] for line in lines] == expected
    assert all(
        line.endswith(f"make the trial again with `tune-app reproduce {folder.path} {label}`.") for line in lines
    )
    if "size_bytes" in expected:
        assert f"size_bytes must be {len(old):,}, but is {len(new or b''):,}: " in lines[0]
    if "sha256" in expected:
        assert f"sha256 must be {sha256(old)}, but is {sha256(new or b'')}: " in done.out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"parameters": 1}, ["parameters"]),
        ({"macs": 1, "sparsity_achieved": 0.5}, ["macs", "sparsity_achieved"]),
        ({"architecture": {"classes": 11}}, ["architecture.classes"]),
        ({"architecture": {"widths": {}}}, ["architecture.widths"]),
    ],
    ids=str,
)
def test_a_record_that_says_another_network_than_its_file_is_found(
    change: dict[str, Any], expected: list[str], folder: ExperimentFolder
) -> None:
    rewrite(folder, **change)
    found = rules(folder)
    assert [rule for rule in found if not rule.startswith("architecture.widths")] == [
        rule for rule in expected if rule != "architecture.widths"
    ]
    assert any(rule.startswith("architecture.widths.") for rule in found) == ("architecture.widths" in expected)


def test_an_accuracy_must_be_the_same_on_the_same_device(folder: ExperimentFolder) -> None:
    measured = record_of(folder).metrics()
    one = 1 / measured["n"]
    rewrite(folder, accuracy=measured["accuracy"] - one)
    assert rules(folder) == []
    assert rules(folder, evaluate=True) == ["accuracy"]
    rewrite(folder, device=OTHER_GPU)
    assert rules(folder, evaluate=True) == []
    rewrite(folder, accuracy=measured["accuracy"] - 2 * one)
    assert rules(folder, evaluate=True) == ["accuracy"]


def test_an_accuracy_of_other_images_is_none(folder: ExperimentFolder) -> None:
    rewrite(folder, n=7, parameters=1)
    assert rules(folder, evaluate=True) == ["parameters", "n"]


def test_another_data_set_is_refused_before_anything_is_evaluated(folder: ExperimentFolder, cli: Cli) -> None:
    baseline = read_baseline(folder)
    assert baseline is not None
    replace(folder.baseline_file, sealed(baseline.model_copy(update={"fingerprint": "0" * 64})))
    assert cli("verify", folder.path).code == 0
    done = cli("verify", folder.path, "--evaluate")
    assert (done.code, done.out) == (2, "")
    assert "the data set is not the one" in done.err


def test_what_holds_is_said_in_one_line_each(folder: ExperimentFolder, cli: Cli) -> None:
    label, measured = label_of(folder), record_of(folder).metrics()
    done = cli("verify", folder.path, label, "--evaluate")
    assert (done.code, done.err) == (0, "")
    [row] = [line for line in done.out.splitlines() if line.startswith(label)]
    assert row.split()[1:] == [
        f"{measured['size_bytes']:,.0f}",
        f"{100 * measured['accuracy']:.2f}",
        "%",
        "as",
        "recorded",
    ]
    assert done.out.splitlines()[-1] == (
        "1 trial as recorded: size, SHA-256, decoded network and accuracy, evaluated again"
    )


def test_json_holds_what_people_read(folder: ExperimentFolder, cli: Cli) -> None:
    whole = json.loads(cli("verify", folder.path, "--json", "--evaluate").out)
    measured = record_of(folder).metrics()
    [trial] = whole["trials"]
    assert (whole["holds"], trial["holds"], trial["mismatches"]) == (True, True, [])
    assert trial["accuracy_again"] == trial["accuracy"] == measured["accuracy"]
    artifact(folder).unlink()
    done = cli("verify", folder.path, "--json")
    found = json.loads(done.out)
    assert (done.code, found["holds"], found["trials"][0]["accuracy_again"]) == (6, False, None)
    [mismatch] = found["trials"][0]["mismatches"]
    assert mismatch == {"rule": "file", "recorded": str(artifact(folder)), "found": "missing"}


def many(tmp_path: Path) -> ExperimentFolder:
    """Two points on the frontier, one of them with two runs, one dominated and one that failed; no files."""
    points = [{"prune_frac": 0.0, "w_bits": bits, "a_bits": 8} for bits in (8, 4, 2)]
    records = [
        make_record(0, points[0], 0.95, 90_000),
        make_record(1, points[1], 0.90, 50_000),
        make_record(2, points[1], 0.90, 50_000, repeat=1),
        make_record(3, points[2], 0.80, 60_000),
        make_record(4, {"prune_frac": 0.5, "w_bits": 2, "a_bits": 8}, state="invalid"),
    ]
    return make_experiment(tmp_path, records, tables=False)


@pytest.mark.parametrize(
    ("names", "everything", "expected"),
    [
        ([], False, ["p0_w4_a8", "p0_w8_a8"]),
        ([], True, ["p0_w8_a8", "p0_w4_a8", "p0_w4_a8#2", "p0_w2_a8"]),
        (["p0_w2_a8", "p0_w4_a8#2", "p0_w2_a8"], False, ["p0_w2_a8", "p0_w4_a8#2"]),
    ],
    ids=["frontier", "all", "named"],
)
def test_the_frontier_all_or_the_named_ones_are_looked_at(
    names: list[str], everything: bool, expected: list[str], tmp_path: Path
) -> None:
    assert [verdict.label for verdict in verify(many(tmp_path), names, all=everything).verdicts] == expected


def test_a_damaged_record_counts_unless_trials_are_named(folder: ExperimentFolder, cli: Cli) -> None:
    damaged = Path(str(folder.trials)) / f"{'0' * 16}-full-a1.json"
    damaged.write_bytes(b"{")
    done = cli("verify", folder.path)
    assert (done.code, done.err) == (6, f"error: 1 damaged record of {folder.path} is not as recorded.\n")
    assert f"{damaged}: not a trial record (1 bytes): the next `tune-app run` puts it aside" in done.out
    [entry] = json.loads(cli("verify", folder.path, "--json").out)["damaged_records"]
    assert entry["path"] == str(damaged)
    named = cli("verify", folder.path, label_of(folder))
    assert (named.code, named.err) == (0, f"left out: {damaged}: not a trial record (1 bytes)\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["p99"], "no trial of .* is called 'p99'"),
        (["p50_w2_a8"], "is invalid"),
        (["p0_w8_a8", "--all"], "--all takes every trial: leave 'p0_w8_a8' out"),
    ],
)
def test_what_cannot_be_verified_is_bad_input(arguments: list[str], words: str, cli: Cli, tmp_path: Path) -> None:
    done = cli("verify", many(tmp_path).path, *arguments)
    assert (done.code, done.out) == (2, "")
    with pytest.raises(ConfigError, match=words):
        verify(many(tmp_path / "again"), arguments[:1], all="--all" in arguments)


@pytest.mark.parametrize("records", [[], [make_record(0, {"w_bits": 2}, state="failed")]], ids=["empty", "failures"])
@pytest.mark.parametrize("option", ["", "--all"])
def test_nothing_to_verify_is_no_proof(option: str, records: list[TrialRecord], cli: Cli, tmp_path: Path) -> None:
    place = make_experiment(tmp_path, records, tables=False).path
    done = cli("verify", place, *([option] if option else []))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert f"has no {'complete trial' if option else 'frontier'} yet: run `tune-app run` first" in done.err


def test_a_file_that_cannot_be_reached_is_no_damage(folder: ExperimentFolder, cli: Cli) -> None:
    path = artifact(folder)
    path.unlink()
    os.symlink(path.name, path)  # a loop: reading it fails, whoever reads
    done = cli("verify", folder.path)
    assert (done.code, done.out) == (3, "")
    assert f"cannot read {path}" in done.err


def test_the_threads_of_a_trial_are_those_of_its_evaluation(folder: ExperimentFolder) -> None:
    import torch

    torch.set_num_threads(2)
    assert tiny_spec(folder.path).resources.cpu == 1
    assert rules(folder, evaluate=True) == []
    assert torch.get_num_threads() == 1


def whole(tmp_path: Path) -> ExperimentFolder:
    """Six trials with their tables and, in the place of packed files, empty ones."""
    folder = store_files(make_experiment(tmp_path))
    store_baseline(folder)
    return folder


def problems(folder: ExperimentFolder, **options: Any) -> list[str]:
    return [problem.text for problem in verify(folder, **options).problems]


def test_parts_that_fit_each_other_are_no_problem(tmp_path: Path) -> None:
    folder = whole(tmp_path)
    assert problems(folder) == []
    Ledger(folder.trials).add(make_record(6, {"prune_frac": 0.5, "w_bits": 2, "a_bits": 4}, state="invalid"))
    assert problems(folder) == []  # the tables are behind
    Ledger(folder.trials).add(make_record(6, {"prune_frac": 0.5, "w_bits": 2, "a_bits": 8}, state="invalid", attempt=2))
    assert problems(folder) == []
    for table in (folder.trials_table, folder.frontier_table):
        remove(table)
    assert problems(folder) == []


def test_a_packed_file_that_is_gone_is_a_problem_wherever_its_trial_lies(tmp_path: Path) -> None:
    folder = whole(tmp_path)
    on_frontier, dominated = make_records()[1], make_records()[2]
    for record in (on_frontier, dominated):
        remove(folder.packed_file(record.assignment.trial_id))
    way_out = f"the packed file of p50_w8_a8 is gone: `tune-app reproduce {folder.path} p50_w8_a8` makes it again"
    assert problems(folder) == [way_out]  # that of the frontier is among the verdicts
    assert problems(folder, all=True) == []
    assert sum(m.rule == "file" for v in verify(folder, all=True).verdicts for m in v.mismatches) == 2


@pytest.mark.parametrize("number", [1, 2])
def test_a_row_without_a_record_is_a_problem(number: int, tmp_path: Path, cli: Cli) -> None:
    folder, work = whole(tmp_path), make_records()[number].assignment
    remove(folder.trials / f"{work.trial_id}.json")
    tables = [folder.trials_table, folder.frontier_table][: 2 if number == 1 else 1]
    told = f"it has {work.label} ({work.trial_id}), whose record is gone: the trial may run again"
    assert problems(folder) == [f"{table}: {told}" for table in tables]
    assert verify(folder).without_record == [work.trial_id]
    done = cli("verify", folder.path)
    assert (done.code, f"{folder.trials_table}: {told}.\n" in done.out) == (6, True)
    found = json.loads(cli("verify", folder.path, "--json").out)
    assert (found["problems"][0]["path"], found["without_record"]) == (str(folder.trials_table), [work.trial_id])


def test_a_ledger_that_is_gone_is_a_problem(tmp_path: Path) -> None:
    folder = whole(tmp_path)
    remove_tree(folder.trials)
    assert len(problems(folder)) == 6 + 3


def test_a_row_with_other_numbers_than_its_record_is_a_problem(tmp_path: Path) -> None:
    folder, first = whole(tmp_path), make_records()[0]
    remove(folder.trials / f"{first.assignment.trial_id}.json")
    Ledger(folder.trials).add(make_record(0, first.assignment.params, 0.94, 250_000))
    assert f"{folder.trials_table}: accuracy of p0_w8_a8 is 0.95, and 0.94 in its record: " in problems(folder)[0]


def test_a_damaged_table_is_a_problem(tmp_path: Path) -> None:
    folder = whole(tmp_path)
    replace(folder.frontier_table, b"PAR1")
    [problem] = problems(folder)
    assert problem.startswith(f"{folder.frontier_table}: not readable as a table")


def test_a_packed_file_of_a_trial_that_was_cut_off_is_no_problem(tmp_path: Path, cli: Cli) -> None:
    folder = make_real_experiment(tmp_path)
    replace(folder.packed_file("0" * 16 + "-full-a1"), b"")
    done = cli("verify", folder.path)
    assert (done.code, "1 packed file without a record: of trials that run, or were cut off" in done.out) == (0, True)


@pytest.mark.parametrize("name", ["weights.safetensors", "stage.json"])
@pytest.mark.parametrize("harm", [remove, lambda path: replace(path, path.read_bytes()[:-1] + b"?")])
def test_a_stage_that_is_not_what_was_written_is_found_with_all(
    harm: Callable[[Path], None], name: str, folder: ExperimentFolder
) -> None:
    [key, *_] = [run.key for run in record_of(folder).result.stages]
    harm(Path(str(folder.stages / key / name)))
    assert problems(folder) == []
    [problem] = problems(folder, all=True)
    assert str(folder.stages / key) in problem
    assert problem.endswith("a trial that needs this stage makes it again")


def test_stages_that_went_are_no_problem(folder: ExperimentFolder) -> None:
    assert problems(folder, all=True) == []
    remove_tree(folder.stages)
    assert problems(folder, all=True) == []


def test_a_trial_that_ends_while_the_tables_are_read_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, newer = whole(tmp_path), make_record(6, {"prune_frac": 0.5, "w_bits": 2, "a_bits": 4}, state="invalid")

    def ends(path: StoragePath) -> Any:
        Ledger(folder.trials).add(newer)
        tabulate(folder)
        return read_table(path)

    monkeypatch.setattr("tune_app.artifacts.cross_check.read_table", ends)
    assert problems(folder) == []
