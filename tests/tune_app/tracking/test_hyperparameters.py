"""Hyperparameters of a trial: everything that decides its result, flat, and nothing of where files lie."""

from pathlib import Path
from typing import Any

import pytest

from tests.tune_app.factories import make_record, make_spec
from tests.tune_app.search.test_ladder import make_laddered
from tests.tune_app.tracking.experiments import EPOCHS, POINT, make_tracked
from trainables.config import BaselineImport, BaselineTrain, DataConfig, Distillation, Schedule, TrialConfig
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tracking.hyperparameters import hyperparameters, trial_hyperparameters

SCHEDULE = Schedule(epochs=3, lr=0.1)


def config_of(tmp_path: Path, **changes: Any) -> TrialConfig:
    return make_spec(tmp_path).base.model_copy(update=changes)


def test_every_stage_has_its_schedule_and_the_parameters_are_put_in(tmp_path: Path) -> None:
    spec = make_tracked(tmp_path).read_spec()
    found = trial_hyperparameters(spec, make_record(3, POINT).assignment)
    assert (
        found.items()
        >= {
            "number": 3,
            "data.name": "digits",
            "data.image_size": 32,
            "baseline.model.name": "mobilenet_v2",
            "baseline.model.width": 1.0,
            "baseline.seed": 0,
            "baseline.schedule.epochs": EPOCHS["train"],
            "prune.prune_frac": 0.5,
            "prune.fine_tune.epochs": EPOCHS["channel_prune"],
            "prune.fine_tune.batch_size": 128,
            "quantize.kind": "qat",
            "quantize.scheme.w_bits": 4,
            "quantize.schedule.lr": 0.1,
            "quantize.schedule.weight_decay": 5e-4,
            "pack.coder": "auto",
        }.items()
    )
    assert all(isinstance(value, int | float | str) for value in found.values())


def test_a_rung_is_resolved_too(tmp_path: Path) -> None:
    spec = make_laddered(tmp_path)
    work = make_record(0, {"prune_frac": 0.3, "w_bits": 4, "a_bits": 8}, rung="ptq").assignment
    assert trial_hyperparameters(spec, work)["quantize.kind"] == "ptq"


def test_a_stage_that_is_left_out_says_nothing_but_that(tmp_path: Path) -> None:
    found = trial_hyperparameters(make_spec(tmp_path), make_record(0, {**POINT, "prune_frac": 0}).assignment)
    assert {name: value for name, value in found.items() if name.startswith("prune.")} == {"prune.prune_frac": 0.0}


def test_where_files_lie_is_told_to_nobody(tmp_path: Path) -> None:
    data = DataConfig(name="cifar10", root="/home/somebody/data", download=True)
    baseline = BaselineImport(kind="import", checkpoint="/home/somebody/net.pt", sha256="0" * 64)
    found = hyperparameters(config_of(tmp_path, data=data, baseline=baseline))
    assert "somebody" not in repr(found)
    assert (found["baseline.sha256"], "data.download" in found) == ("0" * 64, False)


def test_credentials_in_a_text_are_not_shown(tmp_path: Path) -> None:
    data = DataConfig().model_copy(update={"name": "s3://me:secret@host/images"})
    assert hyperparameters(config_of(tmp_path, data=data))["data.name"] == "s3://***@host/images"


def test_a_teacher_is_told_of_only_where_somebody_learns_from_it(tmp_path: Path) -> None:
    teacher = BaselineTrain(schedule=SCHEDULE)
    alone = config_of(tmp_path, teacher=teacher)
    learns = BaselineTrain(schedule=SCHEDULE.model_copy(update={"distill": Distillation()}))
    taught = config_of(tmp_path, teacher=teacher, baseline=learns)
    assert not [name for name in hyperparameters(alone) if name.startswith("teacher")]
    assert hyperparameters(taught)["teacher.schedule.epochs"] == 3
    assert hyperparameters(taught)["baseline.schedule.distill.temperature"] == 4.0


def test_lists_and_groups_are_flat_too(tmp_path: Path) -> None:
    base = make_tracked(tmp_path).read_spec().base
    scheme = base.quantize.scheme.model_copy(update={"w_bits_by_group": {"depthwise": 8}})
    quantize = base.quantize.model_copy(update={"scheme": scheme, "progressive_bits": (8, 5)})
    found = hyperparameters(base.model_copy(update={"quantize": quantize}))
    assert (found["quantize.progressive_bits"], found["quantize.scheme.w_bits_by_group.depthwise"]) == ("8, 5", 8)


@pytest.mark.parametrize("changes", [{"rung": "gone"}, {"params": {"w_bits": 9}}], ids=["rung", "values"])
def test_a_trial_that_the_spec_no_longer_knows_keeps_what_its_record_says(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    spec: ExperimentSpec = make_spec(tmp_path)
    work = make_record(0, POINT).assignment.model_copy(update=changes)
    found = trial_hyperparameters(spec, work)
    assert found.items() >= {**work.params, "rung": work.rung}.items()
    assert "data.name" not in found
