"""A list with nothing in it says so, in a sentence and with exit code 0."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result
from tests.tune_app.factories import make_experiment, store_baseline, tabulate


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frontier"], "no trial of the full schedule is complete and feasible yet"),
        (["frontier", "--all"], "no trial has finished yet"),
        (["frontier", "--trace"], "no trial of the full schedule has finished yet"),
        (["epochs"], "no stage with epochs has finished yet"),
        (["cache", "ls"], "no stage has finished yet"),
        (["summary"], "none yet"),
    ],
)
def test_an_empty_list_says_so(words: list[str], said: str, cli: Callable[..., Result], tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, [], tables=False)
    store_baseline(folder)
    tabulate(folder, [])
    done = cli(*words, folder.path)
    assert (done.code, said in done.out) == (0, True), done
