"""The commands of the panel "Results" that read an experiment's points; they work while a search runs."""

import json as json_text
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.errors import ConfigError
from tune_app.cli.options import RESULTS, Csv, Experiment, Json, Parquet, argument
from tune_app.terminal.quantities import (
    show_count,
    show_number,
    show_points,
    show_ratio,
    show_share,
    show_size,
)
from tune_app.terminal.shell import command
from tune_app.terminal.table import print_table

if TYPE_CHECKING:
    from tune_app.findings.compare import Comparison, Side

WINNERS = 10
"""Points that `compare` names of each side; more would fill the terminal, and --json has them all."""

app = typer.Typer()


@app.command(
    rich_help_panel=RESULTS,
    epilog="Example: tune-app frontier demo/demo --all --where 'accuracy > 0.95 and w_bits = 4' --sort -accuracy",
)
def frontier(
    experiment: Experiment,
    all: Annotated[bool, typer.Option("--all", help="All trials, not only the frontier.")] = False,
    where: Annotated[
        str, typer.Option(metavar="CONDITION", help='Filter, e.g. "accuracy > 0.95 and size_bytes < 40000".')
    ] = "",
    sort: Annotated[
        str, typer.Option(metavar="COLUMN", help="To sort by; -COLUMN for falling order.  \\[default: size_bytes]")
    ] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many rows.")] = None,
    json: Json = False,
    csv: Csv = False,
    parquet: Parquet = None,
    trace: Annotated[bool, typer.Option("--trace", help="How the frontier's hypervolume grew, by trial.")] = False,
) -> None:
    """Show the Pareto frontier."""
    from tune_app.cli.frames import write_frame
    from tune_app.tables.growth import trace_frame
    from tune_app.tables.query import frontier_frame

    if trace:
        if all or where or sort or limit:
            raise ConfigError("--trace shows every trial in its order: leave --all, --where, --sort and --limit out.")
        title = f"hypervolume of {experiment}{_in_brackets(experiment)}"
        none = "no trial of the full schedule has finished yet"
        write_frame(trace_frame(experiment), json=json, csv=csv, parquet=parquet, title=title, none=none)
        return
    frame = frontier_frame(experiment, all=all, where=where, sort=sort, limit=limit)
    none = "no trial of the full schedule is complete and feasible yet; --all shows every trial, with reasons"
    if where.strip():
        none = f"no row satisfies {where!r}; shares such as accuracy lie between 0 and 1, sizes are bytes"
    elif all:
        none = "no trial has finished yet"
    title = f"{'trials' if all else 'frontier'} of {experiment}{_in_brackets(experiment)}"
    write_frame(frame, json=json, csv=csv, parquet=parquet, title=title, none=none)


@app.command(rich_help_panel=RESULTS, epilog="Example: tune-app plot demo/demo --output frontier.svg")
def plot(
    experiment: Experiment, output: Annotated[str, typer.Option(metavar="FILE", help="PNG or SVG.")] = "frontier.png"
) -> None:
    """Draw all trials with the frontier."""
    from trainables.storage import storage_path
    from tune_app.drawing.frontier_info import frontier_info
    from tune_app.drawing.frontier_plot import save_frontier_plot
    from tune_app.ledger.folder import ExperimentFolder

    save_frontier_plot(frontier_info(ExperimentFolder.existing(experiment)), storage_path(output))
    print(output)


@app.command(rich_help_panel=RESULTS, epilog="Example: tune-app finalize demo/demo")
def finalize(experiment: Experiment) -> None:
    """Evaluate the baseline and all runs of the frontier's points on the test split, once."""
    from tune_app.artifacts.test_split import finalize as evaluate
    from tune_app.ledger.folder import ExperimentFolder

    final = evaluate(ExperimentFolder.existing(experiment))
    points, runs = len(final.frontier), sum(map(len, final.frontier))
    in_runs = f" in {runs:,} runs" if runs > points else ""
    print(
        f"test split, {show_count(final.baseline.n, 'image')}: baseline {show_share(final.baseline.accuracy)}, "
        f"{show_count(points, 'frontier point')} evaluated{in_runs} (column test_accuracy)\n"
        f"validation minus test accuracy: frontier {show_points(final.gap)} on average, "
        f"baseline {show_points(final.baseline_gap)}"
    )
    if said := _caveat(experiment):
        print(said)


@app.command(rich_help_panel=RESULTS, epilog="Example: tune-app pick demo/demo --max-drop 1pp --where 'a_bits = 8'")
def pick(
    experiment: Experiment,
    knee: Annotated[bool, typer.Option("--knee", help="The knee of what keeps the bounds; the default.")] = False,
    max_drop: Annotated[str | None, typer.Option(metavar="POINTS", help="Below the baseline at most: 1pp.")] = None,
    max_bytes: Annotated[str | None, typer.Option(metavar="SIZE", help="At most: 300KB, 0.3MiB.")] = None,
    ratio: Annotated[str | None, typer.Option(metavar="RATIO", help="Smaller than fp32 at least: 10x.")] = None,
    where: Annotated[str, typer.Option(metavar="CONDITION", help='E.g. "w_bits = 4 and macs < 1e6".')] = "",
    json: Json = False,
) -> None:
    """Choose a point of the frontier: within a drop the smallest, within a size the most accurate, else the knee."""
    from tune_app.findings.pick import Wish, pick
    from tune_app.findings.summary import point_document
    from tune_app.ledger.folder import ExperimentFolder

    wish = Wish.read(max_drop=max_drop, max_bytes=max_bytes, min_ratio=ratio, where=where, knee=knee)
    found = pick(ExperimentFolder.existing(experiment), wish)
    again = command("reproduce", experiment, found.point.label)
    if json:
        document = {**point_document(found.point), "drop": found.drop, "why": found.why}
        print(json_text.dumps({**document, "artifact": str(found.artifact), "reproduce": again}, indent=1))
        return
    values, test = found.point.values, found.point.row.get("test_accuracy")
    drop = "" if found.drop is None else f" ({show_points(-found.drop)} against the baseline)"
    size = f"{values['size_bytes']:,.0f} bytes ({show_size(values['size_bytes'])})"
    print(f"{found.point.label}: {found.why}{_in_brackets(experiment)}")
    print(
        f"  accuracy   {show_share(values['accuracy'])}{drop}" + ("" if test is None else f", test {show_share(test)}")
    )
    print(f"  size       {size}, {show_ratio(values['compression_ratio'])} smaller than fp32")
    print(f"  artifact   {found.artifact}\n  reproduce  {again}")


def _caveat(experiment: str) -> str:
    """Returns what everybody must be told who sees accuracies of an experiment; empty: nothing."""
    from tune_app.ledger.baseline import caveat
    from tune_app.ledger.folder import ExperimentFolder

    return caveat(ExperimentFolder.existing(experiment).read_spec())


def _in_brackets(experiment: str) -> str:
    """Returns the caveat as it stands behind a title."""
    said = _caveat(experiment)
    return f" ({said})" if said else ""


@app.command(rich_help_panel=RESULTS, epilog="Example: tune-app summary demo/demo --json")
def summary(
    experiment: Experiment,
    json: Json = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="YAML on standard output.")] = False,
    all: Annotated[bool, typer.Option("--all", help="Every trial too, before it.")] = False,
) -> None:
    """Sum up an experiment: best accuracy, best compression, best balanced, baseline, totals."""
    from tune_app.cli.frames import rows_of
    from tune_app.findings.summary import summarize
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.tables.query import frontier_frame

    if json and yaml:
        raise ConfigError("JSON and YAML both go to standard output: choose one of the two.")
    found = summarize(ExperimentFolder.existing(experiment))
    if not (json or yaml):
        if all:
            frontier(experiment, all=True)
            print()
        print(found)
        return
    document = {**found.document(), **({"trials": rows_of(frontier_frame(experiment, all=True))} if all else {})}
    text = json_text.dumps(document, indent=1, allow_nan=False)
    if json:
        print(text)
    else:
        from ruamel.yaml import YAML

        YAML().dump(json_text.loads(text), sys.stdout)  # equal parts are no anchors then


@app.command(rich_help_panel=RESULTS, epilog="Example: tune-app compare demo/demo demo/wider --output both.png")
def compare(
    first: Annotated[str, argument("EXPERIMENT_A", "Folder or URI.")],
    second: Annotated[str, argument("EXPERIMENT_B", "Folder or URI.")],
    output: Annotated[str, typer.Option(metavar="FILE", help="Draw both frontiers into this PNG or SVG file.")] = "",
    json: Json = False,
) -> None:
    """Compare two frontiers: hypervolume from one reference, coverage, and the points that beat the other's."""
    from tune_app.findings.compare import compare_experiments
    from tune_app.ledger.folder import ExperimentFolder

    folders = [ExperimentFolder.existing(name) for name in (first, second)]
    found = compare_experiments(*folders)
    if output:
        from trainables.storage import storage_path
        from tune_app.drawing.frontier_info import frontier_info
        from tune_app.drawing.frontier_plot import save_comparison_plot

        infos = {side.name: frontier_info(folder) for side, folder in zip(found.sides, folders, strict=True)}
        save_comparison_plot(infos, storage_path(output))
    if json:
        sides = {side.name: _side_document(side) for side in found.sides}
        about = {"objectives": found.objectives, "reference": found.reference, "experiments": sides}
        print(json_text.dumps(about, indent=1))
        return
    _print_comparison(found)
    if output:
        print(output)


def _side_document(side: "Side") -> dict[str, object]:
    """Returns one side of a comparison as JSON values."""
    from tune_app.findings.summary import point_document

    return {
        "frontier_size": len(side.points),
        "hypervolume": side.hypervolume,
        "coverage": side.coverage,
        "baseline_accuracy": side.baseline_accuracy,
        "winners": [point_document(point) for point in side.winners],
    }


def _print_comparison(found: "Comparison") -> None:
    """Prints a row for each side, the points with which it beats the other, and the reference of the hypervolume."""
    heads = ("experiment", "frontier", "hypervolume", "covers of the other", "beats the other", "baseline")
    rows = [
        (
            side.name,
            f"{len(side.points)}",
            show_number(side.hypervolume),
            f"{show_share(side.coverage, digits=0)} of {len(other.points)}",
            f"{len(side.winners)}",
            show_share(side.baseline_accuracy),
        )
        for side, other in (found.sides, found.sides[::-1])
    ]
    print_table(heads, rows, left=("experiment",))
    for side in found.sides:
        if side.winners:
            more = "" if len(side.winners) <= WINNERS else f" and {len(side.winners) - WINNERS} more"
            print(f"{side.name} beats the other with {', '.join(p.label for p in side.winners[:WINNERS])}{more}")
        if side.caveat:
            print(f"{side.name}: {side.caveat}")
    corner = ", ".join(f"{name} {show_number(value)}" for name, value in found.reference.items())
    print(f"reference of the hypervolume: {corner}")
