"""The commands of the panel "Storage and other tools": spaces, optuna, track, cache."""

import io
import json as json_text
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainables.errors import ConfigError, did_you_mean
from trainables.quantities import parse_size
from tune_app.cli.options import TOOLS, Experiment, Json, argument
from tune_app.terminal.quantities import show_count
from tune_app.terminal.shell import command
from tune_app.terminal.table import print_table

if TYPE_CHECKING:
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.spec.trackers import AnyTracker
    from tune_app.stages.retention import CacheUse

app = typer.Typer()
cache = typer.Typer(no_args_is_help=True, help="Show what finished stages take on disk, or remove what is not needed.")
app.add_typer(cache, name="cache", rich_help_panel=TOOLS)


@app.command(rich_help_panel=TOOLS, epilog="Example: tune-app schema")
def schema() -> None:
    """Print the JSON schema of a spec, for editors."""
    from tune_app.spec.json_schema import spec_schema

    print(json_text.dumps(spec_schema(), indent=1))


@app.command(rich_help_panel=TOOLS, epilog="Example: tune-app spaces mixed")
def spaces(
    name: Annotated[str, argument("SPACE", "A space, to print as YAML; none: list all.")] = "", json: Json = False
) -> None:
    """List the search spaces that a spec can name, or show one."""
    from search_spaces.presets import PRESETS

    if name and name not in PRESETS:
        hint = did_you_mean(name, PRESETS, otherwise=f"known: {', '.join(PRESETS)}.")
        raise ConfigError(f"unknown space {name!r}; {hint}")
    rows = space_rows()
    if json:
        print(json_text.dumps([row for row in rows if name in ("", row["name"])], indent=1))
    elif name:
        print(space_yaml(name), end="")
    else:
        cells = [(r["name"], f"{r['points']:,}", ", ".join(r["parameters"]), r["description"]) for r in rows]
        heads = ("space", "points", "parameters", "what for")
        print_table(heads, cells, left=set(heads) - {"points"}, folded=heads)


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
        print(f"study {study}: {show_count(trials, 'trial')}")
    print(command(target, program="optuna-dashboard"))


@app.command(rich_help_panel=TOOLS, epilog="Example: tune-app track demo/demo --to wandb --mode offline")
def track(
    experiment: Experiment,
    to: Annotated[
        list[str] | None,
        typer.Option(help="wandb, tensorboard or mlflow; may be given more than once.  \\[default: the spec's]"),
    ] = None,
    mode: Annotated[str, typer.Option(help="Of W&B: online or offline.  \\[default: the spec's]")] = "",
    again: Annotated[bool, typer.Option("--again", help="Show everything once more.")] = False,
    confusion: Annotated[bool, typer.Option(help="With the confusion matrix of the frontier's knee.")] = True,
    json: Json = False,
) -> None:
    """Show the runs of an experiment to trackers; once more, it shows what is new."""
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.tracking.track import track

    folder = ExperimentFolder.existing(experiment)
    found = []
    for config in _trackers(folder, to or [], mode=mode):
        shown = track(folder, config, again=again, confusion=confusion)
        found.append(vars(shown))
        if json:
            continue
        runs = f"{show_count(shown.runs, 'run')} ({shown.new:,} new)"
        print(f"{shown.kind}: {runs} {'offline' if shown.files else f'at {shown.destination}'}")
        if shown.files:
            sync = command("sync", shown.files, program="wandb")
            print(f"  send them with `{sync}`, or run this again where W&B has a key")
    if json:
        print(json_text.dumps(found, indent=1))


@cache.command(epilog="Example: tune-app cache ls demo/demo")
def ls(experiment: Experiment, json: Json = False) -> None:
    """Show stages, bytes and seconds by kind of stage, and what of it is needed."""
    from tune_app.ledger.folder import ExperimentFolder

    folder = ExperimentFolder.existing(experiment)
    from tune_app.stages.retention import survey

    use = survey(folder)
    if json:
        print(use.model_dump_json(indent=1))
    else:
        _print_use(use)


@cache.command(epilog="Example: tune-app cache gc demo/demo --max-bytes 2GB --dry-run")
def gc(
    experiment: Experiment,
    max_bytes: Annotated[
        str, typer.Option(metavar="SIZE", help="What finished stages may take: 500MB, 2GB, 1_000_000.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
) -> None:
    """Remove stages until they take at most SIZE; results and packed files stay, the frontier's stages too."""
    from tune_app.ledger.folder import ExperimentFolder

    bound, folder = parse_size(max_bytes), ExperimentFolder.existing(experiment)
    from tune_app.stages.retention import collect

    found = collect(folder, max_bytes=bound, dry_run=dry_run)
    counts = Counter(entry.kind for entry in found.removed)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items()) or "nothing"
    done, freed = ("would remove", "would free") if dry_run else ("removed", "freed")
    print(f"{done} {kinds}; {freed} {found.freed_bytes:,} bytes, {found.kept_bytes:,} bytes of stages stay")
    if found.kept_bytes > bound:
        print(
            f"the bound of {bound:,} bytes is not reached: what stays belongs to the frontier, the "
            "baseline or trials that were cut off, or is a remembered failure"
        )


def space_rows() -> list[dict[str, Any]]:
    """Returns name, points, parameters, needed parts of `base`, purpose and content of each space, as JSON values."""
    from search_spaces.presets import PRESETS
    from search_spaces.space import SearchSpace

    rows = []
    for name, preset in PRESETS.items():
        space = SearchSpace.model_validate(name)
        known = {"name": name, "points": space.size, "parameters": list(space.root)}
        rows.append({**known, "needs": list(preset.needs), "description": preset.description, "space": preset.space})
    return rows


def space_yaml(name: str) -> str:
    """Returns a space of PRESETS as a spec would write it out, with a line for each parameter."""
    from ruamel.yaml import YAML

    from search_spaces.presets import PRESETS

    writer, preset = YAML(typ="safe"), PRESETS[name]
    writer.default_flow_style, writer.width = True, 1_000  # no parameter needs more columns
    lines = [f"# {preset.description}; base needs {', '.join(preset.needs)}", "space:"]
    for parameter, values in preset.space.items():
        writer.dump(values, stream := io.StringIO())
        lines.append(f"  {parameter}: {stream.getvalue().strip()}")
    return "\n".join(lines) + "\n"


def _trackers(folder: "ExperimentFolder", kinds: list[str], *, mode: str) -> "list[AnyTracker]":
    """Returns the spec's trackers, or those that are named, with the spec's options where it has some."""
    from tune_app.spec.trackers import KINDS, WandbConfig, known_kind

    known: dict[str, AnyTracker] = {config.kind: config for config in folder.read_spec().tracking}
    named: list[str] = list(dict.fromkeys(kinds)) or list(known)
    if not named:
        raise ConfigError("the spec names no tracker: choose one with --to wandb, --to tensorboard or --to mlflow.")
    found = [known.get(kind) or KINDS[known_kind(kind)]() for kind in named]
    if mode not in {"", "online", "offline"}:
        raise ConfigError(f"--mode is online or offline, but got {mode!r}.")
    return [c.model_copy(update={"mode": mode}) if mode and isinstance(c, WandbConfig) else c for c in found]


def _print_use(use: "CacheUse") -> None:
    """Prints a row for each kind of stage, then what there is in all and what is needed."""
    if not use.kinds:
        print("no stage has finished yet, and nothing is cached.")
        return
    heads = ("stages of kind", "count", "failures", "bytes", "seconds")
    rows = [
        (name, f"{row.stages:,}", f"{row.failures:,}", f"{row.size_bytes:,}", f"{row.seconds:,.1f}")
        for name, row in {**use.kinds, "all": use.total, "needed (frontier, baseline)": use.needed}.items()
    ]
    print_table(heads, rows, left=("stages of kind",))
