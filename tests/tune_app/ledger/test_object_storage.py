"""An experiment in a bucket, from its spec to every command that reads it, without a cluster."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.s3 import Answer, endpoint, scripted_s3
from tests.specs import tiny_spec, write_spec
from tests.tune_app.factories import make_experiment
from trainables.data.data_sets import load_data
from trainables.errors import ConfigError, StorageUnavailable
from trainables.results import Completed
from trainables.stages.files import read_stage
from trainables.stages.workplace import open_workplace
from trainables.storage import names, read_bytes, sha256, storage_path, subfolders
from tune_app.engine.baseline import make_baseline
from tune_app.engine.trial import run_trial
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.ledger.ledger import Assignment, Ledger, TrialRecord, latest
from tune_app.run.warm_start import take_over
from tune_app.search.keys import config_key
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import load_spec
from tune_app.tables.query import frontier_frame
from tune_app.tables.trials import write_tables

Cli = Callable[..., Result]


def quick_spec(storage: str, tmp_path: Path) -> ExperimentSpec:
    """A spec as a user's file gives it; its trials take a second."""
    spec = tiny_spec(storage_path(storage), sampler={"name": "tpe"})
    base = spec.base.model_dump()
    base["baseline"]["schedule"] |= {"epochs": 1}
    base["prune"]["fine_tune"] |= {"epochs": 1, "batch_size": 64}
    base["quantize"] = {"kind": "ptq"}
    spec = ExperimentSpec.model_validate({**spec.model_dump(), "base": base})
    return load_spec(write_spec(tmp_path / "spec.yaml", spec))


def run(spec: ExperimentSpec, numbers: list[int]) -> list[TrialRecord]:
    """What a driver and its workers do, as new processes would begin it."""
    read_stage.cache_clear()
    folder, data = ExperimentFolder(spec.folder), load_data(spec.base.data)
    with Lease(folder) as lease:
        folder.claim(spec)
        baseline = make_baseline(spec, data)
        workplace, records = open_workplace(data, folder.stages, cpu=1, gpu=0), []
        for number in numbers:
            params = spec.space.point(number)
            key = config_key(spec, data.fingerprint, params)
            work = Assignment(number=number, config_key=key, params=params, seed=0)
            lease.save_in_flight([work])
            records.append(run_trial(work, spec, folder, workplace))
        lease.save_in_flight([])
        write_tables(lease, latest(Ledger(folder.trials).read()[0]), spec, reference=baseline.reference(spec))
    return records


@pytest.fixture
def spec(bucket: str, tmp_path: Path) -> ExperimentSpec:
    return quick_spec(f"{bucket}/team/", tmp_path)


def test_a_trial_in_a_bucket_is_the_trial_on_a_disk(spec: ExperimentSpec, tmp_path: Path) -> None:
    (tmp_path / "local").mkdir()
    [remote], [local] = run(spec, [3]), run(quick_spec(str(tmp_path / "runs"), tmp_path / "local"), [3])
    assert isinstance(remote.result, Completed)
    assert isinstance(local.result, Completed)
    assert remote.metrics() == local.metrics()
    assert remote.result.artifact_sha256 == local.result.artifact_sha256
    folder = ExperimentFolder(spec.folder)
    assert str(folder.path) == f"{spec.storage}/tiny"
    assert names(folder.path, "*") == ["experiment.yaml", "frontier.parquet", "in_flight.json", "trials.parquet"]
    assert sha256(read_bytes(folder.artifacts / remote.assignment.trial_id / "model.mbq")) == (
        remote.result.artifact_sha256
    )
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("s3")] == []


def test_a_second_run_finds_stages_and_records(spec: ExperimentSpec) -> None:
    first = run(spec, [3])
    again = run(spec, [3, 4])
    assert again[0] == first[0]
    assert [(s.kind, s.cached) for s in again[1].result.stages] == [
        ("train", True),
        ("channel_prune", True),
        ("ptq", False),
    ]
    folder = ExperimentFolder(spec.folder)
    assert len(subfolders(folder.stages / "locks")) == 4
    assert not names(folder.stages, "progress/*/*")


def test_every_command_that_reads_an_experiment_reads_it_there(spec: ExperimentSpec, cli: Cli, tmp_path: Path) -> None:
    records = run(spec, [0, 3])
    place, label = f"{spec.storage}/tiny", records[1].assignment.label.partition("@")[0]
    packed = f"{place}/artifacts/{records[1].assignment.trial_id}/model.mbq"
    answers = {
        name: cli(*command)
        for name, command in {
            "plan": ("plan", tmp_path / "spec.yaml", "--json"),
            "frontier": ("frontier", place, "--all", "--json"),
            "trace": ("frontier", place, "--trace", "--json"),
            "ls": ("cache", "ls", place, "--json"),
            "inspect": ("inspect", packed, "--json"),
            "plot": ("plot", place, "--output", tmp_path / "f.svg"),
            "export": ("export", place, label, "--output", tmp_path / "out"),
            "verify": ("verify", place, "--all", "--evaluate", "--json"),
            "finalize": ("finalize", place),
            "gc": ("cache", "gc", place, "--max-bytes", "0", "--dry-run"),
        }.items()
    }
    assert {name: (a.code, a.err) for name, a in answers.items()} == dict.fromkeys(answers, (0, ""))
    rows = json.loads(answers["frontier"].out)
    assert [row["trial_id"] for row in rows] == [r.assignment.trial_id for r in sorted(records, key=_size)]
    assert json.loads(answers["ls"].out)["total"]["stages"] == 4
    assert json.loads(answers["inspect"].out)["size_bytes"] == records[1].metrics()["size_bytes"]
    assert (tmp_path / "out" / "model.mbq").read_bytes() == read_bytes(storage_path(packed))
    assert [trial["holds"] for trial in json.loads(answers["verify"].out)["trials"]] == [True, True]
    assert frontier_frame(place).test_accuracy.notna().all()
    assert json.loads(answers["plan"].out)["done"] == 2
    assert cli("finalize", place).out == answers["finalize"].out


def _size(record: TrialRecord) -> float:
    return record.metrics()["size_bytes"]


def test_what_is_written_for_people_may_go_to_a_bucket_too(spec: ExperimentSpec, cli: Cli) -> None:
    [record] = run(spec, [0])
    place = f"{spec.storage}/tiny"
    target = storage_path(f"{spec.storage}/out")
    for command in (
        ("export", place, record.assignment.trial_id, "--output", target),
        ("plot", place, "--output", target / "f.png"),
        ("frontier", place, "--parquet", target / "f.parquet"),
    ):
        result = cli(*command)
        assert (result.code, result.err) == (0, "")
    assert names(target, "*") == ["card.json", "f.parquet", "f.png", "model.mbq"]


def test_results_are_taken_over_between_a_disk_and_a_bucket(spec: ExperimentSpec, tmp_path: Path) -> None:
    records = run(spec, [0])
    remote, local = ExperimentFolder(spec.folder), ExperimentFolder(tmp_path / "here")
    back = ExperimentFolder(storage_path(f"{spec.storage}/back"))
    assert take_over(records, remote, local) == take_over(records, local, back) == 1
    trial_id = records[0].assignment.trial_id
    assert (local.artifacts / trial_id / "model.mbq").read_bytes() == read_bytes(  # type: ignore[union-attr]
        back.artifacts / trial_id / "model.mbq"
    )


def test_the_experiments_in_a_bucket_are_named(bucket: str, cli: Cli) -> None:
    make_experiment(storage_path(bucket), tables=False)
    result = cli("frontier", bucket)
    assert result.code == 2
    assert "it holds experiments: toy" in result.err
    assert "give the folder" in cli("frontier", f"{bucket}/none").err


def refusal(result: Result, code: int) -> str:
    """The one line that a command ends with."""
    assert (result.code, result.out) == (code, ""), result.err
    [line] = result.err.splitlines()
    assert line.startswith("error: ")
    return line


def spec_at(storage: str, tmp_path: Path) -> Path:
    """A spec file with this storage, whatever it is."""
    return write_spec(tmp_path / "spec.yaml", tiny_spec(tmp_path).model_copy(update={"storage": storage}))


def test_a_missing_bucket_is_told_by_every_command(s3_address: str, cli: Cli, tmp_path: Path) -> None:
    for command in (
        ("frontier", "s3://nowhere/x"),
        ("cache", "ls", "s3://nowhere/x"),
        ("inspect", "s3://nowhere/m.mbq"),
    ):
        assert "there is no bucket 'nowhere'" in refusal(cli(*command), 3)
    for command in (("plan", spec_at("s3://nowhere", tmp_path)), ("run", spec_at("s3://nowhere", tmp_path))):
        assert "there is no bucket 'nowhere'" in refusal(cli(*command), 3)


def test_credentials_are_asked_for(s3_address: str, cli: Cli, tmp_path: Path) -> None:
    with endpoint(s3_address, AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None):
        assert "Set AWS_ACCESS_KEY_ID" in refusal(cli("run", spec_at("s3://bucket/x", tmp_path)), 3)
        assert "Set AWS_ACCESS_KEY_ID" in refusal(cli("frontier", "s3://bucket/x"), 3)


def test_an_endpoint_where_nobody_listens_is_told(cli: Cli, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}"):
            assert "Could not connect" in refusal(cli("run", spec_at("s3://bucket/x", tmp_path)), 3)


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("s3://key:QX7@bucket/x", "no URI holds credentials, but got 's3://***@bucket/x'"),
        ("gs://bucket/x", "pip install 'tune-app[gcs]'"),
        ("ftp://host/x", "storage is a folder, s3://bucket/prefix or gs://bucket/prefix"),
        ("s3://bucket/a*", "names no place"),
    ],
)
def test_a_uri_that_is_refused_is_bad_input(
    storage: str, words: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gcsfs" else find(name))
    for command in (("run", spec_at(storage, tmp_path)), ("plan", spec_at(storage, tmp_path)), ("frontier", storage)):
        line = refusal(cli(*command), 2)
        assert words in line
        assert "QX7" not in line


def test_a_new_experiment_needs_conditional_writes(tmp_path: Path) -> None:
    spec = tiny_spec(storage_path("s3://bucket"))
    with scripted_s3(Answer(200)), pytest.raises(StorageUnavailable, match="ignores If-None-Match"):
        ExperimentFolder(spec.folder).claim(spec)


def test_another_base_is_refused_there_too(spec: ExperimentSpec) -> None:
    folder = ExperimentFolder(spec.folder)
    assert folder.claim(spec) == folder.claim(spec) == []
    other = spec.model_copy(update={"base": spec.base.model_copy(update={"seed": 7})})
    with pytest.raises(ConfigError, match=r"base\.seed is 0 there and 7 here"):
        folder.claim(other)
    assert read_baseline(folder) is None
    folder.probe()
    assert names(folder.path, "*") == ["experiment.yaml"]
