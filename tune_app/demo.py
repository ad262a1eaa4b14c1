"""The demo: the public path on a spec that it leaves behind."""

import time
from importlib.resources import files
from pathlib import Path

from trainables.storage import replace
from tune_app.cli import finalize, frontier, plot, search
from tune_app.experiment import load_spec, parse_spec


def demo_spec() -> str:
    """The text of the demo's spec."""
    return (files("tune_app") / "demo.yaml").read_text()


def run_demo(folder: Path) -> None:
    """Writes the spec into the folder, searches, evaluates on the test split, shows the frontier.

    Raises:
        TuneAppError: as `tune-app run`.
    """
    started = time.monotonic()
    spec_file = folder / "demo.yaml"
    text = demo_spec().replace("storage: runs", f"storage: {folder}")
    parse_spec(text, source=str(spec_file))
    if not spec_file.exists():
        replace(spec_file, text.encode())
    print(spec_file.read_text())
    spec = load_spec(spec_file)
    search(spec)
    experiment, picture = Path(spec.folder), folder / "frontier.png"
    shown = experiment.relative_to(Path.cwd()) if experiment.is_relative_to(Path.cwd()) else experiment
    finalize(shown)
    frontier(shown)
    plot(shown, output=picture)
    best = _smallest_close_to(shown)
    print(f"\n{time.monotonic() - started:.0f} s. Try next:")
    print(f'  tune-app frontier {shown} --all --where "accuracy > 0.95" --sort size_bytes')
    print(f"  tune-app export {shown} {best}")
    print(f"  tune-app run {spec_file} --trials {spec.budget.trials + 10}")


def _smallest_close_to(experiment: Path) -> str:
    """The label of the smallest frontier point within two points of the most accurate one."""
    from tune_app.query import frontier_frame

    frame = frontier_frame(experiment)
    close = frame[frame["accuracy"] >= frame["accuracy"].max() - 0.02]
    return str(close.sort_values("size_bytes")["label"].iloc[0]).partition("@")[0]
