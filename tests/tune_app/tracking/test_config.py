"""`tracking:` of a spec: short forms, options, and no keys."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.tune_app.factories import make_spec
from trainables.errors import ConfigError
from tune_app.ledger.folder import ExperimentFolder
from tune_app.spec.trackers import KINDS, MlflowConfig, TensorBoardConfig, WandbConfig
from tune_app.spec.yaml_file import dump_spec, parse_spec, resolved

KEY = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("wandb", (WandbConfig(),)),
        (["wandb", "tensorboard"], (WandbConfig(), TensorBoardConfig())),
        ({"kind": "wandb", "mode": "offline"}, (WandbConfig(mode="offline"),)),
        ([{"kind": "mlflow", "uri": "http://h:5000"}, "wandb"], (MlflowConfig(uri="http://h:5000"), WandbConfig())),
        (MlflowConfig(), (MlflowConfig(),)),
        (None, ()),
        ([], ()),
    ],
)
def test_a_tracker_is_a_name_a_mapping_or_a_list(tmp_path: Path, written: Any, meant: Any) -> None:
    spec = make_spec(tmp_path, tracking=written)
    assert spec.tracking == meant
    assert parse_spec(dump_spec(spec), source="spec") == spec


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({"kind": "tensorboard", "folder": "tb"}, TensorBoardConfig(folder="HERE/tb")),
        ({"kind": "tensorboard", "folder": "~/tb"}, TensorBoardConfig(folder="HOME/tb")),
        ("tensorboard", TensorBoardConfig()),
        ({"kind": "mlflow", "uri": "sqlite:///my.db"}, MlflowConfig(uri="sqlite:///HERE/my.db")),
        ({"kind": "mlflow", "uri": "sqlite:///:memory:"}, MlflowConfig(uri="sqlite:///:memory:")),
        ({"kind": "mlflow", "uri": "http://h:5000"}, MlflowConfig(uri="http://h:5000")),
    ],
)
def test_files_of_a_tracker_lie_at_one_place_wherever_the_search_runs(
    written: Any, meant: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job has a working directory of its own, which Ray removes."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path))
    (config,) = resolved(make_spec(tmp_path, tracking=written)).tracking
    places = {"HERE": str(tmp_path / "here"), "HOME": str(tmp_path)}
    assert config == re_placed(meant, places)
    assert resolved(make_spec(tmp_path, tracking=config)).tracking == (config,)


def re_placed(config: Any, places: dict[str, str]) -> Any:
    text = config.model_dump_json()
    for name, place in places.items():
        text = text.replace(name, place)
    return type(config).model_validate_json(text)


def test_event_files_lie_in_no_object_store(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="folder is a folder of this machine, but got 's3://bucket/tb'"):
        make_spec(tmp_path, tracking={"kind": "tensorboard", "folder": "s3://bucket/tb"})


@pytest.mark.parametrize("kind", KINDS)
def test_every_tracker_has_defaults(tmp_path: Path, kind: str) -> None:
    (config,) = make_spec(tmp_path, tracking=kind).tracking
    assert (config.kind, type(config)) == (kind, KINDS[kind])


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("wanb", "unknown tracker 'wanb'; known: wandb, tensorboard, mlflow; did you mean 'wandb'?"),
        ([{"mode": "offline"}], "unknown tracker None; known: wandb, tensorboard, mlflow"),
        ([{"kind": []}], "unknown tracker []; known: wandb, tensorboard, mlflow"),
        (["wandb", {"kind": "wandb"}], "tracking: wandb is named twice: keep one of the two."),
        ({"kind": "wandb", "projct": "x"}, "unknown option 'projct'; did you mean 'project'?"),
        ({"kind": "wandb", "color": "x"}, "unknown option 'color'; known: kind, mode, project, entity, upload."),
        (
            {"kind": "wandb", "api_key": KEY},
            "tracking.wandb: a spec holds no keys: leave api_key out; run `wandb login` or set WANDB_API_KEY.",
        ),
        (
            {"kind": "mlflow", "password": "word"},
            "leave password out; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN.",
        ),
        ({"kind": "wandb", "project": KEY}, "tracking.wandb.project holds a W&B key: a spec holds no keys"),
        ({"kind": "mlflow", "uri": "http://me:word@h"}, "tracking.mlflow.uri holds a password in an address"),
    ],
)
def test_what_is_no_tracker_is_refused_and_not_repeated(tmp_path: Path, written: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_spec(tmp_path, tracking=written)
    assert message in str(caught.value)
    assert KEY not in str(caught.value)
    assert "word@" not in str(caught.value)


@pytest.mark.parametrize("written", ["{kind: wandb, mode: onlin}", "3", "[3]", "{kind: wandb, project: a/b}"])
def test_a_wrong_value_is_named_by_its_place(tmp_path: Path, written: str) -> None:
    text = dump_spec(make_spec(tmp_path)).replace("tracking: []", f"tracking: {written}")
    with pytest.raises(ConfigError, match=r"^spec: tracking"):
        parse_spec(text, source="spec")


def test_tracking_may_change_between_runs_of_an_experiment(tmp_path: Path) -> None:
    before, after = make_spec(tmp_path), make_spec(tmp_path, tracking="tensorboard")
    folder = ExperimentFolder(before.folder)
    assert folder.claim(before) == []
    assert folder.claim(after) == ["tracking: [] → [{kind: tensorboard, folder: ''}]"]
    assert folder.read_spec() == after
