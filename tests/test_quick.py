"""Which tests `make quick` chooses."""

import subprocess
import time
from pathlib import Path

import pytest

from tests import quick
from tests.quick import chosen

LEASE, RUN, LAYERS = "tests/app/ledger/test_lease.py", "tests/app/run/test_run.py", "tests/test_layers.py"
USES = {
    "tune_app/ledger": {"tune_app/errors"},
    "tune_app/run": {"tune_app/ledger"},
    "tune_app/cli": {"tune_app/run"},
    "tests/specs.py": {"tune_app/spec"},
    "tests/tune_app/ledger/test_lease.py": {"tune_app/ledger"},
    "tests/tune_app/run/test_outcome.py": {"tune_app/run", "tests/specs.py"},
    "tests/tune_app/cli/test_main.py": {"tune_app/cli"},
    "tests/tune_app/spec/test_experiment.py": {"tune_app/spec"},
    "tests/tune_app/test_errors.py": set[str](),
    "tests/test_docs.py": {"tune_app/cli"},
}


@pytest.mark.parametrize(
    ("changed", "tests"),
    [
        ("tune_app/run/search.py", [["run/test_outcome"], ["cli/test_main"], ["../test_docs"]]),
        ("tune_app/cli/main.py", [["cli/test_main"], ["../test_docs"]]),
        (
            "tune_app/errors.py",
            [["test_errors"], ["ledger/test_lease"], ["run/test_outcome"], ["cli/test_main"], ["../test_docs"]],
        ),
        ("tests/specs.py", [["run/test_outcome"]]),
        ("tests/tune_app/cli/test_main.py", [["cli/test_main"]]),
        ("docs/spec.md", [["../test_docs"]]),
    ],
)
def test_the_nearest_tests_come_first(changed: str, tests: list[list[str]]) -> None:
    found = [[test.removeprefix("tests/tune_app/") for test in stage] for stage in chosen([changed], USES)]
    assert [[test.replace("tests/", "../").removesuffix(".py") for test in stage] for stage in found] == tests


def test_a_new_file_of_tests_is_chosen_itself() -> None:
    assert chosen(["tests/tune_app/run/test_new.py"], USES) == [["tests/tune_app/run/test_new.py"]]


def test_no_change_chooses_nothing() -> None:
    assert chosen([], USES) == []


def test_each_test_is_chosen_once() -> None:
    found = [test for stage in chosen(["tune_app/errors.py", "tests/specs.py"], USES) for test in stage]
    assert len(found) == len(set(found))


def test_every_room_of_this_repository_has_its_tests_found_by_place_or_import() -> None:
    uses = quick.read_uses()
    assert "tune_app/errors" in uses["tune_app/ledger"]
    assert "trainables/storage" in uses["tune_app/ledger"]
    for room in (one for one in uses if one.partition("/")[0] in quick.ALLOWED and not one.endswith("__")):
        assert chosen([f"{room}/any.py"], uses), room


def test_nothing_begins_after_the_end(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_one():\n    raise SystemError\n")
    command = [quick.sys.executable, "-m", "pytest", "-p", "tests.quick", "-rs", "--rootdir", tmp_path, tmp_path]
    late = subprocess.run(
        [*command, f"--begin-until={time.time() - 1}"], cwd=quick.ROOT, capture_output=True, text=True
    )
    assert (late.returncode, "the time is over" in late.stdout) == (0, True), late.stdout
