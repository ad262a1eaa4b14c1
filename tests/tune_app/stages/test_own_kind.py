"""A kind of stage that only this file knows: one configuration and one handler, and a search runs it like ours."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from tests.specs import tiny_spec
from trainables.config import IMPORTANCE, STAGES, Schedule, StageConfig, stage_keys, stage_of_kind
from trainables.errors import ConfigError
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.train.loop import evaluate, fit
from tune_app.engine.in_process import InProcess
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger
from tune_app.report.contents import read_contents
from tune_app.report.curves import curves_info, draw_curves
from tune_app.run.search import run_search
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec, parse_spec
from tune_app.stages.epochs import epochs_by_stage, epochs_done
from tune_app.stages.plan import read_plan
from tune_app.stages.retention import collect, survey
from tune_app.tables.epochs import epoch_frame
from tune_app.tables.trials import read_table
from tune_app.tracking.hyperparameters import hyperparameters


class Shrink(StageConfig):
    """Multiply all weights of convolutions by a factor, then train them again."""

    SCHEDULE: ClassVar[str] = "again"
    AMOUNT: ClassVar[str] = "factor"
    TITLE: ClassVar[str] = "Shrinking"
    COLUMNS: ClassVar[dict[str, str]] = {"val_accuracy": "accuracy_shrunk", "weights_before": "weights_before"}
    kind: Literal["shrink"] = "shrink"
    factor: float
    rounds: int = 1
    criterion: str = "l1"
    again: Schedule

    @property
    def planned_epochs(self) -> int:
        return self.rounds * self.again.epochs

    def components(self) -> Iterable[tuple[object, str]]:  # type: ignore[override]
        yield IMPORTANCE, self.criterion


@run_stage.register
def _(config: Shrink, context: StageContext) -> StageResult:
    parent, model, history = context.parent, context.parent_model(), []
    before = float(sum(weight.detach().abs().sum() for weight in model.parameters()))
    for number in range(config.rounds):
        for weight in model.parameters():
            weight.data *= config.factor if weight.ndim == 4 else 1
        history += fit(model, config.again, context.phase(number))
    metrics = {"val_accuracy": evaluate(model, context.val), "weights_before": before, "of_no_column": 1.0}
    return StageResult(parent.architecture, None, model.state_dict(), metrics, history)


@pytest.fixture(scope="module", autouse=True)
def _known() -> Iterator[None]:
    STAGES.register("shrink")(Shrink)
    yield
    del STAGES._entries["shrink"]


AGAIN = {"epochs": 1, "lr": 0.02, "batch_size": 64}
SHRINK = {"kind": "shrink", "factor": 0.5, "rounds": 2, "again": AGAIN}


def own_spec(storage: Path, stage: object = SHRINK, trials: int = 2) -> ExperimentSpec:
    content = tiny_spec(storage).model_dump()
    content["base"] |= {"baseline": {"kind": "untrained", "model": {"width": 0.1}}, "prune": None}
    content["base"] |= {"quantize": {"kind": "ptq", "bn_images": 64}, "own_stages": [stage]}
    return ExperimentSpec.model_validate(
        {**content, "space": {"w_bits": [4, 6, 8], "a_bits": [8]}, "budget": {"trials": trials}}
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> ExperimentFolder:
    spec = own_spec(tmp_path_factory.mktemp("own"))
    assert run_search(spec, engine=InProcess()).why == "2 trials"
    return ExperimentFolder(spec.folder)


def test_its_trials_complete_and_share_the_stage(done: ExperimentFolder) -> None:
    records, damaged = Ledger(done.trials).read()
    assert ([record.state for record in records], damaged) == (["complete"] * 2, [])
    chains = [[(stage.kind, stage.cached) for stage in record.result.stages] for record in records]
    assert chains[0] == [("untrained", True), ("shrink", False), ("ptq", False)]
    assert chains[1] == [("untrained", True), ("shrink", True), ("ptq", False)]
    assert records[0].result.stages[1].metrics.keys() == {"val_accuracy", "weights_before"}


def test_its_measurements_and_seconds_are_columns(done: ExperimentFolder) -> None:
    table = read_table(done.path / "trials.parquet").to_pandas()
    assert (table.weights_before > 0).all()
    assert table.accuracy_shrunk.between(0, 1).all()
    assert (table.seconds_shrink > 0).all()


def test_its_epochs_are_in_the_table_of_epochs_and_in_progress(done: ExperimentFolder) -> None:
    frame, spec, baseline = epoch_frame(done.path), done.read_spec(), read_baseline(done)
    assert list(frame[frame.stage == "shrink"].epoch) == [1, 2]
    assert baseline is not None
    wanted = epochs_by_stage(spec.base, fingerprint=baseline.fingerprint)
    assert list(wanted.values()) == [0, 2, 0]
    key = stage_keys(spec.base, fingerprint=baseline.fingerprint)[1]
    assert epochs_done(done.stages, {key: wanted[key]}) == 2


def test_a_plan_knows_what_it_takes(done: ExperimentFolder) -> None:
    plan = read_plan(own_spec(done.path.parent, trials=3))
    [stage] = [stage for stage in plan.stages if stage.kind == "shrink"]
    assert (stage.rung, stage.distinct, stage.cached, stage.to_make) == ("", 1, 1, 0)
    assert stage.seconds_each is not None
    assert stage.seconds_each > 0


def test_its_curves_have_its_title(done: ExperimentFolder) -> None:
    info = curves_info(read_contents(done))
    assert list(info.kinds) == ["shrink"]
    assert [figure.title for figure in draw_curves(info)] == ["Shrinking"]


def test_the_cache_keeps_it_until_what_ends_trials_is_gone(done: ExperimentFolder) -> None:
    assert survey(done).kinds["shrink"].stages == 1
    gone = collect(done, max_bytes=0, dry_run=True).removed
    assert "shrink" not in {entry.kind for entry in gone}  # the frontier needs it


def test_a_spec_with_it_is_a_file(done: ExperimentFolder, tmp_path: Path) -> None:
    spec = own_spec(tmp_path)
    assert parse_spec(dump_spec(spec), source="x") == spec
    assert ExperimentSpec.model_validate_json(spec.model_dump_json()) == spec
    assert "own_stages" in done.spec_file.read_text()  # type: ignore[union-attr]
    assert "own_stages" not in dump_spec(tiny_spec(tmp_path))
    assert '"factor": 0.5' in str(hyperparameters(spec.base)["own_stages"])


def test_at_its_amount_of_nothing_it_is_left_out(tmp_path: Path) -> None:
    left_out = own_spec(tmp_path, SHRINK | {"factor": 0.0}).base
    assert [stage.kind for stage in left_out.stages()] == ["untrained", "ptq"]


WRONG = {
    "{kind: shrnk}": "unknown kind of stage 'shrnk'; known: .* Did you mean 'shrink'?",
    "{factor: 0.5}": "unknown kind of stage 'None'; known: ",
    "{kind: ptq}": "base.own_stages.0: ptq starts or ends a trial: give it as baseline or as quantize",
    "{kind: shrink, factor: x}": "base.own_stages.0.factor: must be a number",
    "{kind: shrink, facto: 1}": "unknown key 'base.own_stages.0.facto'",
    "3": "base.own_stages.0: must be a mapping: {key: value}",
}


@pytest.mark.parametrize("stage", WRONG)
def test_one_that_is_none_is_refused(stage: str, tmp_path: Path) -> None:
    text = dump_spec(tiny_spec(tmp_path)).replace("  baseline:", f"  own_stages: [{stage}]\n  baseline:", 1)
    with pytest.raises(ConfigError, match=WRONG[stage]):
        parse_spec(text, source="x")


def test_without_the_package_its_records_still_have_a_kind() -> None:
    forgotten = stage_of_kind("of_a_package_that_is_gone")
    assert (forgotten, forgotten.STARTS, forgotten.ENDS, dict(forgotten.COLUMNS)) == (StageConfig, False, False, {})
