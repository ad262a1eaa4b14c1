"""A search in one process: no Ray, the same files, the same ends."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Result
from tests.specs import tiny_spec, write_spec
from tests.tune_app.factories import make_record
from trainables.errors import OutOfMemory, UnexpectedError
from trainables.storage import names, replace_json
from tune_app.engine import in_process
from tune_app.engine.in_process import InProcess
from tune_app.errors import Interrupted, SearchAborted
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord, params_label
from tune_app.run.search import run_baseline, run_search
from tune_app.spec.experiment import ExperimentSpec
from tune_app.stages.running import running_trials
from tune_app.tables.query import frontier_frame
from tune_app.tables.trials import read_table

Cli = Callable[..., Result]
# As on a machine where it is not installed: importing it fails.
WITHOUT_RAY = "import sys; sys.modules['ray'] = None; from tune_app.cli.main import main; main()"


def short_spec(storage: Path, trials: int = 3) -> ExperimentSpec:
    spec = tiny_spec(storage)
    base = spec.base.model_dump()
    base["baseline"]["schedule"] |= {"epochs": 2, "batch_size": 64}
    base["prune"]["fine_tune"] |= {"epochs": 1, "batch_size": 64}
    base["quantize"] = {"kind": "ptq"}
    return ExperimentSpec.model_validate({**spec.model_dump(), "base": base, "budget": {"trials": trials}})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    spec = short_spec(tmp_path_factory.mktemp("alone"))
    outcome = run_search(spec, engine=InProcess())
    assert (outcome.totals.count, outcome.new, outcome.why) == (3, 3, "3 trials")
    return ExperimentFolder(spec.folder)


def test_it_leaves_what_every_search_leaves(done: ExperimentFolder) -> None:
    table = read_table(done.path / "trials.parquet").to_pandas()
    assert list(table.state) == ["complete"] * 3
    for record in Ledger(done.trials).read()[0]:
        artifact = done.artifacts / record.assignment.trial_id / "model.mbq"
        assert artifact.stat().st_size == record.metrics()["size_bytes"]
    assert len(frontier_frame(done.path)) >= 1


def test_the_same_call_again_runs_nothing_and_a_larger_budget_the_rest(done: ExperimentFolder) -> None:
    spec = short_spec(done.path.parent)
    assert run_search(spec, engine=InProcess()).new == 0
    assert run_search(short_spec(done.path.parent, trials=4), engine=InProcess()).new == 1


def test_ray_need_not_be_installed(tmp_path: Path) -> None:
    file = write_spec(tmp_path / "spec.yaml", short_spec(tmp_path, trials=1))
    command = [sys.executable, "-c", WITHOUT_RAY, "run", str(file), "--in-process"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "1 complete" in ended.stdout
    assert "Ray" not in ended.stderr


def test_nothing_to_do_needs_no_ray(done: ExperimentFolder, tmp_path: Path) -> None:
    file = write_spec(tmp_path / "spec.yaml", done.read_spec())
    command = [sys.executable, "-c", WITHOUT_RAY, "run", str(file)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, " (0 new), " in ended.stdout) == (0, True), ended.stderr


def test_one_engine_at_a_time(cli: Cli, tmp_path: Path) -> None:
    file = write_spec(tmp_path / "spec.yaml", short_spec(tmp_path))
    ended = cli("run", file, "--in-process", "--dashboard")
    assert (ended.code, "choose one of them" in ended.err) == (2, True)
    assert not (tmp_path / "tiny").exists()


def test_one_configuration_from_the_shell(done: ExperimentFolder, cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(done.path.parent, tmp_path, dirs_exist_ok=True)
    spec = short_spec(tmp_path)
    folder = ExperimentFolder(spec.folder)
    folder.store_spec(spec)
    file = write_spec(tmp_path / "spec.yaml", spec)
    before = set(folder.trials.iterdir())
    first = cli("run", file, "--in-process", "--point", "prune_frac=0.1,w_bits=5,a_bits=7")
    assert first.code == 0, first.err
    [new] = set(folder.trials.iterdir()) - before
    record = Ledger(folder.trials).find(new.stem)
    assert record is not None
    assert record.assignment.params == {"prune_frac": 0.1, "w_bits": 5, "a_bits": 7}
    size = f"{record.metrics()['size_bytes']:,.0f} bytes"
    assert f"{record.assignment.label} accuracy " in first.out
    assert size in first.out
    assert "(1 new)" in first.out
    again = cli("run", file, "--in-process", "--point", "prune_frac=0.1,w_bits=5,a_bits=7")
    assert ("(0 new)" in again.out, size in again.out) == (True, True)
    assert "(0 new)" in cli("run", file, "--in-process").out
    assert folder.read_spec() == spec


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--point", "w_bits=5"], "prune_frac is missing"),
        (["--point", "prune_frac=0.1,w_bits=99,a_bits=8"], "w_bits: "),
        (["--point", "w_bits"], "--point takes w_bits=4,a_bits=8, but got 'w_bits'"),
        (["--point", "prune_frac=0.1,w_bits=5,a_bits=7", "--trials", "3"], "choose one of them"),
        (["--set", "budget.trails=4"], "unknown key 'budget.trails'; did you mean 'trials'"),
        (["--set", "base.seed=x"], "base.seed: "),
    ],
)
def test_a_point_or_setting_that_none_could_have_leaves_nothing(
    options: list[str], said: str, cli: Cli, tmp_path: Path
) -> None:
    ended = cli("run", write_spec(tmp_path / "spec.yaml", short_spec(tmp_path)), "--in-process", *options)
    assert (ended.code, said in ended.err) == (2, True), ended.err
    assert not (tmp_path / "tiny").exists()


def test_a_setting_takes_the_place_of_the_specs(cli: Cli, tmp_path: Path) -> None:
    file = write_spec(tmp_path / "spec.yaml", short_spec(tmp_path))
    shown = cli("validate", file, "--set", "budget.trials=7", "--set", "name=other")
    assert (shown.code, "other is well; " in shown.out, "7 trials" in shown.out) == (0, True, True), shown.err
    assert "budget 5 trials" in cli("plan", file, "--set", "budget.trials=5").out


def test_a_stop_signal_ends_the_trial_that_runs_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, spec = in_process.run_trial, short_spec(tmp_path, trials=2)

    def stopped(*args: Any) -> Any:
        if len(Ledger(ExperimentFolder(spec.folder).trials).read()[0]) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*args)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(in_process, "run_trial", stopped)
    with pytest.raises(Interrupted) as caught:
        run_search(spec, engine=InProcess())
    monkeypatch.setattr(in_process, "run_trial", real)
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(read_table(ExperimentFolder(spec.folder).path / "trials.parquet")) == 1
    assert run_search(spec, engine=InProcess()).new == 1


def test_what_was_cut_off_before_is_not_forgotten_when_its_first_trial_is_cut_off_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = short_spec(tmp_path, trials=4)
    folder, points = ExperimentFolder(spec.folder), [spec.space.point(place) for place in (3, 1, 2)]
    run_baseline(spec, engine=InProcess())
    with Lease(folder) as lease:  # as a search that runs several at a time leaves it
        lease.save_in_flight([make_record(n, params).assignment for n, params in enumerate(points)])

    def stopped(*_: Any) -> Any:
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(in_process, "run_trial", stopped)
    with pytest.raises(Interrupted):
        run_search(spec, engine=InProcess())
    assert [work.params for work in Lease(folder).in_flight()] == points


def test_the_one_that_runs_is_told_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, told = short_spec(tmp_path, trials=2), list[str]()
    folder, fingerprint = ExperimentFolder(spec.folder), run_baseline(spec, engine=InProcess()).fingerprint
    points = [spec.space.point(place) for place in (3, 1)]
    with Lease(folder) as lease:  # as a search on Ray leaves it whose machine was lost
        lease.save_in_flight([make_record(n, params).assignment for n, params in enumerate(points)])
    replace_json(folder.heartbeat("lost"), {})
    real = in_process.run_trial

    def looked_at(*args: Any) -> Any:
        told.extend(trial.label for trial in running_trials(folder, spec, fingerprint))
        return real(*args)

    monkeypatch.setattr(in_process, "run_trial", looked_at)
    run_search(spec, engine=InProcess())
    assert told == [params_label(point) for point in points]
    assert names(folder.heartbeats, "*") == []


def test_memory_that_is_not_enough_is_a_failed_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = in_process.run_trial, []

    def short_of_memory(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise OutOfMemory("the GPU's memory was not enough")
        return real(*args)

    monkeypatch.setattr(in_process, "run_trial", short_of_memory)
    outcome = run_search(short_spec(tmp_path, trials=2), engine=InProcess())
    assert outcome.totals.trials == {"complete": 1, "failed": 1}


def test_a_search_that_collapses_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(work: Assignment, spec: ExperimentSpec, folder: ExperimentFolder, *_: Any) -> TrialRecord:
        made = make_record(work.number, work.params, 0.1, state="invalid", kind="Collapsed", measured=True)
        record = made.model_copy(update={"assignment": work})
        Ledger(folder.trials).add(record)
        return record

    monkeypatch.setattr(in_process, "run_trial", refused)
    monkeypatch.setattr("tune_app.findings.at_chance.ENOUGH", 4)
    with pytest.raises(SearchAborted, match="none of 6 trials"):
        run_search(short_spec(tmp_path, trials=6), engine=InProcess())
    assert capsys.readouterr().err.count("the first 4 trials that were measured are all at chance") == 1


def test_the_baseline_alone(tmp_path: Path) -> None:
    spec = short_spec(tmp_path)
    info = run_baseline(spec, engine=InProcess())
    assert info.parameters > 0
    assert run_baseline(spec, engine=InProcess()) == info


def test_an_error_that_ends_the_baseline_is_one_line_and_detail_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    def ended(*_: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied\n(64x10 and 12x4)")

    monkeypatch.setattr("trainables.pipeline.run_stage", ended)
    words = ("run", write_spec(tmp_path / "spec.yaml", short_spec(tmp_path)), "--in-process")
    result = cli(*words)
    assert result.code == UnexpectedError.exit_code
    line = (
        "could not be made (-v shows where it ended): RuntimeError: mat1 and mat2 shapes cannot be multiplied (64x10 "
    )
    assert line in result.err.splitlines()[-1]
    assert "Traceback" not in result.err
    assert "in ended\n" in cli("-v", *words).err
    with pytest.raises(UnexpectedError) as caught:
        run_baseline(short_spec(tmp_path), engine=InProcess())
    assert "in ended\n" in pickle.loads(pickle.dumps(caught.value)).trace  # as Ray sends it


def test_what_a_loader_of_data_raises_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def ended(*_: Any, **__: Any) -> Any:
        raise KeyError("label")

    monkeypatch.setattr("trainables.data.data_sets.load_data", ended)
    result = cli("run", write_spec(tmp_path / "spec.yaml", short_spec(tmp_path)), "--in-process")
    assert result.code == UnexpectedError.exit_code
    assert "the data set could not be made (-v shows where it ended): KeyError: 'label'" in result.err.splitlines()[-1]
