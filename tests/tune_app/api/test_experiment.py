"""An experiment as an object does what the commands do, by the same functions."""

import asyncio
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from rich.console import Console

import tune_app
from tests.conftest import Result
from tests.specs import tiny_spec, write_spec
from tests.tune_app.engine.test_in_process import short_spec
from tests.tune_app.factories import make_experiment, store_baseline, store_files
from trainables.errors import ConfigError, CorruptFile
from trainables.storage import StoragePath
from tune_app.engine import in_process
from tune_app.errors import LeaseHeld
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.spec.yaml_file import as_written
from tune_app.tables.trials import read_table
from tune_app.terminal.progress import Verbosity, set_verbosity

Cli = Callable[..., Result]
TRIALS = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tune_app.Experiment:
    """A search of three trials that this process has run; tests that change it copy it."""
    experiment = tune_app.Experiment(short_spec(tmp_path_factory.mktemp("api"), TRIALS))
    experiment.run(in_process=True)
    return experiment


@pytest.fixture
def copied(made: tune_app.Experiment, tmp_path: Path) -> tune_app.Experiment:
    shutil.copytree(made.path, tmp_path / "tiny")
    return tune_app.Experiment(tmp_path / "tiny")


@pytest.fixture
def toy(tmp_path: Path) -> tune_app.Experiment:
    """Frontier: 95 % in 250 KB, 93 % in 90 KB, 88 % in 60 KB; baseline 95 %; the files are empty."""
    folder = store_files(make_experiment(tmp_path))
    store_baseline(folder)
    return tune_app.Experiment(folder.path)


def test_importing_the_package_costs_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import tune_app; "
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)); "
        "print(sorted(set(tune_app.__all__) - set(dir(tune_app)))); "
        "tune_app.load_spec; tune_app.Experiment; print(sorted({'torch', 'ray', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['tune_app']", "[]", "[]"]


def test_every_public_name_is_there() -> None:
    assert all(callable(getattr(tune_app, name)) for name in tune_app.__all__)
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        tune_app.no_such_name  # noqa: B018


def test_a_spec_of_code_is_the_one_of_a_file(tmp_path: Path) -> None:
    spec = tiny_spec(tmp_path)
    file = write_spec(tmp_path / "spec.yaml", spec)
    content = as_written(spec)
    assert tune_app.load_spec(content) == tune_app.load_spec(file) == tune_app.load_spec(str(file)) == spec
    assert tune_app.load_spec(file, name="wider", budget=9) == tiny_spec(tmp_path, name="wider", budget={"trials": 9})


def test_a_mistake_in_a_spec_of_code_is_one_line(tmp_path: Path) -> None:
    content = as_written(tiny_spec(tmp_path))
    with pytest.raises(ConfigError, match=r"^spec: unknown key 'buget'; did you mean 'budget'\?$"):
        tune_app.load_spec(content, buget=3)
    with pytest.raises(ConfigError, match=r"^spec: .*unknown parameter 'w_bit'; did you mean 'w_bits'\?"):
        tune_app.load_spec({**content, "space": {"w_bit": [2, 4]}})


def test_an_object_of_a_spec_is_resolved_as_a_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = tune_app.Experiment(tiny_spec(Path("here")))
    assert experiment.path == tmp_path / "here/tiny"
    (tmp_path / "there").touch()
    with pytest.raises(tune_app.TuneAppError, match="there is a file"):
        tune_app.Experiment(tiny_spec(Path("there")))


def test_an_experiment_stays_itself_when_the_working_directory_changes(
    toy: tune_app.Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_experiment(tmp_path / "elsewhere", records=[])
    monkeypatch.chdir(tmp_path)
    opened, shown = tune_app.Experiment("toy"), "Experiment('toy')"
    assert repr(opened) == shown
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(opened.trials()) == len(toy.trials()) > 0
    assert repr(opened) == f"Experiment('{tmp_path}/toy')"


def test_a_search_leaves_what_the_command_leaves(made: tune_app.Experiment, cli: Cli) -> None:
    stored = read_table(made.path / "frontier.parquet").to_pandas()
    assert list(made.frontier()["label"]) == list(stored.sort_values("size_bytes")["label"])
    assert made.frontier(where="w_bits = 8", limit=1)["w_bits"].tolist() == [8]
    assert sorted(made.trials()["number"]) == list(range(TRIALS))
    pd.testing.assert_frame_equal(made.trials(sort="-accuracy").head(1), made.trials(sort="-accuracy", limit=1))
    assert set(made.epochs("baseline")["stage"]) == {"train"}
    assert len(made.epochs()) >= len(made.epochs("baseline")) == 2
    assert cli("summary", made.path).out == f"{made.summary()}\n"
    assert cli("run", write_spec(made.path.parent / "spec.yaml", made.spec)).out.startswith(f"{made.path}: 3 trials (0")
    assert not made.is_running


def test_one_configuration_runs_alone(copied: tune_app.Experiment) -> None:
    wanted = {"prune_frac": 0.1, "w_bits": 5, "a_bits": 7}
    copied.run(in_process=True, points=[wanted])
    found = copied.trials(where="w_bits = 5")
    assert (len(copied.trials()), found[list(wanted)].to_dict("records")) == (TRIALS + 1, [wanted])


def test_the_same_call_again_runs_nothing_and_a_larger_budget_the_rest(copied: tune_app.Experiment) -> None:
    """Also from a folder that was moved, whose stored spec names the place where it was."""
    before = {path.name: path.stat().st_mtime_ns for path in (copied.path / "trials").iterdir()}
    copied.run(in_process=True)
    assert {path.name: path.stat().st_mtime_ns for path in (copied.path / "trials").iterdir()} == before
    copied.run(in_process=True, trials=TRIALS + 1)
    assert len(copied.trials()) == TRIALS + 1
    assert copied.spec.budget.trials == TRIALS + 1


def test_a_folder_with_another_name_than_its_experiment_is_not_gone_on_with(copied: tune_app.Experiment) -> None:
    other = copied.path.rename(copied.path.with_name("other"))
    with pytest.raises(ConfigError, match="holds the experiment 'tiny': call the folder so"):
        tune_app.Experiment(other).run(in_process=True)
    assert len(tune_app.Experiment(other).trials()) == TRIALS


def test_nothing_is_printed_unless_a_console_is_given(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    set_verbosity(Verbosity.QUIET)  # as it is until a command line asks for more
    experiment, said = tune_app.Experiment(short_spec(tmp_path, 1)), io.StringIO()
    experiment.run(in_process=True)
    experiment.summary()
    assert capfd.readouterr() == ("", "")
    experiment.run(in_process=True, trials=2, console=Console(file=said))
    assert "budget.trials: 1 → 2" in said.getvalue()
    assert "[2/2]" in said.getvalue()


def test_a_search_may_be_where_a_loop_runs_already(copied: tune_app.Experiment) -> None:
    async def cell() -> None:
        copied.run(in_process=True, trials=TRIALS + 1)

    asyncio.run(cell())
    assert len(copied.trials()) == TRIALS + 1


def test_a_search_may_be_in_a_thread(copied: tune_app.Experiment) -> None:
    thread = threading.Thread(target=copied.run, kwargs={"in_process": True, "trials": TRIALS + 1})
    thread.start()
    thread.join()
    assert len(copied.trials()) == TRIALS + 1


def test_a_search_leaves_torch_as_it_was(copied: tune_app.Experiment) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    torch.set_num_threads(2)
    copied.run(in_process=True, trials=TRIALS + 1)
    assert torch.get_num_threads() == 2
    torch.testing.assert_close(torch.rand(3), expected)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Signals that come at the starts of the next trials."""
    coming: list[int] = []
    really = in_process.run

    def run(*args: Any) -> Any:
        if coming:
            os.kill(os.getpid(), coming.pop())
        return really(*args)

    monkeypatch.setattr(in_process, "run", run)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield coming
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ctrl_c_ends_a_search_that_the_same_call_goes_on_with(copied: tune_app.Experiment, signals: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals.append(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as caught:
        copied.run(in_process=True, trials=TRIALS + 2)
    assert caught.value.__context__ is None
    assert not copied.is_running
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    copied.run(in_process=True, trials=TRIALS + 2)
    assert len(copied.trials()) == TRIALS + 2


def test_ctrl_c_where_a_loop_runs_is_a_keyboard_interrupt_too(copied: tune_app.Experiment, signals: list[int]) -> None:
    async def cell() -> None:
        copied.run(in_process=True, trials=TRIALS + 1)

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signals.append(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(cell())
    assert not copied.is_running


def test_a_handler_of_ones_own_gets_the_signal_that_ended_a_search(
    copied: tune_app.Experiment, signals: list[int]
) -> None:
    class Stop(Exception):
        pass

    def handler(number: int, frame: object) -> None:
        raise Stop(signal.Signals(number).name)

    signal.signal(signal.SIGTERM, handler)
    signals.append(signal.SIGTERM)
    with pytest.raises(Stop, match="SIGTERM"):
        copied.run(in_process=True, trials=TRIALS + 1)
    assert not copied.is_running


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ({}, []),
        ({"max_bytes": "30KB"}, ["--max-bytes", "30KB"]),
        (
            {"min_ratio": "5x", "max_drop": "90pp", "where": "a_bits = 8"},
            ["--ratio", "5x", "--max-drop", "90pp", "--where", "a_bits = 8"],
        ),
    ],
    ids=["knee", "size", "all"],
)
def test_a_point_is_picked_as_the_command_picks_it(
    arguments: dict[str, str], options: list[str], made: tune_app.Experiment, cli: Cli
) -> None:
    point = made.pick(**arguments)  # type: ignore[arg-type]
    said = json.loads(cli("pick", made.path, *options, "--json").out)
    assert (point.label, point.why, str(point.path)) == (said["label"], said["why"], said["artifact"])
    assert (point.accuracy, point.size_bytes, point.drop) == (said["accuracy"], said["size_bytes"], said["drop"])
    assert point.compression_ratio == said["compression_ratio"]
    assert point.path.stat().st_size == point.size_bytes
    assert point.label in repr(point)


def test_the_network_of_a_point_is_the_one_of_its_file(made: tune_app.Experiment) -> None:
    point, val = made.pick(), made.data().val
    network = point.load()
    assert isinstance(network, torch.nn.Module)
    assert not network.training
    pixels, labels = torch.from_numpy(val.images[:]), torch.from_numpy(val.labels)
    right = (network(pixels).argmax(dim=1) == labels).float().mean().item()
    assert right == pytest.approx(point.accuracy, abs=1.5 / len(labels))
    again = tune_app.load_network(point.path)
    torch.testing.assert_close(again(pixels), network(pixels))
    torch.testing.assert_close(network(pixels.float()), network(pixels))
    assert made.point(point.label).path == point.path
    assert made.point(point.trial_id).accuracy == pytest.approx(point.accuracy)


def test_a_file_that_is_not_the_measured_one_is_not_loaded(copied: tune_app.Experiment) -> None:
    point = copied.pick()
    content = bytearray(point.path.read_bytes())
    content[-1] ^= 1
    point.path.write_bytes(content)
    with pytest.raises(CorruptFile, match="is not the file that was measured"):
        point.load()
    with pytest.raises(CorruptFile, match="packed file"):
        tune_app.load_network(point.path)
    (copied.path / "trials" / f"{point.trial_id}.json").unlink()
    with pytest.raises(CorruptFile, match="is gone or damaged"):
        point.load()
    point.path.unlink()
    with pytest.raises(ConfigError, match="cannot read"):
        tune_app.load_network(point.path)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"max_bytes": "10KB"}, "none of 3 frontier points is at most 10.0 KB: the smallest, p50_w4_a8, has 60.0 KB"),
        ({"max_bytes": 10_000}, "none of 3 frontier points is at most 10.0 KB"),
        ({"max_bytes": "10 apples"}, "'10 apples' is no size"),
        ({"max_bytes": -1}, "max_bytes >= 0 must hold, but got -1"),
        ({"max_drop": "1"}, "'1' is no number of percentage points: write it like 1pp"),
        ({"max_drop": 1}, "0 <= max_drop < 1 must hold, a share, but got 1: 0.01 or '1pp' is one point"),
        ({"max_drop": float("nan")}, "0 <= max_drop < 1 must hold"),
        ({"min_ratio": 0}, "min_ratio > 0 must hold"),
        ({"where": "no_such = 1"}, "no_such"),
    ],
)
def test_no_point_within_the_bounds(bounds: dict[str, Any], words: str, toy: tune_app.Experiment) -> None:
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        toy.pick(**bounds)


def test_bounds_may_be_numbers(toy: tune_app.Experiment) -> None:
    assert toy.pick(max_bytes=90_000).label == toy.pick(max_bytes="90KB").label == "p30_w4_a8"
    assert toy.pick(max_drop=0.0).label == toy.pick(max_drop="0pp").label == "p0_w8_a8"
    assert toy.pick(min_ratio=12).label == "p50_w4_a8"
    assert toy.pick(max_drop=0.02, knee=True).label == "p0_w8_a8"


def test_an_experiment_may_lie_in_a_bucket(storage: StoragePath) -> None:
    folder = store_files(make_experiment(storage))
    store_baseline(folder)
    experiment = tune_app.Experiment(str(folder.path))
    assert experiment.frontier()["label"].tolist() == ["p50_w4_a8", "p30_w4_a8", "p0_w8_a8"]
    assert experiment.pick(max_bytes="90KB").path == folder.packed_file(experiment.point("p30_w4_a8").trial_id)
    assert "6 of 10 trials" in experiment._repr_html_().replace("\N{NO-BREAK SPACE}", " ")
    assert not experiment.is_running


def test_an_unknown_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist: give the folder"):
        tune_app.Experiment(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="is no experiment"):
        tune_app.Experiment(str(tmp_path))


def test_what_has_not_begun_has_nothing_to_read(tmp_path: Path) -> None:
    experiment = tune_app.Experiment(tiny_spec(tmp_path))
    for read in (experiment.frontier, experiment.trials, experiment.epochs, experiment.summary, experiment.pick):
        with pytest.raises(ConfigError, match="does not exist"):
            read()
    with pytest.raises(ConfigError, match="does not exist"):
        experiment.point("p0_w8_a8")
    with pytest.raises(ConfigError, match="does not exist"):
        experiment.data()
    assert not experiment.is_running
    assert list(tmp_path.iterdir()) == []


def test_damaged_tables_are_read_from_the_records(copied: tune_app.Experiment) -> None:
    frontier, trials = copied.frontier(), copied.trials()
    for name in ("trials.parquet", "frontier.parquet"):
        (copied.path / name).write_bytes(b"PAR1 and nothing")
    pd.testing.assert_frame_equal(copied.frontier(), frontier)
    pd.testing.assert_frame_equal(copied.trials(), trials)
    copied.run(in_process=True)
    assert read_table(copied.path / "trials.parquet").num_rows == TRIALS


def test_a_damaged_record_is_warned_of_when_a_search_goes_on(copied: tune_app.Experiment) -> None:
    record = next((copied.path / "trials").glob("*.json"))
    record.write_bytes(b"{")
    with pytest.warns(UserWarning, match=f"damaged record moved to trials/quarantine.*{record.name}"):
        copied.run(in_process=True)
    assert len(copied.trials()) == TRIALS


def test_a_damaged_spec_is_said(copied: tune_app.Experiment) -> None:
    (copied.path / "experiment.yaml").write_text("name: [")
    with pytest.raises(CorruptFile, match="stored spec"):
        copied.frontier()


def test_a_search_of_another_driver_is_left_alone(copied: tune_app.Experiment) -> None:
    with Lease(ExperimentFolder(copied.path)):
        assert copied.is_running
        with pytest.raises(LeaseHeld, match=f"is being worked on by process {os.getpid()}"):
            copied.run(in_process=True, trials=TRIALS + 1)
        assert len(copied.frontier()) >= 1
    assert not copied.is_running
    assert copied.spec.budget.trials == TRIALS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"trials": 0}, "1 <= trials <= 1,000,000 must hold, but got 0"),
        ({"in_process": True, "address": "head:6379"}, "choose one of them"),
        ({"warm_start": "no/such/place"}, "does not exist"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    arguments: dict[str, Any], words: str, copied: tune_app.Experiment
) -> None:
    with pytest.raises(ConfigError, match=words):
        copied.run(**arguments)
    with pytest.raises(ConfigError, match="names this experiment itself"):
        copied.run(in_process=True, warm_start=copied.path)


def test_an_experiment_learns_from_another(made: tune_app.Experiment, tmp_path: Path) -> None:
    other = tune_app.Experiment(short_spec(tmp_path, TRIALS))
    other.run(in_process=True, warm_start=made.path)
    assert sorted(other.trials()["label"]) == sorted(made.trials()["label"])
    assert other.trials()["taken_from"].notna().all()


def test_a_cluster_is_joined_at_the_address_that_is_given(
    copied: tune_app.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:1")
    with pytest.raises(ConfigError, match=r"the address of Ray is ray://head:10001, .* as in head:6379"):
        copied.run(trials=TRIALS + 1, address="ray://head:10001")
    assert not copied.is_running
