"""W&B, read back from the files that it writes offline."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stored import tree
from tests.tune_app.factories import make_spec, make_untrained
from tests.tune_app.tracking.experiments import (
    EPOCHS,
    POINT,
    finish,
    make_tracked,
    png,
    publish,
    refuse,
    train,
    work_of,
)
from tests.tune_app.tracking.fake_wandb import fake_wandb
from tests.tune_app.tracking.holes import black_hole, only_polite, speaks
from tests.tune_app.tracking.wandb_files import OfflineRun, offline_runs
from trainables.config import BaselineUntrained, DataConfig
from trainables.errors import ConfigError
from trainables.storage import Lock, read_bytes, remove, sha256
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.trackers import WandbConfig
from tune_app.tracking import child, wandb_connection, wandb_tracker
from tune_app.tracking.follow import Follower
from tune_app.tracking.overview import opened, read_overview
from tune_app.tracking.places import lock_place, open_memory, open_tracker
from tune_app.tracking.protocol import ConfusionMatrix, TrackerUnavailable
from tune_app.tracking.track import track
from tune_app.tracking.wandb_connection import Connection, answers, connect
from tune_app.tracking.wandb_tracker import WandbTracker

OFFLINE = WandbConfig(mode="offline")
ONLINE, OURS = WandbConfig(mode="online"), WandbConfig(mode="online", entity="ours")
KEY = "0123456789abcdef" * 2 + "01234567"
CAVEAT = "untrained baseline: accuracies mean nothing"
UNPRUNED = {"prune_frac": 0, "w_bits": 8, "a_bits": 8}


def runs_of(folder: ExperimentFolder) -> dict[str, list[OfflineRun]]:
    assert isinstance(folder.tracking, Path)
    return offline_runs(folder.tracking)


def test_a_trial_is_one_run(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    record = finish(folder)
    shown = track(folder, OFFLINE, confusion=False)
    assert (shown.runs, shown.new, shown.destination) == (1, 1, "offline")
    run_id = f"toy-{record.assignment.trial_id}"
    (run,) = runs_of(folder)[run_id]
    assert (run.name, run.group, run.job_type, run.project) == ("p50_w4_a8", "toy", "trial", "tune-app")
    assert run.resume
    assert run.config.items() >= {**POINT, "rung": "full", "seed": 0, "repeat": 0, "data.name": "digits"}.items()
    assert run.config["prune.fine_tune.weight_decay"] == 5e-4
    assert (run.exit_code, run.tags) == (0, [])
    assert run.steps == list(range(1, sum(EPOCHS.values()) + 1))
    assert [row["qat/loss"] for row in run.history[5:]] == [1, 1 / 2, 1 / 3, 1 / 4]
    assert run.step_metrics == {f"{kind}/*": f"{kind}/epoch" for kind in EPOCHS}
    assert run.summary.items() >= {"accuracy": 0.9, "size_bytes": 100_000, "state": "complete", "device": "cpu"}.items()


def test_the_packed_file_is_named_and_not_uploaded(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    record = finish(folder)
    track(folder, OFFLINE, confusion=False)
    (run,) = runs_of(folder)[f"toy-{record.assignment.trial_id}"]
    (artifact,) = run.artifacts.values()
    (entry,) = artifact.manifest.contents
    path = folder.artifacts / record.assignment.trial_id / "model.mbq"
    assert isinstance(path, Path)
    assert (artifact.type, entry.ref, entry.local_path) == ("model", path.as_uri(), "")
    assert json.loads(artifact.metadata)["sha256"] == sha256(read_bytes(path))


def test_the_packed_file_is_uploaded_if_that_is_wanted(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    record = finish(folder)
    track(folder, WandbConfig(mode="offline", upload=True), confusion=False)
    (run,) = runs_of(folder)[f"toy-{record.assignment.trial_id}"]
    (entry,) = next(iter(run.artifacts.values())).manifest.contents
    assert entry.ref == ""
    assert Path(entry.local_path).read_bytes().startswith(b"packed")


def test_a_trial_without_a_result_is_a_failed_run(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    record = finish(folder, state="invalid")
    track(folder, OFFLINE, confusion=False)
    (run,) = runs_of(folder)[f"toy-{record.assignment.trial_id}"]
    assert (run.exit_code, run.summary["reason"]) == (1, "Diverged: the loss became NaN")
    assert run.artifacts == {}


def test_a_trial_that_was_refused_after_its_file_was_measured_is_a_failed_run_with_its_numbers(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    record = refuse(folder)
    track(folder, OFFLINE, confusion=False)
    (run,) = runs_of(folder)[f"toy-{record.assignment.trial_id}"]
    expected = {"state": "invalid", "reason": "Collapsed: at chance", "accuracy": 0.1, "size_bytes": 60_000}
    assert (run.exit_code, run.artifacts) == (1, {})
    assert run.summary.items() >= expected.items()


def test_runs_of_a_placeholder_are_tagged_and_its_charts_say_so(tmp_path: Path) -> None:
    data = DataConfig(images=10_000_000)
    base = make_spec(tmp_path).base.model_copy(update={"baseline": BaselineUntrained(kind="untrained"), "data": data})
    folder = make_untrained(tmp_path, base=base)
    track(folder, OFFLINE, confusion=False)
    found = runs_of(folder)
    assert len(found) == 1 + 6 + 1  # the baseline, the trials, the summary
    tags = [CAVEAT, "rehearsal: at most 10,000,000 images of each split (data.images)"]
    assert max(map(len, tags)) <= 64  # what W&B takes
    assert [run.tags for runs in found.values() for run in runs] == [tags] * 8
    (summary,) = found["toy-summary"]
    scatter = summary.config["_wandb"]["visualize"]["points"]["panel_config"]["stringSettings"]
    assert scatter["title"] == f"accuracy against size_bytes ({'; '.join(tags)})"


def test_the_baseline_is_a_run_of_its_own(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    publish(folder, work_of(), "train")
    for _ in range(2):
        assert (track(folder, OFFLINE, confusion=False).runs, track(folder, OFFLINE, confusion=False).new) == (0, 0)
    (run,) = runs_of(folder)["toy-baseline"]
    assert (run.name, run.group, run.job_type, run.exit_code) == ("baseline", "toy", "baseline", 0)
    assert run.steps == [1, 2, 3]
    assert [row["train/loss"] for row in run.history] == [1, 1 / 2, 1 / 3]
    assert run.config.items() >= {"data.name": "digits", "baseline.kind": "train"}.items()
    assert not [name for name in run.config if name.startswith(("prune", "quantize"))]
    assert run.summary.items() >= {"accuracy": 0.95, "compression_ratio": 1, "state": "complete"}.items()


def test_the_summary_run_has_tables_and_charts(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    finish(folder, POINT, 0, accuracy=0.8, size_bytes=50_000)
    finish(folder, UNPRUNED, 1, accuracy=0.9, size_bytes=90_000)
    finish(folder, {**POINT, "w_bits": 2}, 2, accuracy=0.7, size_bytes=60_000)
    tracker, _ = open_tracker(OFFLINE, folder, fall_back=False)
    confusion = ConfusionMatrix("p50_w4_a8", ("cat", "dog"), ((5, 1), (2, 7)), png())
    overview = read_overview(folder, confusion=confusion)
    tracker.show(overview)
    tracker.close()
    (run,) = runs_of(folder)["toy-summary"]
    assert (run.group, run.job_type, run.name) == ("toy", "summary", "toy: summary")
    (row,) = run.history
    assert row.items() >= {"trials": 3, "frontier_points": 2, "best_accuracy": 0.9, "_step": overview.step}.items()
    assert content_of(run, row["frontier"])["data"] == overview.table(overview.frontier)
    assert [line[0] for line in content_of(run, row["frontier"])["data"]] == ["p50_w4_a8", "p0_w8_a8"]
    charts = run.config["_wandb"]["visualize"]
    assert {name: chart["panel_config"]["panelDefId"] for name, chart in charts.items()} == CHARTS
    assert charts["points"]["panel_config"]["fieldSettings"] == {"x": "size_bytes", "y": "accuracy"}
    assert len(content_of(run, row["points_table"])["data"]) == 3
    cells = content_of(run, row["confusion_matrix_table"])["data"]
    assert cells == [["cat", "cat", 5], ["cat", "dog", 1], ["dog", "cat", 2], ["dog", "dog", 7]]
    shown = row["confusion_images"]
    assert (shown["_type"], shown["caption"]) == ("image-file", "p50_w4_a8, validation split")
    picture = (run.folder / "files" / shown["path"]).read_bytes()
    assert (shown["width"], shown["height"]) == opened(picture).size == (4, 3)
    (lines,) = content_of(run, row["parallel_coordinates"])["data"]
    assert lines["type"] == "parcoords"
    assert [axis["label"] for axis in lines["dimensions"]][:4] == ["prune_frac", "w_bits", "a_bits", "accuracy"]


CHARTS = {"points": "wandb/scatter/v0", "confusion_matrix": "wandb/confusion_matrix/v1"}


def content_of(run: OfflineRun, logged: dict[str, Any]) -> Any:
    """The file that a row of the history names."""
    return json.loads((run.folder / "files" / logged["path"]).read_text())


def test_a_run_that_was_stopped_and_killed_goes_on_at_its_next_epoch(
    tmp_path: Path, start_tracking: Callable[..., "subprocess.Popen[str]"]
) -> None:
    folder = make_tracked(tmp_path, tracking={"kind": "wandb", "mode": "offline"})
    publish(folder, work_of(), "train")
    train(folder, work_of(), "channel_prune", 2)
    stopped = start_tracking(folder)
    stopped.communicate()  # the end of its input is the end of the search
    assert stopped.returncode == 0
    publish(folder, work_of(), "channel_prune")
    train(folder, work_of(), "qat", 2)
    killed = start_tracking(folder)
    holder = Lock(lock_place(folder, "wandb")).holder
    while (holder() or {}).get("pid") != killed.pid:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    finish(folder)
    last = start_tracking(folder)
    last.communicate()
    first, second = runs_of(folder)[f"toy-{work_of().trial_id}"]
    assert (first.steps, second.steps) == ([1, 2, 3, 4, 5], [6, 7, 8, 9])
    assert (first.resume, second.resume) == (True, True)
    assert (first.preempting, second.preempting, second.exit_code) == (True, False, 0)


@pytest.fixture
def start_tracking() -> Iterator[Callable[[ExperimentFolder], "subprocess.Popen[str]"]]:
    """Starts the process that shows a search to W&B, and ends it with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: ExperimentFolder) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tune_app.tracking.child", str(folder.path), "wandb"]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_search_that_stops_leaves_a_run_that_can_go_on(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    train(folder, work_of(), "train", 2)
    track(folder, OFFLINE, confusion=False)
    track(folder, OFFLINE, confusion=False)
    (run,) = runs_of(folder)[f"toy-{work_of().trial_id}"]
    assert (run.steps, run.preempting, run.exit_code) == ([1, 2], True, 1)


def test_without_a_key_runs_are_written_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    found = connect(WandbConfig(), fall_back=False)
    assert (found.mode, found.warning) == ("offline", f"W&B has no key for {found.base_url}")
    with pytest.raises(ConfigError, match="run `wandb login`, set WANDB_API_KEY, or take mode: offline"):
        connect(WandbConfig(mode="online"), fall_back=False)
    assert connect(WandbConfig(mode="online"), fall_back=True) == found


def test_wandb_mode_decides_where_the_spec_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with only_polite() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_MODE", "dryrun")
        assert connect(WandbConfig(), fall_back=False).mode == "offline"
        assert connect(WandbConfig(mode="online"), fall_back=False).mode == "online"
        monkeypatch.setenv("WANDB_MODE", "disabled")
        assert connect(WandbConfig(), fall_back=False).mode == "disabled"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WANDB_MODE", "of", "WANDB_MODE: Input should be 'online', 'offline'"),
        ("WANDB_BASE_URL", "http://me:word@", "WANDB_BASE_URL: Input should be a valid URL"),
        ("WANDB_API_KEY", f"{KEY} ", "whitespace"),
    ],
)
def test_a_variable_that_wandb_cannot_read_is_one_line(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        connect(WandbConfig(), fall_back=True)
    line = str(caught.value)
    assert line.startswith("W&B refuses its settings: ")
    assert said in line
    assert not any(hidden in line for hidden in ("\n", KEY, "word"))


def test_runs_lie_where_wandb_is_told_to_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    folder = make_tracked(tmp_path)
    finish(folder)
    shown = track(folder, OFFLINE, confusion=False)
    assert shown.files == str(tmp_path / "elsewhere" / "wandb")
    assert len(list(Path(shown.files).glob("offline-run-*"))) == 3
    _, warning = open_tracker(WandbConfig(), folder, fall_back=True)
    assert warning.endswith(f"; runs are written to {shown.files}")


def test_runs_that_were_written_elsewhere_are_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a job in its own working directory, which is gone with the job."""
    folder = make_tracked(tmp_path)
    finish(folder)
    for name in ("a", "b"):
        monkeypatch.setenv("WANDB_DIR", str(tmp_path / name))
        shown = track(folder, OFFLINE, confusion=False)
        assert (shown.destination, shown.new) == ("offline", 1)
        assert len(list(Path(shown.files).glob("offline-run-*"))) == 3
    assert track(folder, OFFLINE, confusion=False).new == 0


def test_runs_of_another_account_are_shown_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for entity in ("me", "us"):
        monkeypatch.setenv("WANDB_ENTITY", entity)
        connection = Connection("online", "http://h")
        found += [WandbTracker(config, tmp_path, connection, finish_s=0).destination for config in (ONLINE, OURS)]
    assert found == ["http://h/me/tune-app", "http://h/ours/tune-app", "http://h/us/tune-app", "http://h/ours/tune-app"]


def test_files_that_cannot_be_written_are_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackerUnavailable, match="W&B's files cannot be written: "):
        WandbTracker(OFFLINE, tmp_path / "file" / "place", Connection("offline", ""), finish_s=0)


def test_a_key_that_wandb_login_left_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with only_polite() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        host = url.removeprefix("http://")
        Path(os.environ["NETRC"]).write_text(f"machine {host} login user password {KEY}\n")
        assert connect(WandbConfig(), fall_back=False).mode == "online"


def test_a_server_that_never_answers_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_connection, "ANSWER_S", 0.2)
    with black_hole() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        found = connect(WandbConfig(), fall_back=True)
        assert (found.mode, found.warning) == ("offline", f"W&B does not answer at {url} (no answer in 0.2 s)")
        with pytest.raises(TrackerUnavailable, match="--mode offline"):
            connect(WandbConfig(), fall_back=False)


def test_a_server_of_another_kind_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with speaks(b"SSH-2.0-OpenSSH_9.2\r\n") as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        with pytest.raises(TrackerUnavailable, match=r"W&B does not answer at .* \(SSH-2.0-OpenSSH_9.2"):
            connect(WandbConfig(mode="online"), fall_back=False)
        assert connect(WandbConfig(), fall_back=True).mode == "offline"


def test_a_run_online_goes_on_where_the_server_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = f"toy-{work_of().trial_id}"
    folder = make_tracked(tmp_path)
    publish(folder, work_of(), "train")
    train(folder, work_of(), "channel_prune", 1)
    with fake_wandb() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert show_runs(folder) == f"{server.url}/default entity/tune-app"
        assert server.steps(run_id) == [1, 2, 3, 4]
        server.history[run_id].pop()  # it never arrived
        finish(folder)
        show_runs(folder)
        assert server.steps(run_id) == list(range(1, 10))
        remove(folder.tracking / "wandb.json")
        show_runs(folder)
        assert server.steps(run_id) == list(range(1, 10))
    assert server.begun[run_id].items() >= {"groupName": "toy", "jobType": "trial", "project": "tune-app"}.items()
    assert server.exit_codes[run_id] == 0
    assert not [name for name, content in tree(folder.path).items() if KEY.encode() in content]


def show_runs(folder: ExperimentFolder) -> str:
    """Without an overview: our server takes no tables."""
    tracker, _ = open_tracker(WandbConfig(), folder, fall_back=False)
    follower = Follower(folder, tracker, open_memory(folder, "wandb", tracker.destination))
    follower.look()
    follower.close()
    return tracker.destination


DEATH = """
import psutil
from pathlib import Path
from tune_app.spec.trackers import WandbConfig
from tune_app.tracking.protocol import RunEnd, RunInfo, TrackerUnavailable
from tune_app.tracking.wandb_connection import Connection
from tune_app.tracking.wandb_tracker import WandbTracker

tracker = WandbTracker(WandbConfig(), Path(), Connection("offline", ""), finish_s=5)
run = tracker.open(RunInfo("toy-1", "toy", "toy", "trial"))
(core,) = [p for p in psutil.Process().children() if p.name().startswith("wandb-core")]
core.kill()
core.wait()
try:
    run.finish(RunEnd("complete", {}, {}))
except TrackerUnavailable as err:
    print(err)
"""


def test_the_death_of_wandbs_own_process_is_an_answer_too(start_python: Callable[..., "subprocess.Popen[str]"]) -> None:
    out, _ = start_python("-c", DEATH).communicate()
    assert out.startswith("W&B stopped answering: ")


class EndedSearch:
    """The end of a search that is over already."""

    def wait(self, seconds: float) -> bool:
        return True


def test_a_server_that_stops_answering_gets_the_rest_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb_tracker, "START_S", 1.0)
    monkeypatch.setattr(child, "is_cheap", lambda folder: False)
    folder = make_tracked(tmp_path)
    record = finish(folder)
    said: list[str] = []
    with only_polite() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        child._show(folder, WandbConfig(), EndedSearch(), said.append, "AGAIN")  # type: ignore[arg-type]
    (line,) = said
    assert line.startswith("W&B stopped answering: ")
    assert line.endswith("runs are written to files from now on; AGAIN")
    (run,) = runs_of(folder)[f"toy-{record.assignment.trial_id}"]
    assert len(run.steps) == 9
    assert not [name for name, content in tree(folder.path).items() if KEY.encode() in content]


def test_a_key_reaches_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    folder = make_tracked(tmp_path, tracking={"kind": "wandb", "mode": "offline"})
    finish(folder)
    track(folder, OFFLINE, confusion=False)
    files = tree(folder.path)
    assert any(name.endswith(".wandb") for name in files)
    assert not [name for name, content in files.items() if KEY.encode() in content]


def test_a_key_in_an_error_of_wandb_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with pytest.raises(TrackerUnavailable, match=r"^W&B stopped answering: no account for \*\*\*$"), answers():
        raise RuntimeError(f"no account for {KEY}")
