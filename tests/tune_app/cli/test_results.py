"""Commands that read an experiment: what they print, and one line for what cannot be."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.conftest import Result
from tests.tune_app.factories import (
    make_experiment,
    make_record,
    make_records,
    rehearsal,
    store_baseline,
    store_files,
    tabulate,
)
from tune_app.artifacts.test_split import Final
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger
from tune_app.ledger.test_results import HeldOut, store_held_out

Cli = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    made = store_files(make_experiment(tmp_path))
    store_baseline(made)
    return made


def test_pick_says_why_where_and_how_again(cli: Cli, folder: ExperimentFolder) -> None:
    done = cli("pick", folder.path, "--max-drop", "2.5pp")
    assert done.code == 0
    first, *more = done.out.splitlines()
    assert first.startswith("p30_w4_a8: the smallest of 2 (of 3) frontier points that are within 2.5 pp")
    assert [line.split()[0] for line in more] == ["accuracy", "size", "artifact", "reproduce"]
    assert "93.00 % (-2.00 pp against the baseline)" in more[0]
    assert "90,000 bytes (90.0 KB), 11.1x smaller than fp32" in more[1]
    assert more[3].split(None, 1)[1] == f"tune-app reproduce {folder.path} p30_w4_a8"


@pytest.mark.parametrize(
    ("bounds", "label"),
    [
        ([], "p30_w4_a8"),
        (["--knee", "--max-bytes", "80KB"], "p50_w4_a8"),
        (["--max-bytes", "0.09MB"], "p30_w4_a8"),
        (["--ratio", "12x"], "p50_w4_a8"),
        (["--where", "prune_frac = 0"], "p0_w8_a8"),
    ],
)
def test_pick_for_programs(bounds: list[str], label: str, cli: Cli, folder: ExperimentFolder) -> None:
    done = cli("pick", folder.path, *bounds, "--json")
    found = json.loads(done.out)
    assert (done.code, found["label"]) == (0, label)
    assert isinstance(found["size_bytes"], int)
    assert found["artifact"].endswith("model.mbq")
    assert found["reproduce"].endswith(f" {label}")


def test_pick_shows_a_test_accuracy_of_zero(cli: Cli, folder: ExperimentFolder) -> None:
    picked = json.loads(cli("pick", folder.path, "--json").out)["trial_id"]
    store_held_out(folder.artifacts / picked, HeldOut(accuracy=0.0, n=100))
    tabulate(folder)
    assert "baseline), test 0.00 %" in cli("pick", folder.path).out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-drop", "1"], "'1' is no number of percentage points: write it like 1pp"),
        (["--max-bytes", "big"], "'big' is no size"),
        (["--max-bytes", "-3KB"], "'-3KB' is no size"),
        (["--max-bytes", "1.5"], "'1.5' is no size"),
        (["--max-bytes", ""], "'' is no size"),
        (["--max-drop", ""], "'' is no number of percentage points"),
        (["--ratio", ""], "'' is no ratio"),
        (["--ratio", "0x"], "'0x' is no ratio: write it like 10x"),
        (["--ratio", "100x"], "none of 3 frontier points is at least 100.0x smaller: the smallest, p50_w4_a8"),
        (["--where", "color = 'red'"], "there is no column 'color'"),
    ],
)
def test_pick_refuses_in_one_line(arguments: list[str], words: str, cli: Cli, folder: ExperimentFolder) -> None:
    done = cli("pick", folder.path, *arguments)
    [line] = done.err.strip().splitlines()
    assert (done.code, done.out) == (2, "")
    assert words in line


def test_summary_as_text_json_and_yaml(cli: Cli, folder: ExperimentFolder) -> None:
    text, as_json, as_yaml = (cli("summary", folder.path, *form) for form in ([], ["--json"], ["--yaml"]))
    assert [text.code, as_json.code, as_yaml.code] == [0, 0, 0]
    assert "best balanced: p30_w4_a8" in text.out
    assert json.loads(as_json.out) == YAML(typ="safe").load(as_yaml.out)
    assert "&" not in as_yaml.out
    assert cli("summary", folder.path, "--json", "--yaml").code == 2


def test_summary_with_all_has_every_trial(cli: Cli, folder: ExperimentFolder) -> None:
    text, as_json, as_yaml = (cli("summary", folder.path, "--all", *form) for form in ([], ["--json"], ["--yaml"]))
    trials = cli("frontier", folder.path, "--all").out
    assert text.out == f"{trials}\n{cli('summary', folder.path).out}"
    found = json.loads(as_json.out)
    assert found == YAML(typ="safe").load(as_yaml.out)
    assert "&" not in as_yaml.out
    assert found.pop("trials") == json.loads(cli("frontier", folder.path, "--all", "--json").out)
    assert found == json.loads(cli("summary", folder.path, "--json").out)


def test_compare_prints_a_table_and_draws_a_picture(cli: Cli, folder: ExperimentFolder, tmp_path: Path) -> None:
    better = [make_record(0, {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}, 0.96, 50_000)]
    other = make_experiment(tmp_path, better, name="other")
    store_baseline(other)
    done = cli("compare", folder.path, other.path, "--output", tmp_path / "both.png")
    assert done.code == 0
    assert "other beats the other with p30_w4_a8" in done.out
    assert "100 % of 3" in done.out
    assert done.out.strip().endswith("both.png")
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(cli("compare", folder.path, other.path, "--json").out)["experiments"]
    assert (found["other"]["coverage"], found["toy"]["coverage"]) == (1.0, 0.0)
    assert [p["label"] for p in found["other"]["winners"]] == ["p30_w4_a8"]


def test_an_experiment_may_be_called_as_a_part_of_the_comparison(cli: Cli, tmp_path: Path) -> None:
    folders = [make_experiment(tmp_path, name=name) for name in ("objectives", "reference")]
    for folder in folders:
        store_baseline(folder)
    found = json.loads(cli("compare", *[folder.path for folder in folders], "--json").out)
    assert found["reference"] == {"accuracy": 0.1, "size_bytes": 1e6}
    assert found["objectives"] == {"accuracy": "maximize", "size_bytes": "minimize"}
    assert list(found["experiments"]) == ["objectives", "reference"]


def test_two_experiments_of_one_name_are_told_apart_in_table_document_and_picture(cli: Cli, tmp_path: Path) -> None:
    """By as much of their paths as it takes; a copy that was renamed has the name of its folder."""
    folders = [make_experiment(tmp_path / place) for place in ("monday/cpu", "tuesday/cpu")]
    for folder in folders:
        store_baseline(folder)
    shutil.copytree(tmp_path / "monday" / "cpu" / "toy", tmp_path / "copy")
    sides = [str(folder.path) for folder in folders], [str(folders[0].path), str(tmp_path / "copy")]
    for paths, names in zip(sides, (["monday/cpu/toy", "tuesday/cpu/toy"], ["toy", "copy"]), strict=True):
        done = cli("compare", *paths, "--output", tmp_path / "both.svg")
        rows = [line.split()[0] for line in done.out.splitlines() if line.split()[1:2] == ["3"]]
        assert rows == names
        assert list(json.loads(cli("compare", *paths, "--json").out)["experiments"]) == names
        drawn = re.findall("<!-- (.*?) -->", (tmp_path / "both.svg").read_text())
        assert {*names, *(f"{name}: baseline, fp32" for name in names)} <= set(drawn)
        assert f"frontiers of {names[0]} (3) and {names[1]} (3)" in drawn


@pytest.mark.parametrize("repeats", [0, 1])
def test_a_trace_says_that_repeats_do_not_count_where_there_are_some(cli: Cli, tmp_path: Path, repeats: int) -> None:
    point = {"prune_frac": 0, "w_bits": 8, "a_bits": 8}
    folder = make_experiment(tmp_path, [make_record(i, point, 0.95 - i / 10, repeat=i) for i in range(1 + repeats)])
    store_baseline(folder)
    trace = cli("frontier", folder.path, "--trace", "--json")
    assert (len(json.loads(trace.out)), "of first runs alone" in trace.err) == (1, repeats > 0)
    volume = json.loads(cli("summary", folder.path, "--json").out)["hypervolume"]
    assert (json.loads(trace.out)[0]["hypervolume"] == volume) == (repeats == 0)


@pytest.mark.parametrize("command", ["pick", "summary", "compare", "reproduce", "verify"])
def test_no_experiment_is_one_line(command: str, cli: Cli, tmp_path: Path) -> None:
    more = {"compare": [tmp_path], "reproduce": ["p0"]}.get(command, [])
    done = cli(command, tmp_path / "none", *more)
    [line] = done.err.strip().splitlines()
    assert done.code == 2
    assert "does not exist: give the folder" in line


@pytest.mark.parametrize("records", [[], [make_record(0, {"w_bits": 2}, state="failed")]], ids=["empty", "failures"])
def test_an_experiment_without_results_is_no_crash(records: list, cli: Cli, tmp_path: Path) -> None:  # type: ignore[type-arg]
    folder = make_experiment(tmp_path, records, tables=False)
    assert cli("summary", folder.path).code == 0
    done = cli("pick", folder.path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "has no frontier yet" in done.err
    shown = cli("frontier", folder.path)
    assert (shown.code, shown.err) == (0, "")
    assert "no trial of the full schedule is complete and feasible yet; --all shows every trial" in shown.out
    assert ("no trial has finished yet" in cli("frontier", folder.path, "--all").out) == (not records)


def test_a_condition_that_nothing_satisfies_reminds_of_the_units(cli: Cli, folder: ExperimentFolder) -> None:
    shown = cli("frontier", folder.path, "--where", "accuracy > 95")
    assert shown.code == 0
    assert "no row satisfies 'accuracy > 95'; shares such as accuracy lie between 0 and 1" in shown.out


def test_a_damaged_record_is_named_once_and_the_rest_is_read(cli: Cli, folder: ExperimentFolder) -> None:
    path = Path(str(folder.trials)) / f"{make_records()[2].assignment.trial_id}.json"
    path.write_bytes(path.read_bytes()[:100])
    Path(str(folder.trials_table)).unlink()
    for command in (["summary"], ["frontier", "--all"], ["pick"], ["frontier", "--trace"]):
        done = cli(command[0], folder.path, *command[1:])
        assert done.code == 0
        assert done.err == f"left out: {path}: not a trial record (100 bytes)\n"
        assert cli("-q", command[0], folder.path, *command[1:]).err == ""


@pytest.mark.parametrize(
    "command",
    [
        ["summary"],
        ["latency", "p30_w4_a8", "p0_w8_a8"],
        ["pick"],
        ["compare"],
        ["epochs", "p30_w4_a8"],
        ["verify", "p30_w4_a8", "p0_w8_a8"],
    ],
)
def test_a_command_reads_the_ledger_once(
    command: list[str], cli: Cli, folder: ExperimentFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_experiment(tmp_path, name="other", tables=False)
    store_baseline(other)
    for table in (folder.trials_table, folder.frontier_table):
        Path(str(table)).unlink()
    reads, read = [], Ledger.read

    def counted(ledger: Ledger, **more: Any) -> Any:
        reads.append(str(ledger._folder))
        return read(ledger, **more)

    monkeypatch.setattr(Ledger, "read", counted)
    cli(command[0], folder.path, *command[1:], *([other.path] if command == ["compare"] else []))
    assert len(reads) == len(set(reads)) == 1 + (command == ["compare"])


@pytest.mark.parametrize(
    "words",
    [
        ["frontier", "FOLDER"],
        ["frontier", "FOLDER", "--all"],
        ["frontier", "FOLDER", "--where", "accuracy > 2"],
        ["frontier", "FOLDER", "--trace"],
        ["pick", "FOLDER"],
        ["summary", "FOLDER"],
        ["compare", "FOLDER", "OTHER"],
        ["finalize", "FOLDER"],
    ],
)
def test_every_command_that_shows_results_names_a_rehearsal(
    words: list[str], cli: Cli, folder: ExperimentFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = store_files(make_experiment(tmp_path, base=rehearsal(tmp_path), name="few"))
    store_baseline(few)
    result = HeldOut(accuracy=0.9, n=100)
    final = Final(result, [{"a": result}], gap=0.0, baseline_gap=0.0)
    monkeypatch.setattr("tune_app.artifacts.test_split.finalize", lambda place: final)
    for place, other, told in ((few, folder, True), (folder, folder, False)):
        if words[0] == "compare" and place is other:
            continue
        named = {"FOLDER": place.path, "OTHER": other.path}
        done = cli(*(named.get(word, word) for word in words))
        assert done.code == 0
        assert ("rehearsal: at most 5,000 images of each split (data.images)" in done.out) == told
        if words[0] == "finalize":
            assert "test split, 100 images: " in done.out
            assert ", 1 frontier point evaluated (" in done.out
