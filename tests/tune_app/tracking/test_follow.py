"""Each run and each epoch is shown once, whenever and however often somebody looks."""

from pathlib import Path

import pytest

from tests.tune_app.factories import make_experiment, make_untrained, rehearsal
from tests.tune_app.tracking.experiments import (
    EPOCHS,
    POINT,
    Notebook,
    begin,
    finish,
    make_tracked,
    publish,
    refuse,
    train,
    work_of,
)
from trainables.storage import StoragePath, read_bytes, remove, replace
from tune_app.ledger.folder import ExperimentFolder
from tune_app.tracking.follow import Follower
from tune_app.tracking.overview import read_overview
from tune_app.tracking.places import open_memory
from tune_app.tracking.protocol import ConfusionMatrix, TrackerUnavailable

ALL_STEPS = list(range(1, sum(EPOCHS.values()) + 1))
UNPRUNED = {"prune_frac": 0, "w_bits": 8, "a_bits": 8}


def follower(folder: ExperimentFolder, notebook: Notebook) -> Follower:
    return Follower(folder, notebook, open_memory(folder, "notebook", notebook.destination))


def test_a_finished_trial_is_a_run_with_its_curves_and_its_end(storage: StoragePath) -> None:
    folder, notebook = make_tracked(storage), Notebook()
    record = finish(folder)
    assert follower(folder, notebook).look() == 1
    (page,) = notebook.pages.values()
    assert page.info.run_id == f"toy-{record.assignment.trial_id}"
    assert (page.info.name, page.info.group, page.info.kind) == ("p50_w4_a8", "toy", "trial")
    own = {"experiment": "toy", "number": 0, "rung": "full", "repeat": 0, "seed": 0, "attempt": 1, **POINT}
    assert list(page.info.config.items())[: len(own)] == list(own.items())
    assert page.info.config["quantize.schedule.epochs"] == EPOCHS["qat"]
    assert page.steps == ALL_STEPS
    (end,) = page.ends
    assert end.state == "complete"
    assert end.metrics["accuracy"] == 0.9
    assert end.metrics["size/header"] == 100
    assert end.facts["stages_cached"] == "train"
    assert end.artifact is not None
    path = folder.artifacts / record.assignment.trial_id / "model.mbq"
    assert end.artifact.uri.endswith(str(path))
    assert read_bytes(path).startswith(b"packed")


def test_nothing_is_shown_twice(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook()
    finish(folder)
    first = follower(folder, notebook)
    assert (first.look(), first.look()) == (1, 0)
    first.close()
    second = follower(folder, notebook)
    assert second.look() == 0
    finish(folder, UNPRUNED, 1)
    assert second.look() == 1
    assert [(page.opened, len(page.ends), len(page.steps)) for page in notebook.pages.values()] == [
        (1, 1, 9),
        (1, 1, 7),
    ]


def test_epochs_are_shown_as_they_come(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook()
    publish(folder, work_of(), "train")
    publish(folder, work_of(), "channel_prune")
    watching = follower(folder, notebook)
    watching.look()
    assert notebook.pages == {}, "nobody said that the trial has begun"
    train(folder, work_of(), "qat", 1)
    watching.look()
    (page,) = notebook.pages.values()
    assert page.steps == ALL_STEPS[:6]
    watching.look()
    assert page.steps == ALL_STEPS[:6]
    train(folder, work_of(), "qat", 3)
    watching.look()
    assert page.steps == ALL_STEPS[:8]
    finish(folder)
    watching.look()
    assert page.steps == ALL_STEPS
    assert (page.opened, len(page.ends), page.left) == (1, 1, 0)


def test_a_search_that_was_interrupted_goes_on_in_the_same_run(storage: StoragePath) -> None:
    folder, notebook = make_tracked(storage), Notebook()
    publish(folder, work_of(), "train")
    train(folder, work_of(), "channel_prune", 1)
    first = follower(folder, notebook)
    first.look()
    first.close()
    finish(folder)
    follower(folder, notebook).look()
    (page,) = notebook.pages.values()
    assert page.steps == ALL_STEPS
    assert (page.opened, page.left, len(page.ends)) == (2, 1, 1)


def test_where_nothing_is_remembered_the_tracker_says_how_far_it_is(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook()
    finish(folder)
    follower(folder, notebook).look()
    (page,) = notebook.pages.values()
    page.last_step = 8
    replace(folder.tracking / "notebook.json", b"[1, 2")
    assert follower(folder, notebook).look() == 1
    assert page.steps == [*ALL_STEPS, 9]


def test_what_a_tracker_lost_is_shown_again(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook()
    train(folder, work_of(), "train", 3)
    follower(folder, notebook).look()
    (page,) = notebook.pages.values()
    page.last_step = 1
    finish(folder)
    follower(folder, notebook).look()
    assert page.steps == [1, 2, 3, *ALL_STEPS[1:]]


def test_a_tracker_that_nobody_watches_gets_runs_as_a_whole(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook(live=False)
    train(folder, work_of(), "train", 2)
    killed = follower(folder, notebook)
    killed.look()
    assert notebook.pages == {}
    follower(folder, notebook).close()
    (page,) = notebook.pages.values()
    assert (page.steps, page.left) == ([1, 2], 1)
    finish(folder)
    follower(folder, notebook).look()
    assert (page.steps, page.opened, len(page.ends)) == (ALL_STEPS, 2, 1)


def test_another_destination_is_shown_everything(tmp_path: Path) -> None:
    folder, notebook, other = make_tracked(tmp_path), Notebook(), Notebook(destination="elsewhere")
    finish(folder)
    assert follower(folder, notebook).look() == 1
    assert follower(folder, other).look() == 1
    assert follower(folder, notebook).look() == 0


def test_a_trial_without_a_result_says_why(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook()
    finish(folder, state="invalid", message="of s3://me:word@host/x")
    follower(folder, notebook).look()
    (page,) = notebook.pages.values()
    (end,) = page.ends
    assert (end.state, dict(end.metrics), end.artifact) == ("invalid", {}, None)
    assert end.facts["reason"] == "Diverged: of s3://***@host/x"


def test_a_trial_that_was_refused_after_its_file_was_measured_shows_both(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook()
    refuse(folder)
    follower(folder, notebook).look()
    (page,) = notebook.pages.values()
    (end,) = page.ends
    assert (end.state, end.facts["reason"], end.artifact) == ("invalid", "Collapsed: at chance", None)
    assert end.metrics.items() >= {"accuracy": 0.1, "size_bytes": 60_000, "size/header": 100}.items()


def test_runs_of_a_placeholder_and_of_a_rehearsal_carry_a_caveat_and_no_others(tmp_path: Path) -> None:
    caveats = []
    few = make_untrained(tmp_path / "few").read_spec().base.model_copy(update={"data": rehearsal(tmp_path).data})
    for folder in (
        make_untrained(tmp_path / "placeholder"),
        make_experiment(tmp_path / "trained"),
        make_experiment(tmp_path / "rehearsal", base=rehearsal(tmp_path)),
        make_experiment(tmp_path / "both", base=few),
    ):
        notebook = Notebook()
        watching = follower(folder, notebook)
        assert watching.look() == 6
        infos = [page.info for page in notebook.pages.values()] + [read_overview(folder).info]
        caveats.append({info.caveat for info in infos})
    untrained = "untrained baseline: accuracies mean nothing"
    short = "rehearsal: at most 5,000 images of each split (data.images)"
    assert caveats == [{untrained}, {""}, {short}, {f"{untrained}; {short}"}]


def test_a_trial_that_waits_for_a_worker_has_no_run(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook()
    publish(folder, work_of(), "train")
    begin(folder, work_of())
    replace(folder.in_flight_file, b"[]")
    follower(folder, notebook).look()
    assert notebook.pages == {}


def test_a_damaged_record_is_left_out(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook()
    finish(folder)
    replace(folder.trials / "0000000000000000-full-a1.json", b"{")
    watching = follower(folder, notebook)
    assert (watching.look(), watching.look()) == (1, 0)


def test_what_was_shown_before_a_tracker_stopped_is_remembered(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook(runs_left=1)
    finish(folder)
    finish(folder, UNPRUNED, 1)
    with pytest.raises(TrackerUnavailable):
        follower(folder, notebook).look()
    notebook.runs_left = 10
    assert follower(folder, notebook).look() == 1
    assert [len(page.ends) for page in notebook.pages.values()] == [1, 1]


def test_the_baseline_is_shown_once_when_it_is_made(storage: StoragePath) -> None:
    folder, notebook = make_tracked(storage), Notebook()
    made = read_bytes(folder.baseline_file)
    remove(folder.baseline_file)
    looking = follower(folder, notebook)
    looking.look()
    assert not notebook.baselines
    publish(folder, work_of(), "train")
    replace(folder.baseline_file, made)
    for _ in range(2):
        assert looking.look() == 0
    assert follower(folder, notebook).look() == 0
    (page,) = notebook.baselines.values()
    assert (page.info.run_id, page.info.name, page.info.kind) == ("toy-baseline", "baseline", "baseline")
    assert (page.steps, page.opened) == ([1, 2, 3], 1)
    assert page.epochs[0].values["train/loss"] == 1
    (end,) = page.ends
    assert (end.state, end.metrics["accuracy"], end.artifact) == ("complete", 0.95, None)
    assert not notebook.pages


def test_a_baseline_without_epochs_is_shown_with_what_it_measures(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook()
    follower(folder, notebook).look()
    (page,) = notebook.baselines.values()
    assert (page.steps, len(page.ends)) == ([], 1)


def test_many_records_are_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tune_app.tracking.follow.FEW", 1)
    folder, notebook = make_tracked(tmp_path), Notebook()
    finish(folder, UNPRUNED, 1)
    finish(folder, POINT, 0)
    assert follower(folder, notebook).look() == 2
    assert [page.info.config["number"] for page in notebook.pages.values()] == [0, 1]


def test_an_overview_is_shown_when_it_says_more(tmp_path: Path) -> None:
    folder, notebook = make_tracked(tmp_path), Notebook()
    finish(folder)
    watching = follower(folder, notebook)
    watching.show(read_overview(folder))
    watching.show(read_overview(folder))
    follower(folder, notebook).show(read_overview(folder))
    assert len(notebook.overviews) == 2, "a process that was killed may not have sent it"
    watching.close()
    follower(folder, notebook).show(read_overview(folder))
    assert len(notebook.overviews) == 2
    finish(folder, UNPRUNED, 1)
    watching.show(read_overview(folder))
    assert [len(overview.points) for overview in notebook.overviews] == [1, 1, 2]


def test_an_overview_is_shown_again_when_it_says_something_else_of_the_same_records(tmp_path: Path) -> None:
    """A failed trial that was tried again, then another bound."""
    folder, notebook = make_tracked(tmp_path), Notebook()
    finish(folder, state="failed")
    for change in ("retry", "bound", ""):
        watching = follower(folder, notebook)
        watching.show(read_overview(folder))
        watching.close()
        if change == "retry":
            finish(folder, attempt=2)
        elif change == "bound":
            spec = folder.read_spec()
            folder.store_spec(spec.model_validate({**spec.model_dump(), "constraints": ["accuracy >= 0.99"]}))
    assert [(o.records, o.totals["complete"], len(o.frontier)) for o in notebook.overviews] == [
        (1, 0, 0),
        (1, 1, 1),
        (1, 1, 0),
    ]
    steps = [overview.step for overview in notebook.overviews]
    assert steps == sorted({*steps}), "W&B takes no step twice"


def test_a_confusion_matrix_is_shown_after_all_else_and_once(tmp_path: Path) -> None:
    folder, notebook, matrix = make_tracked(tmp_path), Notebook(), ConfusionMatrix("p50", ("cat",), ((5,),))
    finish(folder)
    for confusion in (None, matrix, None, matrix):
        watching = follower(folder, notebook)
        watching.show(read_overview(folder, confusion=confusion))
        watching.close()
    assert [overview.confusion for overview in notebook.overviews] == [None, matrix]
