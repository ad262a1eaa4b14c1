"""The folder that travels with a job, and the runtime environment that Ray makes from it."""

import importlib.metadata
import importlib.util
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cluster.config import ClusterConfig
from cluster.errors import FolderUnwritable, PlanRefused
from cluster.job import JobSpec, SubmitPlan

PACKAGES = ("cluster", "search_spaces", "trainables", "tune_app")
# What our packages consist of. Anything else below them is data, results or a cache, and stays here.
SUFFIXES = {".py", ".toml", ".yaml", ".j2", ".css", ".js"}
EXTRAS = {"s3": "s3", "gs": "gcs", "mlflow": "mlflow"}
"""The extra of tune-app that an object store's kind of URI, or a kind of tracker, needs."""
INSTALL_TIMEOUT_S = 1800
"""Seconds for the installation on a node: torch and its CUDA libraries are gigabytes, and Ray's own limit is 600 s."""


def runtime_env(job: JobSpec, folder: Path) -> dict[str, Any]:
    """Returns Ray's runtime environment of the driver and, inherited, of its trials.

    Values of `cluster.env` are not in it: who sends the job adds them as `env_vars`, after it was printed.

    Raises:
        PlanRefused: tune-app is not installed here, so that its dependencies are unknown.
    """
    env: dict[str, Any] = {"working_dir": str(folder)}
    if job.cluster.dependencies == "uv":
        env["uv"] = {"packages": list(pinned_requirements(*_extras(job)))}
        env["config"] = {"setup_timeout_seconds": INSTALL_TIMEOUT_S}
    return env


def sent_packages(config: ClusterConfig) -> tuple[str, ...]:
    """Returns our packages that the working directory must bring: none when the image holds them."""
    return PACKAGES if config.dependencies == "uv" else ()


def pinned_requirements(*extras: str) -> tuple[str, ...]:
    """Returns our direct dependencies and those of extras, in the versions installed here; Ray is the cluster's.

    Raises:
        PlanRefused: tune-app, or one of them, is not installed here.
    """
    try:
        wanted = importlib.metadata.requires("tune-app") or []
        names = {name for line in wanted if (name := _requirement(line, extras)) and name != "ray"}
        # A local version such as 2.15.0+cpu is on no index.
        return tuple(sorted(f"{name}=={importlib.metadata.version(name).partition('+')[0]}" for name in names))
    except importlib.metadata.PackageNotFoundError as err:
        raise PlanRefused(
            f"dependencies: uv needs {err.name} installed here, to send its version: run make, or choose an image."
        ) from err


def write_files(plan: SubmitPlan, folder: Path) -> list[Path]:
    """Writes the plan's files into a folder, where `plan.commands` are run; raises FolderUnwritable if that fails."""
    written = []
    try:
        for name, text in plan.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            written.append(path)
    except OSError as err:
        raise FolderUnwritable(f"cannot write {folder}: {err.strerror}. Choose another folder.") from err
    return written


def stage(plan: SubmitPlan, folder: Path) -> Path:
    """Fills a new folder with what the job needs there: the plan's files and, if they travel, our packages.

    Raises:
        PlanRefused: the folder holds something already, or a package is not found.
    """
    if folder.exists() and any(folder.iterdir()):
        raise PlanRefused(f"{folder} is not empty: everything in it would be sent; name a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_files(plan, folder)
    for package in plan.packages:
        _copy_package(package, folder)
    if plan.packages:  # with metadata, nodes know which version they run as if the packages were installed
        version = importlib.metadata.version("tune-app")
        path = folder / f"tune_app-{version}.dist-info" / "METADATA"
        path.parent.mkdir()
        path.write_text(f"Metadata-Version: 2.1\nName: tune-app\nVersion: {version}\n", "utf-8")
    return folder


def _copy_package(name: str, folder: Path) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise PlanRefused(f"package {name} is not found on this machine: run make, or choose an image.")
    source = Path(spec.submodule_search_locations[0])
    for path in sorted(source.rglob("*")):
        if path.suffix in SUFFIXES and path.is_file() and not path.is_symlink():
            target = folder / name / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _extras(job: JobSpec) -> list[str]:
    """Returns the extras that the job needs where it runs."""
    content = YAML(typ="safe").load(job.spec_text)
    kinds = [tracker["kind"] for tracker in content.get("tracking") or ()]
    return [EXTRAS[kind] for kind in (job.storage.partition("://")[0], *kinds) if kind in EXTRAS]


def _requirement(line: str, extras: Collection[str]) -> str:
    """Returns the name in a requirement such as `ray[tune]>=2.56`; nothing if it is of another extra."""
    match = re.match(r"[A-Za-z0-9._-]+", line)
    of_extra = re.search(r"extra == [\"'](.+?)[\"']", line)
    return match[0] if match and (of_extra is None or of_extra[1] in extras) else ""
