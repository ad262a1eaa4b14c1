"""The totals of an experiment that say how its frontier grew."""

from pathlib import Path

from tests.tune_app.factories import REFERENCE, make_record, make_spec
from tune_app.ledger.ledger import TrialRecord
from tune_app.search.strategy import OUTLOOK, Outlook
from tune_app.tables.totals import growth_lines, totals_of


def grown(*sizes: int) -> list[TrialRecord]:
    """Trials of one accuracy, in the order in which they were proposed; each trained for 1.5 s."""
    return [make_record(i, {"prune_frac": i / 10, "w_bits": 4, "a_bits": 8}, 0.9, size) for i, size in enumerate(sizes)]


def told(record: TrialRecord, growth: float) -> TrialRecord:
    attrs = {OUTLOOK: Outlook(growth=growth, training_s=90.0).model_dump()}
    return record.model_copy(update={"assignment": record.assignment.model_copy(update={"sampler_attrs": attrs})})


def test_a_search_is_settled_when_99_percent_of_its_volume_is_there(tmp_path: Path) -> None:
    spec, records = make_spec(tmp_path), grown(500_000, 100_000, 99_000, 98_000, 97_000)
    found = totals_of(records[::-1], spec, REFERENCE)
    assert found.settled is not None
    assert (found.settled.trials, found.settled.training_s) == (2, 3.0)
    assert growth_lines(found) == ["99 % of the hypervolume was there after 2 of 5 trials, and 3 s of training"]


def test_nothing_is_said_of_a_search_that_still_grows_or_has_no_volume(tmp_path: Path) -> None:
    spec = make_spec(tmp_path)
    for records, reference in ((grown(500_000, 100_000), REFERENCE), (grown(2_000_000), REFERENCE), (grown(9), None)):
        assert growth_lines(totals_of(records, spec, reference)) == []


def test_the_newest_trial_says_what_is_expected(tmp_path: Path) -> None:
    first, second, third = grown(500_000, 100_000, 50_000)
    found = totals_of([told(second, 0.0023), told(first, 0.5), third], make_spec(tmp_path), REFERENCE)
    assert growth_lines(found) == ["expected of the next 10 trials: 0.23 % more hypervolume for 1.5 min of training"]
    doubled = found.model_copy(update={"outlook": Outlook(growth=1.234, training_s=7200)})
    assert growth_lines(doubled) == ["expected of the next 10 trials: 123 % more hypervolume for 2.0 h of training"]
