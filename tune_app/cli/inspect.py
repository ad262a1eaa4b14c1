"""`tune-app inspect`: where a packed file's bytes go, and what its network costs."""

from typing import Annotated

import typer

Place = Annotated[
    str,
    typer.Argument(
        metavar="FILE|EXPERIMENT",
        help="A packed file, model.mbq; or folder or URI of an experiment.",
        show_default=False,
    ),
]
Trial = Annotated[str, typer.Argument(metavar="TRIAL", help="Label (p30_w4_a8) or id of a trial.", show_default=False)]


def inspect(
    place: Place,
    trial: Trial = "",
    batch: Annotated[int, typer.Option(min=1, max=1_000_000, help="Images whose activations are counted.")] = 1,
    formulas: Annotated[
        bool, typer.Option("--formulas", help="Size formulas of earlier systems, not the layers.")
    ] = False,
    index_bits: Annotated[
        int, typer.Option(min=1, max=16, help="Of the formulas that give each non-zero weight an index.")
    ] = 3,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output: everything.")] = False,
) -> None:
    """Show where the bytes of a packed file go, layer by layer, and what the network computes and holds."""
    from tune_app.artifacts.inspect import inspect_path, inspect_trial, print_formulas, print_json, print_report

    counted = {"batch": batch, "index_bits": index_bits}
    if trial:
        title, report = inspect_trial(place, trial, **counted)
    else:
        title, report = place, inspect_path(place, **counted)
    if json:
        print_json(report)
    elif formulas:
        print_formulas(report, title=title)
    else:
        print_report(report, title=title)
