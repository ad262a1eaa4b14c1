"""The command line: thin commands over the library. Heavy imports wait until a command needs them."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.errors import ClusterError
from trainables.errors import ConfigError, TuneAppError
from tune_app.cli.cache import app as cache_app
from tune_app.cli.epochs import epochs
from tune_app.cli.failures import failures
from tune_app.cli.inspect import inspect
from tune_app.cli.jobs import app as jobs_app
from tune_app.cli.options import CLUSTERS, NETWORKS, RESULTS, SEARCH, TOOLS
from tune_app.cli.reading import app as reading_app
from tune_app.cli.report import app as report_app
from tune_app.cli.track import app as track_app
from tune_app.cli.verify import verify
from tune_app.errors import Interrupted

if TYPE_CHECKING:
    import pandas as pd

    from tune_app.engine.engine import Engine
    from tune_app.spec.experiment import ExperimentSpec

OUTPUT_CLOSED = 141
"""As a shell calls the end of a program whose output nobody reads any more, as in `| head`."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done · 1 a bug · 2 bad input · 3 storage or cluster does not answer · "
    "4 the work ended badly · 5 another driver holds the experiment · 6 damaged data · 130/143 stopped by a signal · "
    "141 nobody reads the output any more.",
)
app.add_typer(cache_app, name="cache", rich_help_panel=TOOLS)
app.add_typer(jobs_app, name="jobs", rich_help_panel=CLUSTERS)
reading_app.command(rich_help_panel=RESULTS, epilog="Example: tune-app failures demo/demo p75_w2_a8")(failures)
reading_app.command(rich_help_panel=NETWORKS, epilog="Example: tune-app inspect p75_w2_a8/model.mbq")(inspect)
reading_app.command(rich_help_panel=RESULTS, epilog="Example: tune-app epochs demo/demo --parquet epochs.parquet")(
    epochs
)
reading_app.command(rich_help_panel=NETWORKS, epilog="Example: tune-app verify demo/demo p75_w2_a8 --evaluate")(verify)
for reading in (reading_app, report_app, track_app):
    app.add_typer(reading)

SpecFile = Annotated[Path, typer.Argument(metavar="SPEC", help="YAML file of the experiment.", show_default=False)]
Experiment = Annotated[
    str,
    typer.Argument(metavar="EXPERIMENT", help="Folder or URI of the experiment, e.g. runs/demo.", show_default=False),
]


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="More detail on standard error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Results and errors alone.")] = False,
) -> None:
    """Search for the best small versions of a trained network: prune, quantize, pack, measure, on Ray."""
    if verbose and quiet:
        raise ConfigError("--verbose asks for more and --quiet for less: choose one of the two.")
    from tune_app.terminal.progress import Verbosity, set_verbosity

    set_verbosity(Verbosity.DETAILED if verbose else Verbosity.QUIET if quiet else Verbosity.NORMAL)


@app.command(rich_help_panel=SEARCH)
def demo(
    folder: Annotated[Path, typer.Option(help="Where the spec and the results go.")] = Path("demo"),
) -> None:
    """Search on a small data set, in minutes, with nothing to download."""
    from tune_app.cli.demo import next_commands, write_demo
    from tune_app.spec.yaml_file import load_spec

    started = time.monotonic()
    spec_file = write_demo(folder)
    print(spec_file.read_text())
    spec = load_spec(spec_file)
    search(spec)
    place, here = spec.folder, Path.cwd()
    experiment = str(place.relative_to(here) if isinstance(place, Path) and place.is_relative_to(here) else place)
    finalize(experiment)
    frontier(experiment)
    plot(experiment, output=str(folder / "frontier.png"))
    print(f"\n{time.monotonic() - started:.0f} s. Try next:")
    for command in next_commands(experiment, spec_file, spec.budget.trials):
        print(f"  {command}")


@app.command(rich_help_panel=SEARCH)
def baseline(spec: SpecFile) -> None:
    """Train the shared baseline, or import it; a second call finds it."""
    from tune_app.spec.yaml_file import load_spec

    loaded = load_spec(spec)
    from tune_app.run.search import run_baseline
    from tune_app.terminal.progress import console

    info = run_baseline(loaded, console=console())
    print(
        f"{info.title} of {loaded.name}: accuracy {100 * info.accuracy:.2f} % on {info.n} validation images, "
        f"{info.parameters:,} parameters, {info.size_bytes:,} bytes fp32"
    )
    if info.imported:
        print(f"{info.imported}. Check that the accuracy is the one that you know of it.")


@app.command(rich_help_panel=SEARCH, epilog="Example: tune-app plan demo/demo.yaml")
def plan(
    spec: SpecFile,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Say what a search would run, and the time and disk that it takes; nothing is written."""
    from tune_app.spec.yaml_file import load_spec

    loaded = load_spec(spec)
    from tune_app.cli.plan_output import print_plan
    from tune_app.stages.plan import read_plan

    print_plan(read_plan(loaded), json=json)


@app.command(rich_help_panel=SEARCH, epilog="Example: tune-app run demo/demo.yaml --trials 30")
def run(
    spec: SpecFile,
    trials: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Another budget than the spec's.")] = None,
    warm_start: Annotated[
        str | None, typer.Option(metavar="EXPERIMENT", help="Learn from this experiment, and take over its results.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run trials once more that an error or a lost worker ended.")
    ] = False,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Start Ray's dashboard too, on loopback.")] = False,
    in_process: Annotated[
        bool,
        typer.Option("--in-process", help="Trials one by one in this process, without Ray; for debuggers."),
    ] = False,
) -> None:
    """Start a search, or go on where it stopped."""
    from tune_app.spec.yaml_file import load_spec

    loaded = load_spec(spec)
    if trials is not None:
        budget = loaded.budget.model_copy(update={"trials": trials})
        loaded = loaded.model_copy(update={"budget": budget})
    if dashboard and in_process:
        raise ConfigError("--dashboard is Ray's, and --in-process runs without Ray: choose one of them.")
    search(loaded, warm_start=warm_start, retry_failed=retry_failed, dashboard=dashboard, in_process=in_process)


def search(
    spec: "ExperimentSpec",
    *,
    warm_start: str | None = None,
    retry_failed: bool = False,
    dashboard: bool = False,
    in_process: bool = False,
) -> None:
    """Runs a search and says how it ended."""
    from tune_app.ledger.folder import ExperimentFolder

    other = None if warm_start is None else ExperimentFolder.existing(warm_start)
    if other is not None and other.path.resolve() == spec.folder.resolve():
        raise ConfigError(f"--warm-start names this experiment itself ({other.path}): name another one.")
    from tune_app.run.outcome import summary
    from tune_app.run.search import run_search
    from tune_app.terminal.progress import console

    engine = _engine(dashboard=dashboard, in_process=in_process)
    view = console(plain=in_process)  # a panel that is drawn again and again would hide a debugger's prompt
    outcome = run_search(spec, engine=engine, warm_start=other, retry_failed=retry_failed, console=view)
    for name in outcome.quarantined:
        print(f"damaged record moved to trials/quarantine, its trial ran again: {name}", file=sys.stderr)
    print("\n".join(summary(outcome, spec)))


def _engine(*, dashboard: bool, in_process: bool) -> "Engine":
    if in_process:
        from tune_app.engine.in_process import InProcess

        return InProcess()
    from tune_app.on_ray.engine import OnRay

    return OnRay(dashboard=dashboard)


@app.command(rich_help_panel=CLUSTERS)
def doctor(
    spec: SpecFile,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Ask every node of the cluster whether a search can run; `run` does so before it starts."""
    from tune_app.cli.submit import doctor as examine
    from tune_app.spec.yaml_file import load_spec

    examine(load_spec(spec), json=json)


@app.command(rich_help_panel=CLUSTERS)
def submit(
    spec: SpecFile,
    backend: Annotated[str, typer.Option(help="local, ray, kuberay, aws or gcp.")] = "ray",
    address: Annotated[str, typer.Option(help="The cluster's, http://host:8265.  \\[default: RAY_ADDRESS]")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; send and write nothing.")] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for the files of kuberay, aws and gcp.")] = None,
) -> None:
    """Run a search on a cluster; once more, it goes on where it stopped."""
    from tune_app.cli.submit import submit as send
    from tune_app.spec.yaml_file import load_spec

    send(load_spec(spec), source=spec, backend=backend, address=address, dry_run=dry_run, output=output)


@app.command(rich_help_panel=CLUSTERS)
def dashboard(
    address: Annotated[str, typer.Option(help="The cluster's, http://host:8265.  \\[default: RAY_ADDRESS]")] = "",
    open: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    grafana: Annotated[Path | None, typer.Option(help="Write a dashboard for Grafana to this file.")] = None,
) -> None:
    """Say where the cluster's dashboard is, or write ours for the Grafana that it embeds."""
    if grafana is not None:
        from trainables.storage import replace
        from tune_app.on_ray.grafana import as_json

        replace(grafana, as_json().encode())
        print(grafana)
        return
    from cluster.ray_jobs import RayBackend
    from tune_app.terminal.progress import doing

    with doing("asking the cluster"):
        url = RayBackend(address).dashboard_url()
    print(url)
    if open:
        import webbrowser

        webbrowser.open(url)


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
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
    parquet: Annotated[str | None, typer.Option(metavar="FILE", help="Write the rows to a parquet file.")] = None,
    trace: Annotated[bool, typer.Option("--trace", help="How the frontier's hypervolume grew, by trial.")] = False,
) -> None:
    """Show the Pareto frontier."""
    from tune_app.cli.frames import write_frame
    from tune_app.tables.query import frontier_frame

    if trace:
        from tune_app.tables.growth import trace_frame

        if all or where or sort or limit:
            raise ConfigError("--trace shows every trial in its order: leave --all, --where, --sort and --limit out.")
        write_frame(trace_frame(experiment), json=json, csv=csv, parquet=parquet, title=f"hypervolume of {experiment}")
        return
    frame = frontier_frame(experiment, all=all, where=where, sort=sort, limit=limit)
    none = "no trial of the full schedule is complete and feasible yet; --all shows every trial, with reasons"
    if where.strip():
        none = f"no row satisfies {where!r}; shares such as accuracy lie between 0 and 1, sizes are bytes"
    elif all:
        none = "no trial has finished yet"
    title = f"{'trials' if all else 'frontier'} of {experiment}{_untrained(frame)}"
    write_frame(frame, json=json, csv=csv, parquet=parquet, title=title, none=none)


def _untrained(frame: "pd.DataFrame") -> str:
    """A mark for trials of a placeholder: they have a stage of this kind."""
    from tune_app.ledger.baseline import UNTRAINED

    return f" ({UNTRAINED})" if "seconds_untrained" in frame else ""


@app.command(rich_help_panel=RESULTS, epilog="Example: tune-app plot demo/demo --output frontier.svg")
def plot(
    experiment: Experiment,
    output: Annotated[str, typer.Option(metavar="FILE", help="PNG or SVG.")] = "frontier.png",
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
    print(
        f"test split, {final.baseline.n} images: baseline {100 * final.baseline.accuracy:.2f} %, "
        f"{points} frontier points evaluated{f' in {runs} runs' if runs > points else ''} (column test_accuracy)\n"
        f"validation minus test accuracy: frontier {100 * final.gap:+.2f} points on average, "
        f"baseline {100 * final.baseline_gap:+.2f}"
    )


@app.command(rich_help_panel=NETWORKS, epilog="Example: tune-app export demo/demo p75_w2_a8 --onnx")
def export(
    experiment: Experiment,
    trial: Annotated[
        str, typer.Argument(metavar="TRIAL", help="Label (p30_w4_a8) or id of a trial.", show_default=False)
    ],
    output: Annotated[str, typer.Option(help="Folder to write to.  \\[default: the trial's label]")] = "",
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx too, checked with onnxruntime.")] = False,
) -> None:
    """Write the packed file and the card of one point, and its ONNX file."""
    from trainables.storage import storage_path
    from tune_app.artifacts.export import export_onnx, export_trial, folder_name
    from tune_app.ledger.folder import ExperimentFolder
    from tune_app.ledger.reading import find_trial

    folder = ExperimentFolder.existing(experiment)
    record = find_trial(folder, trial)
    target = storage_path(output or folder_name(record))
    export_trial(folder, record, target)
    print(f"{target}/model.mbq: {record.metrics()['size_bytes']:,.0f} bytes, {record.assignment.label}")
    if onnx:
        result = export_onnx(folder, record, target)
        print(
            f"{target}/model.onnx: {result.size_bytes:,} bytes, accuracy {100 * result.accuracy:.2f} % "
            "on the validation split"
        )


@app.command(rich_help_panel=NETWORKS, epilog="Example: tune-app latency demo/demo p75_w2_a8 p50_w4_a8 --batch 1")
def latency(
    experiment: Experiment,
    trials: Annotated[
        list[str], typer.Argument(metavar="TRIAL", help="Labels (p30_w4_a8) or ids of trials.", show_default=False)
    ],
    runs: Annotated[int, typer.Option(min=1, help="Timed runs of each network and batch size.")] = 200,
    warmup: Annotated[int, typer.Option(min=1, help="Runs before these that are not timed.")] = 20,
    batch: Annotated[list[int], typer.Option(min=1, help="Batch size; may be given more than once.")] = [1, 64],  # noqa: B006
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """Time trials and the fp32 baseline in onnxruntime, by turns, on one thread of the CPU."""
    from tune_app.artifacts.latency import measure_trials, print_latency
    from tune_app.ledger.folder import ExperimentFolder

    folder = ExperimentFolder.existing(experiment)
    print_latency(measure_trials(folder, trials, batches=batch, runs=runs, warmup=warmup), json=json)


@app.command(rich_help_panel=TOOLS, epilog="Example: tune-app spaces mixed")
def spaces(
    name: Annotated[
        str, typer.Argument(metavar="SPACE", help="A space, to print as YAML; none: list all.", show_default=False)
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    """List the search spaces that a spec can name, or show one."""
    from tune_app.cli.spaces import print_spaces

    print_spaces(name, json=json)


def main() -> None:
    """Entry point: turns every error of ours into one line and its exit code."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (what is left to be flushed at exit goes here)
        sys.exit(OUTPUT_CLOSED)
    except SystemExit as end:
        # Typer and rich meet a closed pipe themselves, and exit with the code of a bug.
        sys.exit(OUTPUT_CLOSED if isinstance(end.__context__, BrokenPipeError) else end.code)
    except (TuneAppError, ClusterError) as err:
        print(f"error: {err}", file=sys.stderr)
        sys.exit(err.exit_code)
    except Interrupted as err:
        again = " ".join(["tune-app", *sys.argv[1:]])
        print(f"stopped by {err}. Finished trials are kept; go on with: {again}", file=sys.stderr)
        sys.exit(err.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
