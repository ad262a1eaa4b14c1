"""What commands share: the panels of `tune-app --help`, and each argument and option that several of them take."""

from pathlib import Path
from typing import Annotated, Any

import typer

SEARCH, RESULTS, NETWORKS, CLUSTERS, TOOLS = "Search", "Results", "Networks", "Clusters", "Storage and other tools"


def argument(name: str, help: str) -> Any:
    """Declares a positional argument, which help calls by this upper-case name and shows without a default."""
    return typer.Argument(metavar=name, help=help, show_default=False)


SpecFile = Annotated[Path, argument("SPEC", "YAML file of the experiment; - is standard input.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Another value than the spec's: budget.trials=30; repeatable."),
]
Experiment = Annotated[str, argument("EXPERIMENT", "Folder or URI of the experiment, e.g. runs/demo.")]
Trial = Annotated[str, argument("TRIAL", "Label (p30_w4_a8) or id of a trial.")]
TrialOrBaseline = Annotated[str, argument("TRIAL", "Label (p30_w4_a8) or id of a trial, or: baseline.")]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Csv = Annotated[bool, typer.Option("--csv", help="CSV on standard output.")]
Parquet = Annotated[str | None, typer.Option(metavar="FILE", help="Write the rows to a parquet file.")]
Address = Annotated[str, typer.Option(help="The cluster's, http://host:8265.  \\[default: RAY_ADDRESS]")]
