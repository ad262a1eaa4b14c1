"""Commands that read an experiment: choose a point, sum up, compare, reproduce. They work while a search runs."""

import json as json_text
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.errors import ConfigError
from tune_app.cli.options import NETWORKS, RESULTS, TOOLS

if TYPE_CHECKING:
    from tune_app.findings.compare import Comparison, Side

app = typer.Typer()

Experiment = Annotated[
    str,
    typer.Argument(metavar="EXPERIMENT", help="Folder or URI of the experiment, e.g. runs/demo.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
WINNERS = 10


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
    from tune_app.terminal.quantities import (
        parse_points,
        parse_ratio,
        parse_size,
        show_points,
        show_ratio,
        show_share,
        show_size,
    )

    wish = Wish(
        max_drop=None if max_drop is None else parse_points(max_drop),
        max_bytes=None if max_bytes is None else parse_size(max_bytes),
        min_ratio=None if ratio is None else parse_ratio(ratio),
        where=where,
        knee=knee,
    )
    found = pick(ExperimentFolder.existing(experiment), wish)
    again = f"tune-app reproduce {experiment} {found.point.label}"
    if json:
        document = {**point_document(found.point), "drop": found.drop, "why": found.why}
        print(json_text.dumps({**document, "artifact": str(found.artifact), "reproduce": again}, indent=1))
        return
    values, test = found.point.values, found.point.row.get("test_accuracy")
    print(f"{found.point.label}: {found.why}")
    drop = "" if found.drop is None else f" ({show_points(-found.drop)} against the baseline)"
    print(f"  accuracy   {show_share(values['accuracy'])}{drop}" + (f", test {show_share(test)}" if test else ""))
    size = f"{values['size_bytes']:,.0f} bytes ({show_size(values['size_bytes'])})"
    print(f"  size       {size}, {show_ratio(values['compression_ratio'])} smaller than fp32")
    print(f"  artifact   {found.artifact}")
    print(f"  reproduce  {again}")


@app.command(rich_help_panel=RESULTS, epilog="Example: tune-app summary demo/demo --json")
def summary(
    experiment: Experiment,
    json: Json = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="YAML on standard output.")] = False,
) -> None:
    """Sum up an experiment: best accuracy, best compression, best balanced, baseline, totals."""
    from tune_app.findings.summary import summarize
    from tune_app.ledger.folder import ExperimentFolder

    if json and yaml:
        raise ConfigError("JSON and YAML both go to standard output: choose one of the two.")
    found = summarize(ExperimentFolder.existing(experiment))
    if json:
        print(json_text.dumps(found.document(), indent=1))
    elif yaml:
        from ruamel.yaml import YAML

        YAML().dump(found.document(), sys.stdout)
    else:
        print("\n".join(found.lines()))


@app.command(rich_help_panel=RESULTS, epilog="Example: tune-app compare demo/demo demo/wider --output both.png")
def compare(
    first: Annotated[str, typer.Argument(metavar="EXPERIMENT_A", help="Folder or URI.", show_default=False)],
    second: Annotated[str, typer.Argument(metavar="EXPERIMENT_B", help="Folder or URI.", show_default=False)],
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

        save_comparison_plot([frontier_info(folder) for folder in folders], storage_path(output))
    if json:
        from tune_app.findings.summary import point_document

        sides = {
            side.name: {
                "frontier_size": len(side.points),
                "hypervolume": side.hypervolume,
                "coverage": side.coverage,
                "baseline_accuracy": side.baseline_accuracy,
                "winners": [point_document(point) for point in side.winners],
            }
            for side in found.sides
        }
        print(json_text.dumps({"objectives": found.objectives, "reference": found.reference, **sides}, indent=1))
        return
    _print_comparison(found)
    if output:
        print(output)


@app.command(rich_help_panel=TOOLS, epilog="Example: tune-app optuna demo/demo --output demo.log")
def optuna(
    experiment: Experiment,
    output: Annotated[
        str, typer.Option(metavar="FILE", help="New journal file.  \\[default: the experiment's name, with .log]")
    ] = "",
) -> None:
    """Write the experiment as an Optuna study, for optuna-dashboard and Optuna's own tools."""
    from trainables.storage import storage_path
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.tracking.optuna_journal import write_journal

    folder = ExperimentFolder.existing(experiment)
    target = output or f"{folder.read_spec().name}.log"
    for study, trials in write_journal(folder, storage_path(target)).items():
        print(f"study {study}: {trials} trials")
    print(f"optuna-dashboard {target}")


@app.command(rich_help_panel=NETWORKS, epilog="Example: tune-app reproduce demo/demo p75_w2_a8")
def reproduce(
    experiment: Experiment,
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="Label (p30_w4_a8) or id of a trial.", show_default=False)
    ],
    output: Annotated[str, typer.Option(help="New folder to work in.  \\[default: the label, with -again]")] = "",
) -> None:
    """Make one trial again from nothing, baseline included, and say whether its file is the same."""
    from trainables.storage import storage_path
    from tune_app.artifacts.reproduce import reproduce
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.terminal.quantities import show_share

    found = reproduce(ExperimentFolder.existing(experiment), trial, storage_path(output) if output else None)
    if found.same_file:
        print(f"{found.artifact}: the same file, byte for byte")
        return
    old, new = found.first.metrics(), found.again.metrics()
    print(
        f"{found.artifact}: another file: accuracy {show_share(new['accuracy'])} (was {show_share(old['accuracy'])}), "
        f"{new['size_bytes']:,.0f} bytes (was {old['size_bytes']:,.0f})"
    )
    if found.changed:
        print(f"changed since: {'; '.join(found.changed)}")


def _print_comparison(found: "Comparison") -> None:
    from tune_app.terminal.quantities import show_number
    from tune_app.terminal.table import print_table

    rows = [_row(side, other) for side, other in (found.sides, found.sides[::-1])]
    heads = ("experiment", "frontier", "hypervolume", "covers of the other", "beats the other", "baseline")
    print_table(heads, rows, left=("experiment",))
    for side in found.sides:
        if side.winners:
            more = "" if len(side.winners) <= WINNERS else f" and {len(side.winners) - WINNERS} more"
            print(f"{side.name} beats the other with {', '.join(p.label for p in side.winners[:WINNERS])}{more}")
    corner = ", ".join(f"{name} {show_number(value)}" for name, value in found.reference.items())
    print(f"reference of the hypervolume: {corner}")


def _row(side: "Side", other: "Side") -> tuple[str, ...]:
    from tune_app.terminal.quantities import show_number, show_share

    return (
        side.name,
        f"{len(side.points)}",
        show_number(side.hypervolume),
        f"{100 * side.coverage:.0f} % of {len(other.points)}",
        f"{len(side.winners)}",
        show_share(side.baseline_accuracy),
    )
