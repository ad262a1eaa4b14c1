"""The README says what is true: its commands run, in its order, and its names exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from tune_app.cli import app
from tune_app.query import frontier_frame
from tune_app.spec_file import load_spec
from tune_app.tables import read_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DEMO_LIMIT_S = 600


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands(program: str) -> list[list[str]]:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    return [found[1:] for line in lines if (found := shlex.split(line, comments=True))[:1] == [program]]


@pytest.fixture(scope="module")
def home(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where `tune-app demo` has run."""
    folder = tmp_path_factory.mktemp("readme")
    done = tune_app(["demo"], folder, ray_address)
    (folder / "demo.out").write_text(done.stdout)
    return folder


def tune_app(arguments: list[str], folder: Path, address: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-m", "tune_app", *arguments],
        cwd=folder,
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=DEMO_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done


@pytest.mark.ray
def test_the_demo_does_what_it_promises(home: Path) -> None:
    table = read_table(home / "demo/demo/trials.parquet").to_pandas()
    assert len(table) == table.config_key.nunique() >= 16
    assert (table.state == "complete").all()
    best = frontier_frame(home / "demo/demo")
    assert len(best) >= 4
    text = (home / "demo.out").read_text()
    test_accuracy = float(re.search(r"baseline (\d+\.\d+) %", text)[1])  # type: ignore[index]
    assert test_accuracy >= 97
    info = (home / "demo/demo/baseline/baseline.json").read_text()
    baseline = float(re.search(r'"accuracy": ([\d.]+)', info)[1])  # type: ignore[index]
    small = best[best.compression_ratio >= 8]
    assert (small.accuracy >= baseline - 0.02).any()
    assert (home / "demo/frontier.png").read_bytes().startswith(b"\x89PNG")
    assert len(re.findall(r"^  tune-app ", text, re.M)) == 3


@pytest.mark.ray
def test_the_commands_that_the_demo_proposes_run(home: Path, ray_address: str) -> None:
    proposed = re.findall(r"^  tune-app (.*)$", (home / "demo.out").read_text(), re.M)
    for line in proposed[:2]:  # the third one, a longer search, is in the README too
        tune_app(shlex.split(line), home, ray_address)
    assert shlex.split(proposed[2])[0] == "run"


@pytest.mark.ray
def test_the_commands_of_the_readme_run_in_order(home: Path, ray_address: str) -> None:
    found = commands("tune-app")
    assert len(found) >= 8
    for arguments in found:
        tune_app(arguments, home, ray_address)
    for path in ("frontier.svg", "p75_w2_a8/model.mbq", "p75_w2_a8/card.json"):
        assert (home / path).stat().st_size > 0


@pytest.mark.ray
def test_the_python_of_the_readme_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    [code] = blocks("python")
    exec(code, {})


def test_the_make_targets_of_the_readme_exist() -> None:
    for [target] in commands("make"):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
    assert ["test"] in commands("make")
    assert re.search(r"make (test|check)", (ROOT / ".ci/run").read_text())


def test_every_command_is_documented() -> None:
    names = set(get_command(app).commands)  # type: ignore[attr-defined]
    assert names == {arguments[0] for arguments in commands("tune-app")} | {"demo"}
    assert "tune-app demo" in README


def test_links_and_paths_exist() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_examples_are_valid(path: Path) -> None:
    assert load_spec(path).space.size > 0


def test_the_yaml_of_the_readme_is_part_of_a_valid_spec(tmp_path: Path) -> None:
    [fragment] = blocks("yaml")
    demo = (ROOT / "tune_app/demo.yaml").read_text()
    kept = demo.split("\nspace:")[0] + "\nbudget: {trials: 3}\n"
    (tmp_path / "spec.yaml").write_text(kept + fragment)
    assert load_spec(tmp_path / "spec.yaml").constraints


def test_project_files_name_no_package_index() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"https?://|file:|--index-url|--find-links", lock)
    assert "--hash=sha256:" in lock
    assert not (ROOT / "uv.lock").exists()
