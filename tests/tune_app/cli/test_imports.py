"""What a command cannot do is said at once: nothing heavy is imported before."""

import json
import subprocess
import sys
from pathlib import Path

from tests.tune_app.cli.test_help import ALL

NEEDED = {"EXPERIMENT": "nowhere", "TRIAL": "p0", "SPEC": "nowhere.yaml"}
"""What stands for each argument: there is no such experiment, and no such spec."""
HEAVY = ["torch", "ray", "matplotlib", "optuna", "wandb"]
CODE = f"""
import json, sys
from tune_app.cli.main import app

found = {{}}
for words in json.loads(sys.argv[1]):
    try:
        app(args=words, standalone_mode=False)
    except BaseException as err:
        found[" ".join(words)] = [type(err).__name__, [name for name in {HEAVY} if name in sys.modules]]
        for name in [name for name in sys.modules if name.partition(".")[0] in {HEAVY}]:
            del sys.modules[name]
print(json.dumps(found))
"""


def test_a_wrong_name_imports_nothing_heavy(tmp_path: Path) -> None:
    lines = []
    for name, command in ALL.items():
        arguments = [p.metavar for p in command.params if p.param_type_name == "argument" and p.required]
        if arguments and set(arguments) <= NEEDED.keys():
            size = ["--max-bytes", "1MB"] if name == "cache gc" else []
            kind = ["--to", "tensorboard"] if name == "track" else []
            lines.append([*name.split(), *map(NEEDED.__getitem__, arguments), *size, *kind])
    assert len(lines) > 15
    run = [sys.executable, "-c", CODE, json.dumps(lines)]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {line: said for line, said in found.items() if said != ["ConfigError", []]} == {}
    assert len(found) == len(lines)
