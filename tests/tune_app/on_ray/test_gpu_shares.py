"""GPU shares follow what trials of the same rung took."""

import pytest

from tests.tune_app.factories import make_record
from tune_app.ledger.ledger import TrialRecord
from tune_app.on_ray.gpu_shares import MOST, Shares
from tune_app.spec.experiment import Resources


def took(number: int, *, peak: float | None = None, share: float = 1.0, out_of_memory: int = 0) -> TrialRecord:
    record = make_record(number, {"w_bits": number})
    return record.model_copy(update={"gpu_share": share, "gpu_peak_share": peak, "out_of_memory": out_of_memory})


def test_a_share_that_is_given_stays() -> None:
    shares = Shares(Resources(gpu=0.25), [took(0, peak=0.9, share=0.25)])
    assert shares.of("full") == 0.25


@pytest.mark.parametrize(
    ("peak", "trials"), [(0.01, MOST), (0.1, 8), (0.2, 4), (0.25, 3), (0.4, 2), (0.45, 1), (1.0, 1)]
)
def test_as_many_trials_as_memory_allows_with_a_margin(peak: float, trials: int) -> None:
    assert Shares(Resources(gpu="auto"), [took(0, peak=peak)]).of("full") == pytest.approx(1 / trials)


def test_the_first_trial_of_each_rung_has_a_gpu_of_its_own() -> None:
    shares = Shares(Resources(gpu="auto"), [took(0, peak=0.2)])
    assert (shares.of("full"), shares.of("short")) == (0.25, 1.0)


def test_the_largest_trial_decides() -> None:
    assert Shares(Resources(gpu="auto"), [took(i, peak=p) for i, p in enumerate([0.1, 0.3, 0.2])]).of("full") == 0.5


def test_without_a_measurement_a_trial_keeps_its_gpu() -> None:
    assert Shares(Resources(gpu="auto"), [took(0)]).of("full") == 1.0


@pytest.mark.parametrize("gpu", [0.25, "auto"])
def test_who_ran_out_of_memory_gets_twice_as_much_until_the_gpu_is_whole(gpu: float | str) -> None:
    shares = Shares(Resources(gpu=gpu), [took(0, peak=0.2, share=0.25)])
    found = [shares.of("full")]
    while shares.ran_out("full", found[-1]):
        found.append(shares.of("full"))
    assert found == [0.25, 0.5, 1.0]


def test_what_was_learned_survives_a_resume() -> None:
    shares = Shares(Resources(gpu=0.25), [took(0, share=0.5, out_of_memory=1)])
    assert (shares.of("full"), shares.of("short")) == (0.5, 0.25)


def test_a_trial_without_a_gpu_has_no_share_to_enlarge() -> None:
    assert not Shares(Resources(gpu=0)).ran_out("full", 0.0)
