"""A name that no disk takes is bad input, said in one line before any work."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.tune_app.factories import make_experiment, store_baseline, store_files
from tune_app.ledger.folder import ExperimentFolder

Cli = Callable[..., Result]
LONG = "n" * 300


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    made = store_files(make_experiment(tmp_path))
    store_baseline(made)
    return made


@pytest.mark.parametrize(
    "words",
    [
        ["plot", "EXPERIMENT", "--output", f"{LONG}.png"],
        ["report", "EXPERIMENT", "--output", f"{LONG}.html"],
        ["report", "EXPERIMENT", "--figures", LONG],
        ["export", "EXPERIMENT", "p0_w8_a8", "--output", LONG],
        ["failures", "EXPERIMENT", "p0_w8_a8", "--output", LONG],
        ["reproduce", "EXPERIMENT", "p0_w8_a8", "--output", LONG],
        ["frontier", "EXPERIMENT", "--parquet", f"{LONG}.parquet"],
        ["epochs", "EXPERIMENT", "--parquet", f"{LONG}.parquet"],
        ["optuna", "EXPERIMENT", "--output", f"{LONG}.log"],
        ["demo", "--folder", LONG],
        ["run", f"{LONG}.yaml"],
        ["summary", LONG],
        ["inspect", f"{LONG}.mbq"],
        ["pick", "EXPERIMENT", "--where", f"label = '{LONG}'"],
    ],
    ids=lambda words: words[0] if words[0] != "report" else words[2],
)
def test_a_name_of_300_characters_is_refused_in_one_line(
    words: list[str], folder: ExperimentFolder, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(*[str(folder.path) if word == "EXPERIMENT" else word for word in words])
    assert done.code == 2, done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
