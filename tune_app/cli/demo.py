"""The demo: a spec to leave behind, and what to try after it."""

import json
from importlib.resources import files
from pathlib import Path

from trainables.storage import replace


def demo_spec() -> str:
    """The text of the demo's spec."""
    return (files("tune_app.cli") / "demo.yaml").read_text()


def write_demo(folder: Path) -> Path:
    """Leaves the demo's spec in a folder, unless it is there; returns its path.

    Raises:
        StorageUnavailable: the folder cannot be written.
    """
    spec_file = folder / "demo.yaml"
    text = demo_spec().replace("storage: runs", f"storage: {json.dumps(str(folder))}")
    if not spec_file.exists():
        replace(spec_file, text.encode())
    return spec_file


def next_commands(experiment: str, spec_file: Path, trials: int) -> list[str]:
    """What to try after the demo."""
    return [
        f'tune-app frontier {experiment} --all --where "accuracy > 0.95" --sort size_bytes',
        f"tune-app export {experiment} {_smallest_close_to(experiment)}",
        f"tune-app run {spec_file} --trials {trials + 10}",
    ]


def _smallest_close_to(experiment: str) -> str:
    """The label of the smallest frontier point within two points of the most accurate one."""
    from tune_app.tables.query import frontier_frame

    frame = frontier_frame(experiment)
    close = frame[frame["accuracy"] >= frame["accuracy"].max() - 0.02]
    return str(close.sort_values("size_bytes")["label"].iloc[0]).partition("@")[0]
