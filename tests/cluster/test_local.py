"""Jobs on this machine: they outlive who started them, and say how they ended."""

import contextlib
import hashlib
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cluster.errors import CorruptJob, FolderUnwritable, NoSuchJob, PlanRefused
from cluster.job import JobHandle, JobSpec, JobState, SubmitPlan
from cluster.local import LocalBackend
from cluster.working_dir import write_files

ENDLESS = "trap 'exit 143' TERM; while true; do sleep 0.05; done"


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalBackend:
    monkeypatch.setenv("TUNE_APP_JOBS", str(tmp_path / "jobs"))
    return LocalBackend()


def plan(backend: LocalBackend, spec_text: str = "no: spec\n", attempt: int = 1) -> SubmitPlan:
    return backend.plan(
        JobSpec(
            experiment="demo",
            spec_text=spec_text,
            spec_sha256=hashlib.sha256(spec_text.encode()).hexdigest(),
            storage="runs",
            trials=3,
            cpu=1,
            gpu=0,
            attempt=attempt,
        )
    )


@pytest.fixture
def instead(backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Lets a shell script run in the place of Python; what still runs at the end is killed."""

    def replace(script: str) -> None:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr("cluster.local.sys.executable", str(program))

    yield replace
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if str(tmp_path) in " ".join(process.cmdline()):
                process.kill()


def wait(backend: LocalBackend, handle: JobHandle, *, until: Callable[[JobState], bool]) -> JobState:
    while not until(state := backend.status(handle)):
        time.sleep(0.05)
    return state


def test_a_job_that_fails_says_so_and_keeps_its_log(backend: LocalBackend) -> None:
    handle = backend.submit(plan(backend))  # our own command line, which refuses this spec
    assert wait(backend, handle, until=lambda s: s.is_final) == JobState.FAILED
    assert "error: " in "".join(backend.logs(handle))


def test_a_job_that_ends_well(backend: LocalBackend, instead: Callable[[str], None]) -> None:
    instead('echo "$@"; cat spec.yaml')
    handle = backend.submit(plan(backend, "a: 1\n"))
    assert wait(backend, handle, until=lambda s: s.is_final) == JobState.SUCCEEDED
    assert "".join(backend.logs(handle)) == "-m tune_app run spec.yaml\na: 1\n"


def test_logs_are_followed_to_the_last_line(backend: LocalBackend, instead: Callable[[str], None]) -> None:
    instead("for i in 1 2 3; do echo line $i; sleep 0.3; done")
    handle = backend.submit(plan(backend))
    assert "".join(backend.logs(handle, follow=True)).split("\n")[:3] == ["line 1", "line 2", "line 3"]
    assert backend.status(handle) == JobState.SUCCEEDED


def test_a_character_that_is_written_in_two_parts_is_shown_whole(
    backend: LocalBackend, instead: Callable[[str], None], tmp_path: Path
) -> None:
    instead(f"printf 'caf\\303'; while [ ! -e '{tmp_path}/go' ]; do sleep 0.01; done; printf '\\251'")
    handle = backend.submit(plan(backend))
    wait(backend, handle, until=lambda s: (backend.folder / "demo-1" / "log.txt").read_bytes() == b"caf\303")
    pieces = backend.logs(handle, follow=True)
    first = next(pieces)
    (tmp_path / "go").touch()
    assert first + "".join(pieces) == "café"


def test_stop_lets_the_driver_end_by_itself(backend: LocalBackend, instead: Callable[[str], None]) -> None:
    instead("trap 'echo saved; exit 143' TERM; echo ready; while true; do sleep 0.1; done")
    handle = backend.submit(plan(backend))
    wait(backend, handle, until=lambda s: "ready" in "".join(backend.logs(handle)))
    assert backend.status(handle) == JobState.RUNNING
    backend.stop(handle)
    assert wait(backend, handle, until=lambda s: s.is_final) == JobState.STOPPED
    assert "saved" in "".join(backend.logs(handle))


def test_the_newest_job_comes_first_and_a_name_is_used_once(
    backend: LocalBackend, instead: Callable[[str], None]
) -> None:
    instead("true")
    for attempt in (1, 2):
        wait(backend, backend.submit(plan(backend, attempt=attempt)), until=lambda s: s.is_final)
        time.sleep(0.02)  # two steps of the kernel's clock
    assert [job.submission_id for job in backend.list()] == ["demo-2", "demo-1"]
    assert all(job.experiment == "demo" for job in backend.list())
    with pytest.raises(PlanRefused, match="submitted before"):
        backend.submit(plan(backend, attempt=2))


def test_of_two_submissions_at_the_same_moment_one_starts(
    backend: LocalBackend, instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    instead("echo started >> ../../starts")
    other = LocalBackend()

    def between(*arguments: object) -> list[Path]:
        with pytest.raises(PlanRefused, match="submitted before"):
            other.submit(plan(other))
        return write_files(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("cluster.local.write_files", between)
    wait(backend, backend.submit(plan(backend)), until=lambda s: s.is_final)
    assert (backend.folder.parent / "starts").read_text() == "started\n"


def test_a_job_runs_what_its_plan_says_whatever_the_path_of_python(
    backend: LocalBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "a folder/python"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr("cluster.local.sys.executable", str(program))
    planned = plan(backend)
    assert shlex.split(planned.entrypoint) == [str(program), "-m", "tune_app", "run", "spec.yaml"]
    handle = backend.submit(planned.model_copy(update={"entrypoint": f"{planned.entrypoint} --more"}))
    wait(backend, handle, until=lambda s: s.is_final)
    assert "".join(backend.logs(handle)) == "-m tune_app run spec.yaml --more\n"


@pytest.mark.parametrize("step_s", [-3600, 3600])
def test_a_step_of_the_clock_does_not_end_a_job(
    step_s: float, backend: LocalBackend, instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(ENDLESS)
    handle = backend.submit(plan(backend))
    # The kernel's time of boot moves with the clock, and the start of a process is counted from it.
    boot = psutil.boot_time()
    for module in (psutil, psutil._pslinux):
        monkeypatch.setattr(module, "boot_time", lambda: boot + step_s)
    assert backend.status(handle) == JobState.RUNNING
    backend.stop(handle)
    assert wait(backend, handle, until=lambda s: s.is_final) == JobState.STOPPED


def test_a_job_that_has_only_just_begun_is_stopped(
    backend: LocalBackend, instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    instead(ENDLESS)
    handle = backend.submit(plan(backend))
    children, asked = psutil.Process.children, []

    def not_yet(process: psutil.Process) -> list[psutil.Process]:
        asked.append(process)
        return children(process) if len(asked) > 1 else []

    monkeypatch.setattr(psutil.Process, "children", not_yet)
    backend.stop(handle)
    assert wait(backend, handle, until=lambda s: s.is_final) == JobState.STOPPED


def test_a_job_that_ends_while_it_is_stopped_is_stopped(
    backend: LocalBackend, instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    instead("until [ -e go ]; do sleep 0.01; done")
    handle = backend.submit(plan(backend))
    folder = backend.folder / handle.submission_id
    terminate = psutil.Process.terminate

    def late(process: psutil.Process) -> None:
        (folder / "go").touch()
        psutil.wait_procs([process])
        terminate(process)

    monkeypatch.setattr(psutil.Process, "terminate", late)
    backend.stop(handle)
    assert wait(backend, handle, until=lambda s: s.is_final) == JobState.SUCCEEDED


def test_what_is_remembered_of_a_job_may_be_damaged(backend: LocalBackend, instead: Callable[[str], None]) -> None:
    instead("true")
    handle = backend.submit(plan(backend))
    wait(backend, handle, until=lambda s: s.is_final)
    (backend.folder / "demo-1/job.json").write_text("{")
    for ask in (backend.list, lambda: backend.status(handle)):
        with pytest.raises(CorruptJob, match=r"demo-1/job\.json is damaged.*remove .*/demo-1") as caught:
            ask()
        assert len(str(caught.value).splitlines()) == 1


def test_a_job_of_another_machine_with_the_same_home_runs_until_it_wrote_how_it_ended(
    backend: LocalBackend, instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    instead("until [ -e go ]; do sleep 0.01; done")
    monkeypatch.setattr("socket.gethostname", lambda: "login1")
    handle = backend.submit(plan(backend))
    monkeypatch.setattr("socket.gethostname", lambda: "login2")
    monkeypatch.setattr("cluster.local._process", lambda job: None)  # its process has that number elsewhere
    assert backend.status(handle) == JobState.RUNNING
    with pytest.raises(PlanRefused, match=r"demo-1 runs on login1: stop it there, or remove .*/demo-1 if"):
        backend.stop(handle)
    (backend.folder / "demo-1/go").touch()
    assert wait(backend, handle, until=lambda s: s.is_final) == JobState.SUCCEEDED
    backend.stop(handle)


def test_jobs_need_a_folder(backend: LocalBackend) -> None:
    backend.folder.touch()
    with pytest.raises(FolderUnwritable, match="TUNE_APP_JOBS"):
        backend.submit(plan(backend))


def test_how_a_job_ended_is_not_missed_in_its_last_moment(
    backend: LocalBackend, instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    instead("until [ -e go ]; do sleep 0.01; done")
    handle = backend.submit(plan(backend))
    folder = backend.folder / handle.submission_id

    def asked_late(job: object) -> None:
        (folder / "go").touch()
        while not (folder / "exit_code").exists() or not (folder / "exit_code").read_text():
            time.sleep(0.01)

    monkeypatch.setattr("cluster.local._process", asked_late)
    assert backend.status(handle) == JobState.SUCCEEDED


def test_an_unknown_job(backend: LocalBackend) -> None:
    with pytest.raises(NoSuchJob, match="demo-9"):
        backend.status(JobHandle(backend="local", submission_id="demo-9"))
    assert backend.list() == []


def test_an_address_is_of_a_cluster() -> None:
    with pytest.raises(PlanRefused, match="--backend ray"):
        LocalBackend("http://127.0.0.1:8265")
