"""Shared fixtures: a home of our own, one Ray instance, the command line in process and as a subprocess."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.together import Together
    from trainables.storage import StoragePath
    from tune_app.ledger.folder import ExperimentFolder

# Before anything imports Ray: its token and caches go to a home of the test session's own.
HOME = os.environ["HOME"] = tempfile.mkdtemp(prefix="tune-app-home-")
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")
RAY = re.compile(r"\bmark\.ray\b|\bray_address\b|\bfinished_search\b|\bstart_cli\b")
"""What a file with a test with Ray names: the marker, or one of the fixtures that lead to the Ray instance."""
for name in ("RAY_ADDRESS", "RAY_AUTH_MODE"):
    os.environ.pop(name, None)


# No example fails by the clock: others use this machine too.
hypothesis.settings.register_profile(
    "without a clock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("without a clock")


def pytest_configure(config: pytest.Config) -> None:
    """The home goes when the session ends."""
    config.add_cleanup(lambda: shutil.rmtree(HOME, ignore_errors=True))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m ray`, files without a test with Ray are not imported, which is most of them."""
    others = collection_path.name.startswith("test_") and not RAY.search(collection_path.read_text())
    return True if config.option.markexpr == "ray" and others else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for the Ray instance is one of Ray's, one that asks for the browser is one of the browser's."""
    for item in items:
        names = getattr(item, "fixturenames", ())
        if "ray_address" in names:
            item.add_marker(pytest.mark.ray)
        if "browser" in names:
            item.add_marker(pytest.mark.browser)
    for path in {item.path for item in items if item.get_closest_marker("ray")}:
        assert RAY.search(path.read_text()), f"`-m ray` would overlook {path}: it names none of {RAY.pattern}"


@pytest.fixture(autouse=True)
def threads() -> None:
    """Each test begins with the threads of the environment, whatever a workplace before it chose for its process."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """The address of the one S3 server of this session; the environment names it too."""
    from tests.s3 import s3_server

    with s3_server() as address:
        yield address


@pytest.fixture(scope="session")
def together(s3_address: str) -> "Iterator[Together]":
    """Calls a function in several processes at the same moment; they can reach the S3 server."""
    from tests.together import processes

    with processes() as call:
        yield call


@pytest.fixture
def bucket(s3_address: str) -> str:
    """The URI of an empty bucket."""
    from tests.s3 import new_bucket

    return new_bucket(uuid.uuid4().hex)


@pytest.fixture(params=["posix", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> "StoragePath":
    """An empty folder, once on the disk and once in a bucket: what is promised of files holds in both."""
    from trainables.storage import storage_path

    return tmp_path if request.param == "posix" else storage_path(request.getfixturevalue("bucket"))


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of the one Ray instance of this session; this process is connected to it."""
    import ray

    context = ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, log_to_driver=False)
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def finished_search(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> "ExperimentFolder":
    """A real search that was left alone until its end. Tests that change an experiment copy it first."""
    from tests.specs import tiny_spec
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.run.search import run_search

    spec = tiny_spec(tmp_path_factory.mktemp("finished"))
    outcome = run_search(spec)
    assert (outcome.totals.count, outcome.new) == (spec.budget.trials, spec.budget.trials)
    return ExperimentFolder(spec.folder)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`tune-app ARGS…` in this process."""

    def call(*args: object, columns: int = 120) -> Result:
        from tune_app.cli.main import main

        monkeypatch.setattr(sys, "argv", ["tune-app", *map(str, args)])
        monkeypatch.setenv("COLUMNS", str(columns))
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def start_cli(ray_address: str, start_python: Callable[..., Any]) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts `tune-app ARGS…` as a process connected to the session's Ray; what still runs at the end is killed."""
    return lambda *args: start_python("-m", "tune_app", *args, RAY_ADDRESS=ray_address)


@pytest.fixture
def start_python(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts `python ARGS…` with these environment variables too; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: object, **env: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, *map(str, args)],
            env={**os.environ, **env},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Tests that run in the background of a shell, or under nohup, inherit that signals are ignored.
            preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)],
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
