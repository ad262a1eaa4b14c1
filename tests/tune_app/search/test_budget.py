from pathlib import Path
from typing import Any

import pytest

from tests.tune_app.factories import REFERENCE, make_record, make_spec
from tests.tune_app.search.test_proposer import SPACE, closed_form, drive, open_proposer
from trainables.errors import State
from tune_app.errors import SearchAborted
from tune_app.search.budget import Spent, is_hopeless, is_stagnant, too_many_failures, why_stop
from tune_app.search.strategy import Outlook
from tune_app.spec.experiment import Budget, ExperimentSpec
from tune_app.spec.yaml_file import load_spec

RECIPES = Path(__file__).parents[3] / "examples/recipes"


def make_spent(spec: ExperimentSpec, *records: Any) -> Spent:
    return Spent(spec, REFERENCE, records)


@pytest.fixture
def spec(tmp_path: Path) -> ExperimentSpec:
    return make_spec(tmp_path, space=SPACE, budget={"trials": 100})


def test_nothing_is_spent_at_the_start(spec: ExperimentSpec) -> None:
    assert why_stop(make_spent(spec), Budget(trials=1), wall_s=1e9) == ""


@pytest.mark.parametrize(
    ("budget", "why"),
    [
        ({"trials": 3}, "3 trials"),
        ({"trials": 9, "wall_s": 50}, "60 s of wall time"),
        ({"trials": 9, "training_s": 4.5}, "4 s of training"),
        ({"trials": 9, "stagnation": {"trials": 1, "gain": 0.5}}, "the hypervolume grew by less than 50 % in 1 trials"),
        ({"trials": 4, "wall_s": 61, "training_s": 4.6, "stagnation": {"trials": 3}}, ""),
    ],
)
def test_the_first_part_of_the_budget_that_is_spent_is_named(
    budget: dict[str, Any], why: str, spec: ExperimentSpec
) -> None:
    spent = make_spent(spec, *(make_record(i, {"w_bits": i}, 0.9, 1000 + i) for i in range(3)))
    assert why_stop(spent, Budget.model_validate(budget), wall_s=60) == why


def test_rungs_cost_training_and_are_no_trials(spec: ExperimentSpec) -> None:
    spent = make_spent(spec, make_record(0, {"w_bits": 4}, rung="ptq"))
    assert (spent.trials, spent.finished, spent.training_s, spent.volumes) == (0, 1, 1.5, [])


def test_the_volume_counts_feasible_trials_alone(tmp_path: Path) -> None:
    spec = make_spec(tmp_path, constraints=["accuracy >= 0.5"])
    good, bad = make_record(0, {"w_bits": 4}, 0.6, 500_000), make_record(1, {"w_bits": 2}, 0.4, 100_000)
    failed = make_record(2, {"w_bits": 3}, state="invalid")
    assert make_spent(spec, good, bad, failed).volumes == pytest.approx([300_000.0] * 3)


@pytest.mark.parametrize(
    ("volumes", "expected"),
    [([1.0, 1.0], False), ([1.0, 1.0, 1.0], True), ([1.0, 1.0, 1.2], False), ([0.0, 0.0, 0.0], True), ([], False)],
)
def test_stagnation_looks_back_so_many_trials(volumes: list[float], expected: bool) -> None:
    assert is_stagnant(volumes, 2, 0.1) is expected


@pytest.mark.parametrize(
    ("growth", "training_s", "trials", "expected"),
    [
        (0.01, 3600, 10, False),
        (0.0099, 3600, 10, True),
        (0.005, 1800, 10, False),
        (0.0, 0.0, 10, True),
        (0.0, 60, 9, False),
    ],
)
def test_a_search_is_hopeless_where_an_hour_promises_too_little(
    growth: float, training_s: float, trials: int, expected: bool, spec: ExperimentSpec
) -> None:
    spent = make_spent(spec, *(make_record(i, {"w_bits": i}) for i in range(trials)))
    outlook = Outlook(growth=growth, training_s=training_s)
    assert is_hopeless(spent, Budget(trials=99, stop_below=0.01), outlook) is expected
    assert not is_hopeless(spent, Budget(trials=99), outlook)
    assert not is_hopeless(spent, Budget(trials=99, stop_below=0.01), None)


def test_a_few_failures_are_no_reason_to_stop(spec: ExperimentSpec) -> None:
    failed = [make_record(i, {"w_bits": i}, state="failed") for i in range(10)]
    assert not too_many_failures(make_spent(spec, *failed[:9]), Budget(trials=100))
    assert too_many_failures(make_spent(spec, *failed), Budget(trials=100))
    assert not too_many_failures(make_spent(spec, *failed), Budget(trials=100, failed_share=1))


@pytest.mark.parametrize("kind", ["Collapsed", "InfeasiblePoint"])
def test_answers_of_configurations_are_no_reason_to_stop(kind: str, spec: ExperimentSpec) -> None:
    answers = [make_record(i, {"w_bits": i}, state="invalid", kind=kind) for i in range(30)]
    assert not too_many_failures(make_spent(spec, *answers), Budget(trials=100))


@pytest.mark.parametrize(
    "kind", ["Diverged", "NotFinite", "ArtifactMismatch", "OutOfMemory", "WorkerLost", "UnexpectedError", "Later"]
)
def test_faults_among_answers_are_a_reason_to_stop(kind: str, spec: ExperimentSpec) -> None:
    answers = [make_record(i, {"w_bits": i}, state="invalid", kind="Collapsed") for i in range(5)]
    faults = [make_record(i, {"w_bits": i}, state="failed", kind=kind) for i in range(5, 11)]
    assert not too_many_failures(make_spent(spec, *answers, *faults[:5]), Budget(trials=100))
    assert too_many_failures(make_spent(spec, *answers, *faults), Budget(trials=100))


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("*seed_00*.yaml"))])
def test_a_recipe_whose_narrow_widths_collapse_runs_to_its_end(name: str) -> None:
    spec = load_spec(RECIPES / f"{name}.yaml")
    proposer, done = open_proposer(spec), 0
    while (work := proposer.next()) is not None:
        narrow = min(int(value) for param, value in work.params.items() if "_bits" in param)
        state: State = "invalid" if narrow <= 4 else "complete"
        record = make_record(done, work.params, 0.01, 1000 + done, state, kind="Collapsed", measured=True)
        proposer.tell(record.model_copy(update={"assignment": work}))
        done += 1
    assert done == spec.budget.trials


def test_the_message_of_a_search_that_ends_badly_names_a_fault(tmp_path: Path) -> None:
    proposer = open_proposer(make_spec(tmp_path, space=SPACE, budget={"trials": 50}))
    for i in range(21):
        work = proposer.next()
        assert work is not None
        fault = {"state": "failed", "kind": "OutOfMemory"} if i % 2 or i == 20 else {"state": "invalid"}
        record = make_record(i, work.params, **{"kind": "Collapsed", "message": "m", **fault})  # type: ignore[arg-type]
        proposer.tell(record.model_copy(update={"assignment": work}))
    with pytest.raises(SearchAborted, match=r"11 of 21 trials of 'toy' ended badly.*most often: OutOfMemory: m"):
        proposer.next()


def test_a_search_stops_when_its_time_is_over(tmp_path: Path) -> None:
    now = [0.0]
    spec = make_spec(tmp_path, space=SPACE, budget={"trials": 50, "wall_s": 10})
    proposer = open_proposer(spec, clock=lambda: now[0])
    first = proposer.next()
    assert first is not None
    now[0] = 11.0
    assert proposer.next() is None
    proposer.tell(closed_form(first))
    assert proposer.done == "11 s of wall time"


def test_a_search_stops_when_it_finds_nothing_more(tmp_path: Path) -> None:
    budget = {"trials": 100, "stagnation": {"trials": 10, "gain": 0.01}}
    proposer = open_proposer(make_spec(tmp_path, space=SPACE, budget=budget))
    done = drive(proposer)
    assert 10 < len(done) < 100
    assert proposer.done.startswith("the hypervolume grew by less than 1 %")


def test_a_search_ends_badly_when_most_trials_fail(tmp_path: Path) -> None:
    proposer = open_proposer(make_spec(tmp_path, space=SPACE, budget={"trials": 50}))
    for _ in range(10):
        work = proposer.next()
        assert work is not None
        proposer.tell(closed_form(work, state="invalid"))
    with pytest.raises(SearchAborted, match=r"10 of 10 trials of 'toy' ended badly.*Diverged: the loss became NaN"):
        proposer.next()
