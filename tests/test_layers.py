"""Imports point one way, and heavy packages have few homes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "trainables": {"trainables"},
    "search_spaces": {"search_spaces", "trainables"},
    "tune_app": {"tune_app", "search_spaces", "trainables", "cluster"},
    "cluster": {"cluster"},
}
STORAGE = {f"trainables/storage/{name}.py" for name in ("explain", "objects", "paths")}
# Where a heavy package may be imported at module level ("top") or at all ("any").
HOMES = {
    "torch": {"trainables"},
    "ray": {
        *(f"tune_app/{name}.py" for name in ("driver", "gauges", "on_ray", "probes", "searcher", "session", "worker")),
        "cluster/ray_jobs.py",
    },
    **dict.fromkeys(("upath", "fsspec", "s3fs", "gcsfs", "botocore"), STORAGE),
    "optuna": {
        "search_spaces/samplers.py",
        *(f"tune_app/{name}.py" for name in ("study", "optuna_export", "report/importance")),
    },
    "duckdb": {"tune_app/tables/query.py"},
    "matplotlib": {"tune_app/drawing/frontier_plot.py", "tune_app/drawing/sheet.py"},
    "wandb": {"tune_app/tracking/wandb_connection.py"},
    "tensorboardX": {"tune_app/tracking/tensorboard_tracker.py"},
    "mlflow": {"tune_app/tracking/mlflow_tracker.py"},
    "jinja2": {"tune_app/report/templates.py"},
    "kaleido": {"tune_app/report/images.py"},
    "xxhash": {"tune_app/tables/sealed_parquet.py"},
    "constriction": {"trainables/export/rans.py"},
    "onnx": {"trainables/export/onnx_nodes.py"},
    "ml_dtypes": {"trainables/export/onnx_nodes.py"},
    "onnxruntime": {"trainables/export/onnx_check.py", "trainables/export/latency.py"},
}
TORCH_FREE = [
    *(
        f"trainables/{name}.py"
        for name in ("class_names", "results", "errors", "registry", "stage_signs", "prune/groups")
    ),
    *(f"trainables/storage/{path.name}" for path in sorted((ROOT / "trainables/storage").glob("*.py"))),
    *(
        f"trainables/export/{name}.py"
        for name in ("bits", "coders", "entropy", "plain", "rans", "smooth", "streams", "zstd")
    ),
    *(f"trainables/config/{path.name}" for path in sorted((ROOT / "trainables/config").glob("*.py"))),
]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"no files in {package}"
    return found


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package: str) -> None:
    ours = set(ALLOWED)
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files(package)
        for name in imports(path)
        if name.partition(".")[0] in ours - ALLOWED[package]
    }
    assert not wrong


@pytest.mark.parametrize("heavy", HOMES)
def test_heavy_packages_stay_in_their_homes(heavy: str) -> None:
    homes = HOMES[heavy]
    wrong = {
        str(path.relative_to(ROOT))
        for package in ALLOWED
        for path in files(package)
        if any(name.partition(".")[0] == heavy for name in imports(path))
        and package not in homes
        and str(path.relative_to(ROOT)) not in homes
    }
    assert not wrong


@pytest.mark.parametrize("name", TORCH_FREE)
def test_torch_free_files_import_no_torch(name: str) -> None:
    assert not {i for i in imports(ROOT / name) if i.partition(".")[0] in {"torch", "torchvision", "safetensors"}}


def test_nothing_unpickles() -> None:
    """No pickle is read: torch.load only with weights_only=True, and no pickle module."""
    for package in ALLOWED:
        for path in files(package):
            assert not {"pickle", "cloudpickle", "joblib", "dill"} & set(imports(path)), path
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                    assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path
