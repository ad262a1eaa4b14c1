import dataclasses
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from tests.conftest import Result
from tests.specs import write_spec
from tests.tune_app.factories import REFERENCE, make_spec, store_baseline
from trainables import pipeline
from trainables.config import (
    BaselineImport,
    BaselineTrain,
    ChannelPrune,
    DataConfig,
    ModelConfig,
    PostTrainingQuant,
    Schedule,
)
from trainables.config.keys import stage_keys
from trainables.config.trial import TrialConfig
from trainables.costs.counts import count
from trainables.data.data_sets import DataSet, load_data
from trainables.errors import ConfigError, CorruptFile, OutOfMemory
from trainables.models.model import baseline_architecture, build
from trainables.results import METRICS, SCORES
from trainables.stages.saved_epochs import SavedEpoch, SavedEpochs
from trainables.stages.stage import StageResult, run_stage
from tune_app.engine.baseline import free_threads, make_baseline
from tune_app.ledger.baseline import BegunBaseline, ClassImages, read_baseline, read_begun_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.test_results import read_held_out
from tune_app.spec.experiment import ExperimentSpec, Resources
from tune_app.stages.baseline_so_far import baseline_so_far

MODEL = ModelConfig(width=0.25)


def few_digits() -> DataSet:
    data = load_data(DataConfig(name="digits", image_size=8))
    place = np.arange(100)
    return dataclasses.replace(data, train=data.train.take(place), val=data.val.take(place[:50]))


def narrow_spec(tmp_path: Path) -> ExperimentSpec:
    schedule = Schedule(epochs=1, lr=0.1, batch_size=50)
    base = TrialConfig(
        data=DataConfig(name="digits", image_size=8),
        baseline=BaselineTrain(model=MODEL, schedule=schedule),
        prune=ChannelPrune(fine_tune=schedule),
        quantize=PostTrainingQuant(),
    )
    return make_spec(tmp_path, base=base)


def test_the_reference_is_the_float_network_at_chance(tmp_path: Path) -> None:
    spec, data = narrow_spec(tmp_path), few_digits()
    info = make_baseline(spec, data)
    architecture = baseline_architecture(MODEL, data)
    counts = count(build(architecture), architecture)
    assert info.reference(spec) == {
        **dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), 0.1),
        "top5_accuracy": 0.5,
        "cross_entropy": pytest.approx(math.log(10)),
        "size_bytes": 4.0 * info.parameters,
        "compression_ratio": 1.0,
        "parameters": info.parameters,
        "macs": counts.macs,
        "bops": 32 * 32 * counts.macs,
        "activation_bytes": counts.activation_bytes,
        "peak_activation_bytes": counts.peak_activation_bytes,
        "sparsity_achieved": 0.0,
    }
    own = spec.model_copy(update={"reference": {"accuracy": 0.9}})
    assert info.reference(own) == {**info.reference(spec), "accuracy": 0.9}
    folder = ExperimentFolder(spec.folder)
    assert read_baseline(folder) == info == make_baseline(spec, data)
    folder.baseline_file.write_text(info.model_dump_json(exclude={"macs"}))
    with pytest.raises(CorruptFile, match="delete it"):
        read_baseline(folder)


def test_a_baseline_is_made_again_with_the_threads_that_it_was_made_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, data, seen = narrow_spec(tmp_path), few_digits(), []
    monkeypatch.setattr(pipeline, "run_stage", lambda *args: seen.append(torch.get_num_threads()) or run_stage(*args))
    info = make_baseline(spec, data, threads=3)
    folder = ExperimentFolder(spec.folder)
    assert (info.threads, seen) == (3, [3])
    shutil.rmtree(folder.stages)
    make_baseline(spec, data, threads=2)  # a machine with other cores
    shutil.rmtree(folder.stages)
    older = info.model_dump_json(exclude={"threads"})
    folder.baseline_file.write_text(older)
    make_baseline(spec, data, threads=2)
    assert seen == [3, 3, 1]
    own = spec.model_copy(update={"name": "own", "resources": Resources(cpu=1, baseline_cpu=4)})
    assert make_baseline(own, data, threads=2).threads == 4
    assert make_baseline(spec.model_copy(update={"name": "none"}), data).threads == 1


def test_too_little_memory_for_the_baseline_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, data = narrow_spec(tmp_path), few_digits()

    def full(*args: object) -> StageResult:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(pipeline, "run_stage", full)
    with pytest.raises(OutOfMemory, match="smaller batch_size"):
        make_baseline(spec, data)
    assert read_baseline(ExperimentFolder(spec.folder)) is None


def test_a_baseline_that_was_killed_goes_on_with_the_threads_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, data, seen = narrow_spec(tmp_path), few_digits(), []

    def killed(*args: object) -> StageResult:
        seen.append(torch.get_num_threads())
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run_stage", killed)
    for threads in (3, 2):
        with pytest.raises(KeyboardInterrupt):
            make_baseline(spec, data, threads=threads)
    begun = read_begun_baseline(ExperimentFolder(spec.folder))
    key = stage_keys(spec.base, fingerprint=data.fingerprint)[0]
    assert begun == BegunBaseline(threads=3, cores=os.cpu_count(), key=key)
    own = spec.model_copy(update={"resources": Resources(cpu=1, baseline_cpu=1)})
    with pytest.raises(KeyboardInterrupt):
        make_baseline(own, data, threads=2)
    assert seen == [3, 3, 1]
    monkeypatch.setattr(pipeline, "run_stage", run_stage)
    assert make_baseline(spec, data, threads=2).threads == 3
    file = ExperimentFolder(spec.folder).baseline_threads_file
    ExperimentFolder(spec.folder).baseline_file.unlink()
    whole = file.read_text()
    file.write_text("3\n")  # as an older version wrote it
    assert make_baseline(spec, data, threads=2).threads == 3
    ExperimentFolder(spec.folder).baseline_file.unlink()
    for damaged in ("three", "0\n", whole.replace(": 3", ": 2")):
        file.write_text(damaged)
        with pytest.raises(CorruptFile, match=r"threads\.json is damaged: delete it"):
            make_baseline(spec, data, threads=2)


@pytest.mark.parametrize("asked", [None, 2])
def test_what_is_shown_of_a_baseline_that_trains_is_of_the_one_that_trains(
    asked: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, data = narrow_spec(tmp_path), few_digits()
    spec = spec.model_copy(update={"resources": Resources(cpu=1, baseline_cpu=asked)})
    folder = ExperimentFolder(spec.folder)
    mended = dataclasses.replace(data, fingerprint="0" * 64)  # somebody stopped it, and corrected a label

    def killed(*_: object) -> StageResult:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run_stage", killed)
    for trains, threads in ((data, 3), (mended, 1)):
        with pytest.raises(KeyboardInterrupt):
            make_baseline(spec, trains, threads=threads)
        key = stage_keys(spec.base, fingerprint=trains.fingerprint)[0]
        SavedEpochs(folder.stages / "progress" / key).save(SavedEpoch({"a": torch.zeros(1)}, [{"val_accuracy": 0.5}]))
        found = baseline_so_far(folder, spec)
        assert found is not None
        assert (found.epochs, found.accuracy, found.threads) == (1, 0.5, asked or threads)
    fixed = spec.model_copy(update={"resources": Resources(cpu=1, baseline_cpu=5)})
    assert (found := baseline_so_far(folder, fixed)) is not None
    assert found.threads == 5


READERS: dict[str, Callable[[ExperimentFolder], object]] = {
    "baseline/baseline.json": read_baseline,
    "baseline/threads.json": read_begun_baseline,
    "baseline/test.json": lambda folder: read_held_out(folder.path / "baseline"),
}


@pytest.mark.parametrize("name", READERS)
def test_what_stands_in_the_place_of_a_note_is_damage(name: str, tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path)
    assert READERS[name](folder) is None
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(CorruptFile, match=rf"{name} is damaged: delete it"):
        READERS[name](folder)
    shutil.rmtree(tmp_path / "baseline")
    (tmp_path / "baseline").touch()
    with pytest.raises(CorruptFile, match=rf"{name} is damaged: delete it"):
        READERS[name](folder)


def test_a_new_baseline_has_all_cores_where_a_look_finds_the_machine_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: looks.pop(0))
    spec = narrow_spec(tmp_path)
    looks[:] = [90.0, 3.0, 90.0]
    assert free_threads(spec, 8.0) == 8
    assert looks == [90.0]
    looks[:] = [50.0, 40.0, 30.0, 26.0, 0.0]
    assert free_threads(spec, 8.0) is None
    assert looks == [0.0]
    fixed = spec.model_copy(update={"resources": Resources(cpu=1, baseline_cpu=2)})
    assert free_threads(fixed, 8.0) is None
    store_baseline(ExperimentFolder(spec.folder))
    assert free_threads(spec, 8.0) is None
    assert looks == [0.0]


def test_an_objective_without_a_value_is_refused_before_the_baseline_is_made(tmp_path: Path) -> None:
    spec = narrow_spec(tmp_path).model_copy(update={"objectives": {"top5_accuracy": "maximize"}})
    with pytest.raises(ConfigError, match=r"needs more than 5 classes, but 'digits' has 5: take accuracy or balanced"):
        make_baseline(spec, dataclasses.replace(few_digits(), classes=5))
    assert not ExperimentFolder(spec.folder).path.exists()


def test_the_baseline_has_every_score_and_an_older_one_is_read(tmp_path: Path) -> None:
    spec = narrow_spec(tmp_path)
    info = make_baseline(spec, few_digits())
    assert info.metrics().keys() == METRICS.keys()
    older = info.model_dump_json(exclude=set(SCORES[1:]))
    ExperimentFolder(spec.folder).baseline_file.write_text(older)
    found = read_baseline(ExperimentFolder(spec.folder))
    assert found is not None
    assert METRICS.keys() - found.metrics().keys() == set(SCORES[1:])
    assert found.reference(spec) == info.reference(spec)


def test_the_largest_and_the_smallest_class_are_told(tmp_path: Path) -> None:
    spec, data = narrow_spec(tmp_path), few_digits()
    counts = [4, 4, 4, 2, 4, 4, 4, 9, 4, 4]
    place = np.concatenate([np.flatnonzero(data.train.labels == i)[:count] for i, count in enumerate(counts)])
    info = make_baseline(spec, dataclasses.replace(data, train=data.train.take(place), names=tuple("abcdefghij")))
    assert info.largest_class == ClassImages(name="h", images=9)
    assert info.smallest_class == ClassImages(name="d", images=2)
    assert read_baseline(ExperimentFolder(spec.folder)) == info


def test_an_import_tells_which_names_were_matched(tmp_path: Path, cli: Callable[..., Result]) -> None:
    spec, data = narrow_spec(tmp_path), few_digits()
    state = build(baseline_architecture(MODEL, data)).state_dict()
    told = {}
    for name, tensors in {"own": state, "other": {f"x{n}": t for n, t in state.items()}}.items():
        torch.save(tensors, tmp_path / f"{name}.pt")
        config = BaselineImport(kind="import", model=MODEL, checkpoint=str(tmp_path / f"{name}.pt"))
        base = spec.base.model_copy(update={"baseline": config})
        own = spec.model_copy(update={"base": base, "name": name})
        info = make_baseline(own, data)
        told[name] = cli("baseline", write_spec(tmp_path / f"{name}.yaml", own)).out
        assert info == read_baseline(ExperimentFolder(own.folder))
    assert "matched" not in told["own"]
    assert "xstem.layer.weight is stem.layer.weight, ..., xclassifier" in told["other"]
    assert "Check that the accuracy" in told["other"]
    assert "accuracy" in told["other"].splitlines()[0]


def test_the_reference_of_these_tests_has_every_metric() -> None:
    assert set(REFERENCE) == set(METRICS)
