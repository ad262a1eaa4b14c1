import hashlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import PlanRefused
from cluster.job import SubmitPlan
from cluster.working_dir import PACKAGES, pinned_requirements, runtime_env, stage
from tests.cluster.factories import make_job

UV = make_job(cluster={"dependencies": "uv"})


def make_plan(*packages: str) -> SubmitPlan:
    return SubmitPlan(
        backend="ray",
        submission_id="demo-1",
        entrypoint="python -m tune_app run spec.yaml",
        packages=packages,
        files={"spec.yaml": "name: demo\n"},
    )


def paths(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_with_an_image_only_the_spec_travels(tmp_path: Path) -> None:
    assert paths(stage(make_plan(), tmp_path / "job")) == {"spec.yaml"}
    assert runtime_env(make_job(), tmp_path) == {"working_dir": str(tmp_path)}


def test_a_staged_folder_runs_by_itself(tmp_path: Path) -> None:
    folder = stage(make_plan(*PACKAGES), tmp_path / "job")
    code = "import tune_app.spec.yaml_file as file, tune_app.cli.search as demo; demo.demo_spec(); print(file.__file__)"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(folder / "tune_app/spec/yaml_file.py")


def test_every_file_of_our_packages_travels(tmp_path: Path) -> None:
    """Without its templates a driver there could write no report."""
    root = Path(__file__).parents[2]
    here = {path.relative_to(root) for package in PACKAGES for path in (root / package).rglob("*") if path.is_file()}
    ours = {str(path) for path in here if "__pycache__" not in path.parts and not path.name.startswith("Dockerfile")}
    assert ours <= paths(stage(make_plan(*PACKAGES), tmp_path / "job"))


def test_packages_that_travel_say_their_version(tmp_path: Path) -> None:
    folder = stage(make_plan(*PACKAGES), tmp_path / "job")
    found = {dist.name: dist.version for dist in importlib.metadata.distributions(path=[str(folder)])}
    assert found == {"tune-app": importlib.metadata.version("tune-app")}


def test_data_results_and_caches_inside_a_package_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site/plugged_in"
    for name in ("__init__.py", "models/net.py", "spec.yaml"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    for name in ("data/train.npz", "__pycache__/net.cpython-311.pyc", ".env", "key.pem", "runs/trials.parquet"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    (tmp_path / "outside.py").write_text("")
    (package / "link.py").symlink_to(tmp_path / "outside.py")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    sent = paths(stage(make_plan("plugged_in"), tmp_path / "job"))
    assert {path for path in sent if ".dist-info/" not in path} == {
        "spec.yaml",
        "plugged_in/__init__.py",
        "plugged_in/models/net.py",
        "plugged_in/spec.yaml",
    }


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("")
    with pytest.raises(PlanRefused, match="is not empty: everything in it would be sent"):
        stage(make_plan(), tmp_path)
    assert paths(tmp_path) == {"private"}


def test_a_package_that_is_not_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanRefused, match="package no_such_package is not found"):
        stage(make_plan("no_such_package"), tmp_path / "job")


def test_with_uv_every_dependency_has_the_version_of_this_machine(tmp_path: Path) -> None:
    pins = dict(pin.split("==") for pin in pinned_requirements())
    assert pins["torch"] == importlib.metadata.version("torch").partition("+")[0]
    assert {"optuna", "pydantic", "ruamel-yaml"} <= pins.keys()
    assert runtime_env(UV, tmp_path)["uv"] == {"packages": list(pinned_requirements("s3"))}  # where its storage is


def test_ray_itself_is_left_to_the_cluster_and_extras_follow_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["ray[default,tune]>=2.56", "torch >=2.11", "numpy; python_version >= '3.11'"]
    extras = ['mypy>=1; extra == "dev"', "s3fs>=2026 ; extra == 's3'"]
    versions = {"torch": "2.15.0+cpu", "numpy": "2.4.6", "s3fs": "2026.9.0"}
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines + extras)
    monkeypatch.setattr(importlib.metadata, "version", versions.__getitem__)
    assert pinned_requirements() == ("numpy==2.4.6", "torch==2.15.0")
    assert pinned_requirements("s3") == ("numpy==2.4.6", "s3fs==2026.9.0", "torch==2.15.0")
    packages = {
        place: runtime_env(make_job(place, cluster={"dependencies": "uv"}), Path())["uv"]["packages"]
        for place in ("/mnt/runs", "s3://bucket/runs", "gs://bucket/runs")
    }
    assert [len(found) for found in packages.values()] == [2, 3, 2]


@pytest.mark.parametrize(
    ("tracking", "extras"),
    [("[{kind: wandb}, {kind: mlflow, uri: ''}]", ["mlflow"]), ("[{kind: wandb}]", []), ("[]", [])],
)
def test_what_a_tracker_needs_travels_too(tracking: str, extras: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f'{name}-library>=1; extra == "{name}"' for name in ("mlflow", "s3", "gcs")]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
    text = f"name: demo\ntracking: {tracking}\n"
    told = {"spec_text": text, "spec_sha256": hashlib.sha256(text.encode()).hexdigest()}
    env = runtime_env(make_job("s3://bucket/runs", cluster={"dependencies": "uv"}, **told), Path())
    assert env["uv"]["packages"] == [f"{name}-library==1.0" for name in sorted([*extras, "s3"])]


def test_dependencies_that_are_not_known_here_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    with pytest.raises(PlanRefused, match="needs tune-app installed here"):
        pinned_requirements()


def test_ray_accepts_the_runtime_environment(tmp_path: Path) -> None:
    from ray.runtime_env import RuntimeEnv

    env = RuntimeEnv(**runtime_env(UV, tmp_path))
    assert env["config"]["setup_timeout_seconds"] == 1800
    assert env["uv"]["packages"]


@pytest.mark.parametrize("name", ["WANDB_API_KEY"])
def test_values_of_forwarded_variables_are_not_in_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "hunter2")
    env = runtime_env(make_job(cluster={"env": [name], "dependencies": "uv"}), tmp_path)
    assert "hunter2" not in str(env)
