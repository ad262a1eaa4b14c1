"""A search of which nothing is usable says so once, and its summary too."""

import io
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests.tune_app.factories import make_baseline_info, make_experiment, make_record, make_spec, store_baseline
from trainables.storage import replace
from tune_app.engine.engine import ReadySearch
from tune_app.engine.live_view import LiveView, Status
from tune_app.findings.at_chance import ENOUGH, collapse_notice
from tune_app.findings.summary import summarize
from tune_app.ledger.ledger import TrialRecord

BASELINE = make_baseline_info()
WHY = (
    "an accuracy of at most 15.00 % (chance of 10 classes: 10.00 %) is refused, theirs is 10.00 % to 10.07 %, "
    "the baseline's 95.00 %; a lower learning rate, wider bits or less pruning may help"
)


def at_chance(number: int, *, rung: str = "full", kind: str = "Collapsed") -> TrialRecord:
    """A refused trial; each has a ten-thousandth more."""
    params = {"prune_frac": 0.5, "w_bits": 2 + number, "a_bits": 8}
    about = {"kind": kind, "message": "at chance", "rung": rung}
    return make_record(number, params, 0.1 + number / 10_000, 60_000, "invalid", measured=kind == "Collapsed", **about)


def said(records: list[TrialRecord], tmp_path: Path, *, terminal: bool) -> str:
    """What is on standard error after these trials have ended one after the other."""
    shown, known = io.StringIO(), []
    spec = make_spec(tmp_path)
    view = LiveView(Status(spec), console=Console(file=shown, width=500, force_terminal=terminal))
    proposer = SimpleNamespace(records=known)
    search = ReadySearch(spec, None, None, proposer, BASELINE, view)  # type: ignore[arg-type]
    with view:
        for record in records:
            known.append(record)
            search.finished(record)
    return shown.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_the_first_trials_all_at_chance_are_told_once(terminal: bool, tmp_path: Path) -> None:
    records = [at_chance(i) for i in range(3 * ENOUGH)]
    notice = f"the first 8 trials that were measured are all at chance: {WHY}"
    assert said(records, tmp_path, terminal=terminal).count(notice) == 1
    before = said(records[: ENOUGH - 1], tmp_path, terminal=terminal)
    assert "trials that were measured" not in before


def test_one_usable_trial_is_enough_to_say_nothing(tmp_path: Path) -> None:
    records = [at_chance(i) for i in range(3 * ENOUGH)]
    records.insert(ENOUGH - 1, make_record(99, {"w_bits": 8}))
    assert "trials that were measured" not in said(records, tmp_path, terminal=False)


def test_trials_that_ended_otherwise_neither_count_nor_calm() -> None:
    diverged = [at_chance(100 + i, kind="Diverged") for i in range(ENOUGH)]
    refused = [at_chance(i) for i in range(ENOUGH)]
    assert collapse_notice([*diverged, *refused[:-1]], BASELINE) == ""
    assert collapse_notice([*diverged, *refused], BASELINE).endswith(WHY)


def test_the_way_out_is_that_of_the_baseline_or_of_the_rung() -> None:
    refused = [at_chance(i) for i in range(ENOUGH)]
    poor = make_baseline_info(0.12)
    assert collapse_notice(refused, poor).endswith("the baseline's 12.00 %; the baseline is no better: train it "
                                                   "longer, or check what it imports")  # fmt: skip
    short = [at_chance(i, rung="ptq") for i in range(ENOUGH)]
    assert collapse_notice(short, BASELINE).endswith("; wider bits, less pruning or a search without the rung ptq may "
                                                     "help")  # fmt: skip
    same = [refused[0]] * ENOUGH
    assert "theirs is 10.00 %, the" in collapse_notice(same, BASELINE)


def test_the_summary_finds_it(tmp_path: Path) -> None:
    for n, name in itertools.product((ENOUGH - 1, ENOUGH, ENOUGH + 2), ("refused", "with one usable")):
        records = [at_chance(i) for i in range(n)]
        if name != "refused":
            records.append(make_record(99, {"prune_frac": 0.0, "w_bits": 8, "a_bits": 8}))
        folder = make_experiment(tmp_path / f"{n} {name}", records)
        store_baseline(folder)
        found = [finding for finding in summarize(folder).findings if finding.kind == "collapse"]
        assert bool(found) == (n >= ENOUGH and name == "refused")
    folder = make_experiment(tmp_path / "document", [at_chance(i) for i in range(ENOUGH)])
    replace(folder.baseline_file, BASELINE.model_dump_json().encode())
    summary = summarize(folder)
    assert f"  all 8 trials that were measured are at chance: {WHY}" in summary.lines()
    document = json.loads(json.dumps(summary.document(), allow_nan=False))["findings"][0]
    assert (document["kind"], document["points"]) == ("collapse", ENOUGH)
    assert [document[name] for name in ("limit", "lowest", "highest")] == pytest.approx([0.15, 0.1, 0.1007])
