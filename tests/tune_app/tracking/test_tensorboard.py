"""TensorBoard's event files, read back as TensorBoard reads them."""

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest

from tests.tune_app.factories import make_spec, make_untrained
from tests.tune_app.search.test_ladder import make_laddered
from tests.tune_app.tracking.experiments import EPOCHS, finish, make_tracked, png, publish, refuse, train, work_of
from tune_app.spec.trackers import TensorBoardConfig
from tune_app.tracking.hyperparameters import varied
from tune_app.tracking.overview import read_overview
from tune_app.tracking.places import open_memory, open_tracker
from tune_app.tracking.protocol import ConfusionMatrix, TrackerUnavailable
from tune_app.tracking.track import track

CONFIG = TensorBoardConfig()


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def text(found: Any, tag: str) -> str:
    return str(found.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode())


def started_with(found: Any) -> dict[str, Any]:
    """The hyperparameters of a run."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    start = plugin_data_pb2.HParamsPluginData()
    start.ParseFromString(found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content)
    return dict(start.session_start_info.hparams)


def columns(found: Any) -> tuple[list[str], list[str]]:
    """The columns of TensorBoard's table of hyperparameters: these, and what was measured."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    data = plugin_data_pb2.HParamsPluginData()
    data.ParseFromString(found.SummaryMetadata("_hparams_/experiment").plugin_data.content)
    return [info.name for info in data.experiment.hparam_infos], [
        info.name.tag for info in data.experiment.metric_infos
    ]


class FullDisk(io.BytesIO):
    """A file that takes what is written until it is sent to the disk."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("full", [False, True])
def test_files_that_cannot_be_written_are_an_error_of_ours(
    full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_tracked(tmp_path)
    finish(folder)
    place = tmp_path / "events"
    if full:
        from tensorboardX import record_writer

        monkeypatch.setattr(record_writer, "open_file", lambda path: FullDisk())
    else:
        place.write_text("a file")
    with pytest.raises(TrackerUnavailable, match=r"^TensorBoard's files cannot be written: \[Errno \d+\] \w+"):
        track(folder, TensorBoardConfig(folder=str(place)), confusion=False)
    assert not open_memory(folder, "tensorboard", str(place)).done()


def test_a_trial_is_one_folder_of_event_files(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    record = finish(folder)
    place = tmp_path / "toy" / "tracking" / "tensorboard"
    assert track(folder, CONFIG, confusion=False).destination == str(place)
    found = events(place / f"toy-{record.assignment.trial_id}")
    assert [event.step for event in found.Scalars("qat/loss")] == [6, 7, 8, 9]
    assert [event.value for event in found.Scalars("qat/loss")] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert [event.value for event in found.Scalars("accuracy")] == pytest.approx([0.9])
    assert "| sha256 | " in text(found, "trial")
    assert "model.mbq" in text(found, "trial")


def test_parameters_and_measurements_are_hyperparameters(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    record = finish(folder)
    track(folder, CONFIG, confusion=False)
    found = started_with(events(tmp_path / "toy" / "tracking" / "tensorboard" / f"toy-{record.assignment.trial_id}"))
    values = {name: value.number_value for name, value in found.items() if name != "state"}
    assert values == {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}
    assert found["state"].string_value == "complete"


def test_the_table_opens_with_what_varies_and_the_objectives(tmp_path: Path) -> None:
    """What never varies is in a text of the run alone; every run names all columns, also one that measured nothing."""
    folder = make_tracked(
        tmp_path,
        space={
            "prune_frac": [0, 0.5],
            "w_bits": [4],
            "a_bits": [4, 8],
            "importance": {"of": ["l1"], "when": {"a_bits": [4]}},
        },
        objectives={"accuracy": "maximize", "macs": "minimize"},
        repeats={"seeds": 2},
    )
    record = finish(folder)
    track(folder, CONFIG, confusion=False)
    found = events(tmp_path / "toy" / "tracking" / "tensorboard" / f"toy-{record.assignment.trial_id}")
    hparams, metrics = columns(found)
    assert hparams == ["prune_frac", "a_bits", "importance", "repeat", "state"]
    assert metrics[:4] == ["accuracy", "macs", "size_bytes", "compression_ratio"]
    assert set(metrics) <= set(found.Tags()["scalars"])
    assert "n" not in metrics
    lines = text(found, "configuration").splitlines()
    assert {"| w_bits | 4 |", "| baseline.schedule.lr | 0.1 |", "| experiment | toy |"} <= set(lines)


def test_a_rung_is_a_column_where_there_are_several(tmp_path: Path) -> None:
    point = {"prune_frac": 0.5, "w_bits": 4, "a_bits": 8}
    assert list(varied(make_laddered(tmp_path))) == ["prune_frac", "w_bits", "a_bits", "rung"]
    spec = make_spec(tmp_path, space={name: [value] for name, value in point.items()})
    assert varied(spec) == {}
    assert varied(spec.model_copy(update={"points": ({**point, "w_bits": 3},)})) == {"w_bits": 4}


def test_a_trial_that_was_refused_after_its_file_was_measured_shows_both(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    record = refuse(folder)
    track(folder, CONFIG, confusion=False)
    found = events(tmp_path / "toy" / "tracking" / "tensorboard" / f"toy-{record.assignment.trial_id}")
    assert [event.value for event in found.Scalars("accuracy")] == pytest.approx([0.1])
    assert started_with(found)["state"].string_value == "invalid"
    assert {"| state | invalid |", "| reason | Collapsed: at chance |"} <= set(text(found, "trial").splitlines())


def test_runs_and_tables_of_a_placeholder_say_so(tmp_path: Path) -> None:
    caveat = "untrained baseline: accuracies mean nothing"
    folder = make_untrained(tmp_path)
    place = Path(track(folder, CONFIG, confusion=False).destination)
    trial = next(path for path in place.iterdir() if path.name != "toy-summary")
    assert started_with(events(trial))["caveat"].string_value == caveat
    assert f"| caveat | {caveat} |" in text(events(trial), "trial").splitlines()
    shown = text(events(place / "toy-summary"), "frontier").splitlines()
    assert (shown[0], shown[2][:8]) == (f"**{caveat}**", "| label ")


def test_a_run_that_goes_on_adds_to_its_curves(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    publish(folder, work_of(), "train")
    train(folder, work_of(), "channel_prune", 1)
    track(folder, CONFIG, confusion=False)
    finish(folder)
    track(folder, CONFIG, confusion=False)
    place = tmp_path / "toy" / "tracking" / "tensorboard" / f"toy-{work_of().trial_id}"
    found = events(place)
    assert len(list(place.iterdir())) == 2
    steps = [event.step for kind in EPOCHS for event in found.Scalars(f"{kind}/loss")]
    assert steps == list(range(1, 10))


def test_the_overview_has_totals_and_tables(tmp_path: Path) -> None:
    folder = make_tracked(tmp_path)
    finish(folder)
    tracker, _ = open_tracker(TensorBoardConfig(folder=str(tmp_path / "board")), folder, fall_back=False)
    tracker.show(read_overview(folder, confusion=ConfusionMatrix("p50", ("cat", "dog"), ((5, 1), (2, 7)), png())))
    tracker.close()
    found = events(tmp_path / "board" / "toy-summary")
    assert [(event.step, event.value) for event in found.Scalars("frontier_points")] == [(1, 1)]
    assert text(found, "frontier").splitlines()[2].startswith("| p50_w4_a8 | 0.5 | 4 | 8 | 0.9 | 100000 |")
    assert text(found, "confusion matrix of p50").splitlines()[2:] == ["| cat | 5 | 1 |", "| dog | 2 | 7 |"]
    assert [(image.step, image.width, image.height) for image in found.Images("confusion_images")] == [(1, 4, 3)]
