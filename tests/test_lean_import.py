"""Looking at help costs neither torch nor ray."""

import subprocess
import sys

CODE = """
import sys
sys.argv = ["tune-app", "--help"]
from tune_app.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
heavy = {"torch", "torchvision", "ray", "optuna", "duckdb", "pandas", "pyarrow", "numpy", "matplotlib", "sklearn"}
print("HEAVY", sorted(heavy & set(sys.modules)))
"""


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert "frontier" in done.stdout
    assert done.stdout.strip().endswith("HEAVY []")


def test_a_spec_is_checked_without_torch_or_ray() -> None:
    code = (
        "import sys; from pathlib import Path; from tune_app.spec.yaml_file import parse_spec; "
        "from tune_app.cli.search import demo_spec; parse_spec(demo_spec(), source='demo'); "
        "print(sorted({'torch', 'ray', 'optuna', 'upath', 'fsspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
