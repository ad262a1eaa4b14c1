"""`make quick`: the tests of the rooms that changed, then of what imports them, nearest first, in less than 90 seconds.

A room is a folder or a file directly below a package, as in tests/test_layers.py; its tests stand at the same place in
tests/. Left out are tests with Ray, in a browser, and the slow ones.
"""

import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

import pytest

from tests.test_layers import ALLOWED, ROOT, imports, named

PACKAGES = {*ALLOWED, "benchmarks"}
LIMIT_S = 75.0
"""After it no test begins: what still runs then, and the end of the processes, get the rest of the 90 seconds."""
LEFT_S = 15.0
"""With less time left the next tests are not even collected, as that alone takes about as long."""
Uses = Mapping[str, Collection[str]]


def part(file: str) -> str:
    """The room of a file of a package; any other file stands for itself."""
    package, *rest = PurePosixPath(file).parts
    return f"{package}/{PurePosixPath(rest[0]).stem}" if package in PACKAGES and rest else file


def room_of(test: str) -> str:
    """The room whose tests a file holds, by the place where it stands."""
    _, *place = PurePosixPath(test).parts
    return "/".join(place[:2]).removesuffix(".py").replace("/test_", "/")


def is_test(file: str) -> bool:
    """Whether a file holds tests."""
    return file.startswith("tests/") and PurePosixPath(file).match("test_*.py")


def chosen(changed: Collection[str], uses: Uses) -> list[list[str]]:
    """The files of tests that changed files touch, by the number of imports between them: the nearest come first.

    Files that belong to no package, such as pages and examples, are those of the tests directly in tests/.
    """
    users: dict[str, set[str]] = defaultdict(set)
    for user, used in uses.items():
        for one in used:
            users[one].add(user)
    tests = sorted(file for file in {*uses, *changed} if is_test(file))
    near = {part(file) for file in changed}
    if any(not file.endswith(".py") and file == part(file) for file in changed):
        near |= {test for test in tests if test.count("/") == 1}
    seen: set[str] = set()
    stages = []
    while near:
        seen |= near
        near |= {test for test in tests if room_of(test) in near and test not in seen}
        seen |= near
        stages.append([test for test in tests if test in near])
        near = {user for one in near for user in users[one]} - seen
    return [stage for stage in stages if stage]


def read_uses(root: Path = ROOT) -> Uses:
    """By room, and by file of tests/, the rooms and files of tests/ that it imports."""
    uses: dict[str, set[str]] = defaultdict(set)
    for path in (path for folder in (*PACKAGES, "tests") for path in (root / folder).rglob("*.py")):
        file = path.relative_to(root)
        if file.name == "conftest.py":  # few tests use all that its fixtures import
            continue
        found = {_file_of(module, root) for module in imports(path)}
        if file.parts[0] == "tests":
            found |= {
                str(folder / "conftest.py") for folder in file.parents if (root / folder / "conftest.py").exists()
            }
        else:
            found |= {_file_of(module, root) for module in named(path)}
        uses[part(str(file))] |= {part(one) for one in found if one} - {part(str(file))}
    return uses


def _file_of(module: str, root: Path) -> str | None:
    """The file of a module of this repository, or of the module that a name is imported from."""
    parts = module.split(".")
    if parts[0] not in {*PACKAGES, "tests"}:
        return None
    places = ("/".join(parts[:count]) + end for count in range(len(parts), 0, -1) for end in (".py", "/__init__.py"))
    return next((place for place in places if (root / place).is_file()), None)


def changed_since(base: str) -> list[str]:
    """The files that differ from where this branch left `base`, with those that are not committed or not tracked."""
    start = _git("merge-base", base, "HEAD")
    return [*_git("diff", "--name-only", *start), *_git("ls-files", "--others", "--exclude-standard")]


def _git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def pytest_addoption(parser: pytest.Parser) -> None:
    """This file is also a plugin of pytest: workers of xdist get the end from the command line."""
    parser.addoption("--begin-until", type=float, help="the time (seconds since 1970) after which no test begins")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what would begin too late."""
    if time.time() > item.config.getoption("--begin-until"):
        pytest.skip("the time is over")


def main(base: str) -> int:
    """Runs the tests until the time is over, or until the tests at one distance failed."""
    end = time.time() + LIMIT_S
    stages = chosen(changed_since(base), read_uses())
    print(f"quick: {sum(map(len, stages))} files of tests depend on what changed since {base}")
    options = [
        "-p",
        "tests.quick",
        "-qq",
        "-r",
        "fEs",
        "-m",
        "not (ray or browser or slow or zoo)",
        f"--begin-until={end}",
    ]
    workers = ["--numprocesses", "logical", "--dist", "loadfile", "--no-loadscope-reorder"]
    for number, files in enumerate(stages):
        if time.time() > end - LEFT_S:
            print(
                f"quick: the time is over; {sum(map(len, stages[number:]))} files that depend on it less directly wait"
            )
            break
        print(f"quick: {', '.join(files)}", flush=True)
        code = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *workers, *files], cwd=ROOT, check=False
        ).returncode
        if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
