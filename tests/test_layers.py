"""Imports point one way: between packages, between the rooms of a package, and to heavy packages, which have few homes.

A room is a folder or a file directly below a package.
"""

import ast
import shutil
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ALLOWED = {
    "trainables": {"trainables"},
    "search_spaces": {"search_spaces", "trainables"},
    "tune_app": {"tune_app", "search_spaces", "trainables", "cluster"},
    "cluster": {"cluster"},
}
ROOMS = {
    "trainables": """
        arithmetic, errors, printable; quantities, registry, storage; config; results, device, graph; data; models;
        stages; train; prune; quant; costs; export;
        ptq, sensitivity, baseline, network_file, network_check, measure; pipeline; testing
    """,
    "search_spaces": "parameters, presets, rungs; counting; space; samplers",
    "tune_app": """
        errors; terminal, spec; start, ledger; frontier; stages, surrogates; search; tables; findings; drawing;
        engine, report; on_ray, artifacts; mistakes; tracking; run; api, cli; __init__, __main__
    """,
    "cluster": """
        credentials, errors, names, yaml_text; config, local_cluster; demo, image, job, launchable; __init__;
        placement, pods, working_dir; kuberay, launcher, local, ray_jobs; aws, gcp
    """,
}
"""By package its rooms, floor by floor from the ground up: a room imports itself and rooms of lower floors alone."""
TABLES = {"trainables/config/plugins.py", "search_spaces/samplers.py", "cluster/__init__.py"}
"""Files whose "module:name" strings may point anywhere: tables of what is imported on use."""
STORAGE = {f"trainables/storage/{name}.py" for name in ("explain", "objects", "paths")}
HOMES = {
    "torch": {"trainables"},
    "ray": {"tune_app/on_ray", "cluster/ray_jobs.py"},
    **dict.fromkeys(("upath", "fsspec", "s3fs", "gcsfs", "botocore"), STORAGE),
    "optuna": {
        "search_spaces/samplers.py",
        "tune_app/search/study.py",
        "tune_app/tracking/optuna_journal.py",
        "tune_app/report/importance.py",
    },
    "duckdb": {"tune_app/tables/query.py"},
    "matplotlib": {"tune_app/drawing"},
    "wandb": {"tune_app/tracking/wandb_connection.py"},
    "tensorboardX": {"tune_app/tracking/tensorboard_tracker.py"},
    "mlflow": {"tune_app/tracking/mlflow_tracker.py"},
    "jinja2": {"tune_app/report/templates.py", "tune_app/start/first_search.py"},
    "kaleido": {"tune_app/report/images.py"},
    "xxhash": {"tune_app/tables/sealed_parquet.py"},
    "constriction": {"trainables/export/coders/rans.py"},
    "onnx": {"trainables/export/onnx/nodes.py"},
    "ml_dtypes": {"trainables/export/onnx/nodes.py"},
    "onnxruntime": {"trainables/export/onnx/check.py", "trainables/export/onnx/latency.py"},
}
"""Where a heavy package may be imported: packages, rooms and files."""
TORCH_FREE = [
    *(f"trainables/{name}.py" for name in ("results", "errors", "printable", "quantities", "registry", "arithmetic")),
    *("trainables/data/class_names.py", "trainables/data/decoding/resize.py"),
    *("trainables/stages/markers.py", "trainables/graph/graph.py"),
    *(
        f"trainables/export/coders/{name}.py"
        for name in ("bits", "coder", "entropy", "plain", "rans", "smooth", "streams", "zstd")
    ),
    *(
        f"trainables/{room}/{path.name}"
        for room in ("storage", "config")
        for path in sorted((ROOT / "trainables" / room).glob("*.py"))
    ),
]


def imports(path: Path) -> frozenset[str]:
    """The modules that a file imports anywhere: at its top, inside functions, for type checking."""
    return modules(path.read_text())[0]


def named(path: Path) -> frozenset[str]:
    """The modules in a file's "module:name" strings."""
    return modules(path.read_text())[1]


@cache
def modules(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """What a text of Python imports, and the modules in its "module:name" strings; each text is parsed once."""
    imported, written = set(), set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            module, _, name = node.value.partition(":")
            if name.isidentifier() and all(part.isidentifier() for part in module.split(".")):
                written.add(module)
    return frozenset(imported), frozenset(written)


def files(package: str, root: Path = ROOT) -> list[Path]:
    found = sorted((root / package).rglob("*.py"))
    assert found, f"no files in {package}"
    return found


def floors(package: str) -> dict[str, int]:
    """By room the number of its floor."""
    listed = [[room.strip() for room in floor.split(",")] for floor in ROOMS[package].split(";")]
    return {room: number for number, rooms in enumerate(listed) for room in rooms}


def arrows(package: str, root: Path = ROOT) -> set[tuple[str, str, str]]:
    """(file, its room, a room that it imports), for every import of another room of its package."""
    found = set()
    for path in files(package, root):
        here = path.relative_to(root)
        room = Path(here.parts[1]).stem
        used = [*imports(path), *(() if str(here) in TABLES else named(path))]
        for parts in (module.split(".") for module in used):
            if parts[0] == package and len(parts) > 1:
                is_room = any((root / package / f"{parts[1]}{end}").exists() for end in ("", ".py"))
                other = parts[1] if is_room else "__init__"
                found |= {(str(here), room, other)} if other != room else set()
    return found


def upward(package: str, root: Path = ROOT) -> set[str]:
    """The imports that do not lead to a lower floor."""
    floor = floors(package)
    return {f"{path}: {other}" for path, room, other in arrows(package, root) if floor[room] <= floor.get(other, -1)}


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_one_way(package: str) -> None:
    foreign = set(ALLOWED) - ALLOWED[package]
    wrong = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in files(package)
        for name in imports(path)
        if name.partition(".")[0] in foreign
    }
    assert not wrong


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_lower_floors_alone(package: str) -> None:
    assert not upward(package)


@pytest.mark.parametrize("package", ROOMS)
def test_every_room_has_its_floor(package: str) -> None:
    rooms = {Path(path.relative_to(ROOT).parts[1]).stem for path in files(package)}
    assert rooms - {"__init__"} == floors(package).keys() - {"__init__"}


@pytest.mark.parametrize(
    ("package", "file", "target"),
    [
        ("tune_app", "tables/growth.py", "run/growth.py"),
        ("tune_app", "ledger/reading.py", "cli/reading.py"),
        ("trainables", "train/loss.py", "export/loss.py"),
        ("trainables", "config/keys.py", "measure.py"),
    ],
)
def test_a_file_that_moves_up_is_found(package: str, file: str, target: str, tmp_path: Path) -> None:
    """The rule has teeth: with a file and its importers' lines moved to a higher floor, some import points up."""
    shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert not upward(package, tmp_path)
    old, new = (f"{package}.{name.removesuffix('.py').replace('/', '.')}" for name in (file, target))
    (tmp_path / package / file).rename(tmp_path / package / target)
    for path in files(package, tmp_path):
        path.write_text(path.read_text().replace(f"from {old} import", f"from {new} import"))
    assert upward(package, tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "from tune_app.cli.main import main",
        "def f() -> None:\n    import tune_app.cli.main",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tune_app.cli import main",
        'TABLE = {"main": "tune_app.cli.main:main"}',
    ],
    ids=["top", "nested", "type checking", "string"],
)
def test_every_kind_of_import_counts(line: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tune_app", tmp_path / "tune_app", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tune_app/spec/extra.py").write_text(f"{line}\n")
    assert upward("tune_app", tmp_path) == {"tune_app/spec/extra.py: cli"}


def test_roots_of_packages_of_rooms_hold_no_other_file() -> None:
    assert {path.name for path in (ROOT / "tune_app").glob("*.*")} == {"__init__.py", "__main__.py", "errors.py"}


@pytest.mark.parametrize("package", ["tune_app", "trainables"])
def test_every_room_says_what_it_promises(package: str) -> None:
    for room in (path.parent for path in (ROOT / package).glob("*/__init__.py")):
        said = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
        assert said.split("\n")[0].endswith("."), f"{room.name} promises nothing: {said!r}"


@pytest.mark.parametrize("heavy", HOMES)
def test_heavy_packages_stay_in_their_homes(heavy: str) -> None:
    homes = {ROOT / home for home in HOMES[heavy]}
    wrong = {
        str(path.relative_to(ROOT))
        for package in ALLOWED
        for path in files(package)
        if any(name.partition(".")[0] == heavy for name in imports(path)) and not homes & {path, *path.parents}
    }
    assert not wrong


@pytest.mark.parametrize("name", TORCH_FREE)
def test_torch_free_files_import_no_torch(name: str) -> None:
    assert not {i for i in imports(ROOT / name) if i.partition(".")[0] in {"torch", "torchvision", "safetensors"}}


def test_nothing_unpickles() -> None:
    """No pickle is read: torch.load only with weights_only=True, and no pickle module."""
    for package in ALLOWED:
        for path in files(package):
            assert not {"pickle", "cloudpickle", "joblib", "dill"} & {i.partition(".")[0] for i in imports(path)}, path
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                    assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), path
