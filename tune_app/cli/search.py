"""The commands of the panel "Search": demo, baseline, plan, run."""

import json as json_text
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.errors import ConfigError
from trainables.printable import printable
from tune_app.cli.options import SEARCH, Json, Settings, SpecFile
from tune_app.cli.results import finalize, frontier, plot
from tune_app.engine.stop_signal import end_process, handled_by
from tune_app.terminal.progress import console
from tune_app.terminal.quantities import show_count, show_share
from tune_app.terminal.shell import command, from_here
from tune_app.terminal.table import ABSENT, print_table

if TYPE_CHECKING:
    from tune_app.stages.plan import Plan, StagePlan

UNKNOWN = "unknown"
CLOSE = 0.02
"""How far below the best accuracy the demo proposes a point: two points, which keep most of the frontier's sizes."""

app = typer.Typer()


@app.command(rich_help_panel=SEARCH)
def demo(folder: Annotated[Path, typer.Option(help="Where the spec and the results go.")] = Path("demo")) -> None:
    """Search on a small data set, in minutes, with nothing to download."""
    from tune_app.spec.yaml_file import load_spec

    started = time.monotonic()
    spec_file = _write_demo(folder)
    try:
        spec = load_spec(spec_file)
    except ConfigError as err:
        raise ConfigError(f"{err} It was there before: mend or remove it, or give another --folder.") from err
    print(spec_file.read_text("utf-8"))
    run(spec_file)
    experiment = str(from_here(spec.folder))
    finalize(experiment)
    frontier(experiment)
    plot(experiment, output=str(folder / "frontier.png"))
    print(f"\n{time.monotonic() - started:.0f} s. Try next:")
    for words in (
        ("frontier", experiment, "--all", "--where", "accuracy > 0.95", "--sort", "size_bytes"),
        ("export", experiment, _smallest_close_to_the_best(experiment)),
        ("run", spec_file, "--trials", spec.budget.trials + 10),
    ):
        print(f"  {command(*words)}")


@app.command(rich_help_panel=SEARCH)
def baseline(spec: SpecFile, set: Settings = None) -> None:
    """Train the shared baseline, or import it; a second call finds it."""
    from tune_app.spec.yaml_file import load_spec

    loaded = load_spec(spec, set or ())
    with handled_by(end_process):  # an exception out of a long import may get lost
        from tune_app.findings.of_baseline import findings_of_baseline
        from tune_app.run.search import run_baseline

    info = run_baseline(loaded, console=console())
    print(
        f"{info.title} of {loaded.name}: accuracy {show_share(info.accuracy)} on "
        f"{show_count(info.n, 'validation image')}, {info.parameters:,} parameters, {info.size_bytes:,} bytes fp32"
    )
    for finding in findings_of_baseline(info):
        print(f"{finding.text}.")
    if info.imported:
        print(f"{info.imported}. Check that the accuracy is the one that you know of it.")


@app.command(rich_help_panel=SEARCH, epilog="Example: tune-app validate demo/demo.yaml")
def validate(spec: SpecFile, set: Settings = None) -> None:
    """Check a spec without loading data or importing a network; nothing is written."""
    from tune_app.spec.yaml_file import parse_spec, read_text

    found = parse_spec(read_text(spec), source=str(spec), settings=set or ())
    names = ", ".join(found.space.root)
    points, trials = show_count(found.space.size, "point"), show_count(found.budget.trials, "trial")
    print(f"{spec}: {found.name} is well; {points} of {names}, {trials}")


@app.command(rich_help_panel=SEARCH, epilog="Example: tune-app plan demo/demo.yaml")
def plan(spec: SpecFile, set: Settings = None, json: Json = False) -> None:
    """Say what a search would run, and the time and disk that it takes; nothing is written."""
    from tune_app.spec.yaml_file import load_spec

    loaded = load_spec(spec, set or ())
    from tune_app.stages.plan import read_plan

    found = read_plan(loaded)
    if json:
        print(found.model_dump_json(indent=1))
    else:
        _print_plan(found)


@app.command(rich_help_panel=SEARCH, epilog="Example: tune-app run demo/demo.yaml --trials 30")
def run(
    spec: SpecFile,
    set: Settings = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,…",
            help="Run this configuration alone, on the grid or not: w_bits=4,a_bits=8; repeatable.",
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Another budget than the spec's.")] = None,
    warm_start: Annotated[
        str | None, typer.Option(metavar="EXPERIMENT", help="Learn from this experiment, and take over its results.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials once more that an error or a lost worker ended.")
    ] = False,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Start Ray's dashboard and the live report too, on loopback.")
    ] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Trials one by one in this process, without Ray; for debuggers.")
    ] = False,
) -> None:
    """Start a search, or go on where it stopped."""
    from tune_app.run.request import engine_for, start_from, with_trials
    from tune_app.spec.overrides import read_point
    from tune_app.spec.yaml_file import load_spec

    loaded = with_trials(load_spec(spec, set or ()), trials)
    if point and trials is not None:
        raise ConfigError("--point runs its configurations alone, and --trials a search: choose one of them.")
    points = [read_point(text) for text in point or ()]
    other = start_from(loaded, warm_start)
    with handled_by(end_process):  # an exception out of a long import may get lost
        from tune_app.run.outcome import changed_by_others, summary
        from tune_app.run.search import run_search

        engine = engine_for(dashboard=dashboard, in_process=in_process)
    view = console(plain=in_process)  # a panel that is drawn again and again would hide a debugger's prompt
    outcome = run_search(loaded, engine=engine, warm_start=other, retry_failed=retry_failed, only=points, console=view)
    for line in changed_by_others(outcome):
        print(printable(line), file=sys.stderr)
    print("\n".join(summary(outcome, loaded)))
    outcome.check()


def demo_spec() -> str:
    """Returns the text of the demo's spec."""
    return (files("tune_app.cli") / "demo.yaml").read_text("utf-8")


def _write_demo(folder: Path) -> Path:
    """Leaves the demo's spec in a folder, unless it is there; returns its path."""
    from trainables.storage import exists, refuse_file, replace

    refuse_file(folder)
    spec_file = folder / "demo.yaml"
    text = demo_spec().replace("storage: runs", f"storage: {json_text.dumps(str(folder))}")
    if not exists(spec_file):
        replace(spec_file, text.encode())
    return spec_file


def _smallest_close_to_the_best(experiment: str) -> str:
    """Returns the label of the smallest frontier point that is nearly as accurate as the most accurate one."""
    from tune_app.tables.query import frontier_frame

    frame = frontier_frame(experiment)
    close = frame[frame["accuracy"] >= frame["accuracy"].max() - CLOSE]
    return str(close.sort_values("size_bytes")["label"].iloc[0]).partition("@")[0]


def _print_plan(plan: "Plan") -> None:
    """Prints rungs, stages, and what is still to come."""
    points, budget = show_count(plan.points, "point"), show_count(plan.trials, "trial")
    print(f"{plan.name}: {points}; budget {budget}, {plan.done:,} done")
    print(f"sampler: {plan.search}")
    for rung in plan.rungs:
        epochs, trials = show_count(rung.epochs, "epoch"), show_count(rung.trials, "trial")
        print(f"rung {rung.name}, {epochs} of training: {trials}, {rung.done:,} done")
    if plan.repeats:
        print("repeats: further runs of points that may be on the frontier are not counted here")
    if plan.sampled:
        print(f"stages are counted over a sample of {show_count(plan.counted, 'point')}")
    print()
    heads = ("stage", "distinct", "in cache", "to make", "seconds each", "seconds", "bytes each")
    print_table(heads, map(_stage_cells, plan.stages), left=("stage",))
    least, missing = ("at least ", f"; nobody has measured {', '.join(plan.unknown)}") if plan.unknown else ("", "")
    print(f"\nstill to run: {least}{plan.seconds:,.0f} s of stages, all workers together{missing}")
    _print_images(plan)
    artifacts = UNKNOWN if plan.more_artifacts_bytes is None else f"{plan.more_artifacts_bytes:,.0f}"
    print(
        f"disk: stages {plan.stages_bytes:,} bytes, {least}{plan.more_stages_bytes:,.0f} more to come; "
        f"artifacts {plan.artifacts_bytes:,} bytes, {artifacts} more to come"
    )


def _print_images(plan: "Plan") -> None:
    if (images := plan.images) is None:
        return
    where = "on the device" if not images.streamed else "on a GPU that has room, else read batch by batch"
    line = f"images: {images.count:,} train and validate, {images.device_bytes:,} bytes {where}"
    if images.disk_bytes:
        state = "decoded on this machine" if images.decoded else "to be decoded once on each machine"
        line += f"; {images.disk_bytes:,} bytes on disk, {state}, in {images.folder}"
    print(line)


def _stage_cells(stage: "StagePlan") -> tuple[str, ...]:
    """Returns the row of a stage: how often it is made, and what it costs each time and in all."""
    size = UNKNOWN if stage.bytes_each is None else f"{stage.bytes_each:,.0f}"
    each, all_of_them = UNKNOWN, UNKNOWN if stage.to_make else ABSENT
    if stage.seconds_each is not None:
        each, all_of_them = f"{stage.seconds_each:,.1f}", f"{stage.to_make * stage.seconds_each:,.1f}"
    counts = (f"{stage.distinct:,}", f"{stage.cached:,}", f"{stage.to_make:,.1f}")
    return (stage.label, *counts, each, all_of_them, size)
