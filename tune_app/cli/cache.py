"""`tune-app cache`: what the stage cache of an experiment holds, and how to make room."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from tune_app.terminal.table import print_table

if TYPE_CHECKING:
    from tune_app.stages.retention import CacheUse, Collection

app = typer.Typer(no_args_is_help=True, help="Show what finished stages take on disk, or remove what is not needed.")

Experiment = Annotated[
    str,
    typer.Argument(metavar="EXPERIMENT", help="Folder or URI of the experiment, e.g. runs/demo.", show_default=False),
]


@app.command(epilog="Example: tune-app cache ls demo/demo")
def ls(
    experiment: Experiment,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Show stages, bytes and seconds by kind of stage, and what of it is needed."""
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.stages.retention import survey

    use = survey(ExperimentFolder.existing(experiment))
    if json:
        print(use.model_dump_json(indent=1))
    else:
        _print_use(use)


@app.command(epilog="Example: tune-app cache gc demo/demo --max-bytes 2GB --dry-run")
def gc(
    experiment: Experiment,
    max_bytes: Annotated[
        str, typer.Option(metavar="SIZE", help="What finished stages may take: 500MB, 2GB, 1_000_000.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
) -> None:
    """Remove stages until they take at most SIZE; results and packed files stay, the frontier's stages too."""
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.stages.retention import collect
    from tune_app.terminal.quantities import parse_size

    bound = parse_size(max_bytes)
    _print_collection(collect(ExperimentFolder.existing(experiment), max_bytes=bound, dry_run=dry_run), dry_run=dry_run)


def _print_use(use: "CacheUse") -> None:
    heads = ("stages of kind", "count", "failures", "bytes", "seconds")
    rows = [
        (name, f"{row.stages:,}", f"{row.failures:,}", f"{row.size_bytes:,}", f"{row.seconds:,.1f}")
        for name, row in {**use.kinds, "all": use.total, "needed (frontier, baseline)": use.needed}.items()
    ]
    print_table(heads, rows, left=("stages of kind",))


def _print_collection(collection: "Collection", *, dry_run: bool) -> None:
    counts = Counter(entry.kind for entry in collection.removed)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items()) or "nothing"
    done, freed = ("would remove", "would free") if dry_run else ("removed", "freed")
    print(f"{done} {kinds}; {freed} {collection.freed_bytes:,} bytes, {collection.kept_bytes:,} bytes of stages stay")
    if collection.kept_bytes > collection.max_bytes:
        print(
            f"the bound of {collection.max_bytes:,} bytes is not reached: what stays belongs to the frontier, the "
            "baseline or trials that were cut off, or is a remembered failure"
        )
