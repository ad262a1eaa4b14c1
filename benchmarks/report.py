"""How a benchmark says what it measured: a table, the raw figures, the command, the machine."""

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under a header."""
    lines = [list(header), ["---"] * len(header), *map(list, rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine() -> str:
    """Processor, cores, GPU if there is one, Python and torch."""
    import torch

    models = {line.partition(":")[2].strip() for line in _cpu_lines() if line.startswith("model name")}
    name = next(iter(models), platform.processor() or platform.machine())
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{name}, {os.cpu_count()} cores{gpu}, Python {platform.python_version()}, torch {torch.__version__}"


def provenance() -> dict[str, Any]:
    """What is needed to make the figures again."""
    return {
        "command": shlex.join(["python", *(os.path.relpath(a) if a.endswith(".py") else a for a in sys.argv)]),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "commit": _commit(),
        "load_average": os.getloadavg()[0],
    }


def write_report(output: Path, *, title: str, text: str, data: Any) -> None:
    """Writes `output`.md for people and `output`.json with every figure."""
    made = provenance()
    foot = f"`{made['command']}`, {made['date']}, commit {made['commit']}; {made['machine']}."
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".md").write_text(f"# {title}\n\n{text}\n\n{foot}\n")
    output.with_suffix(".json").write_text(json.dumps({**made, "figures": data}, indent=1) + "\n")


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
