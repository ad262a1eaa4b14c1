"""The commands of the panel "Clusters": doctor, submit, dashboard, jobs."""

import contextlib
import json as json_text
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainables.errors import ConfigError
from tune_app.cli.options import CLUSTERS, Address, Json, Settings, SpecFile, argument
from tune_app.errors import ClusterUnavailable
from tune_app.terminal.progress import Verbosity, doing, verbosity
from tune_app.terminal.table import print_table

if TYPE_CHECKING:
    from cluster.job import Backend, JobHandle, SubmitPlan
    from cluster.ray_jobs import RayBackend

LOOK_EVERY_S = 1.0
"""Seconds between two looks at what was started, and at Ray; a person who ends it waits no longer."""
NO_GRAFANA = "Grafana: none runs, and none is installed (no program `grafana`): Ray's dashboard shows no charts"
SENDING = ("local", "ray")
"""Backends that send jobs and follow them; the others write plans for a person."""

app = typer.Typer()
jobs = typer.Typer(no_args_is_help=True, help="See, follow and stop what was submitted.")
app.add_typer(jobs, name="jobs", rich_help_panel=CLUSTERS)

BackendName = Annotated[
    str, typer.Option("--backend", help="local or ray.  \\[default: ray if an address is known, else local]")
]
Job = Annotated[str, argument("JOB", "Id of a job, or name of an experiment.")]


@app.command(rich_help_panel=CLUSTERS)
def doctor(spec: SpecFile, set: Settings = None, json: Json = False) -> None:
    """Ask every node of the cluster whether a search can run; `run` does so before it starts."""
    from tune_app.spec.yaml_file import load_spec

    loaded = load_spec(spec, set or ())
    from tune_app.engine.preflight import refuse
    from tune_app.on_ray.node_probes import check_cluster
    from tune_app.on_ray.session import ray_session

    with doing("starting or joining Ray, and asking every node"), ray_session():
        found = check_cluster(loaded)
    if json:
        print(json_text.dumps([finding.model_dump() for finding in found], indent=1))
    else:
        heads = ("rule", "holds", "found")
        rows = [(finding.rule, "yes" if finding.holds else "NO", finding.found) for finding in found]
        print_table(heads, rows, left=heads, folded=("found",))
    sys.stdout.flush()
    refuse(found)


@app.command(rich_help_panel=CLUSTERS)
def submit(
    spec: SpecFile,
    set: Settings = None,
    backend: Annotated[str, typer.Option(help="local, ray, kuberay, aws or gcp.")] = "ray",
    address: Address = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan, on a cluster that of a first job; send and write nothing."),
    ] = False,
    output: Annotated[Path | None, typer.Option(help="Folder for the files of kuberay, aws and gcp.")] = None,
) -> None:
    """Run a search on a cluster; once more, it goes on where it stopped."""
    from cluster import load
    from cluster.errors import PlanRefused
    from cluster.local import LocalBackend
    from cluster.ray_jobs import values_of
    from tune_app.run.submission import job_of, jobs_command, next_attempt
    from tune_app.spec.yaml_file import load_spec

    loaded, planner, sends = load_spec(spec, set or ()), load(backend), backend in SENDING
    if address and not sends:
        raise PlanRefused("an address is of a cluster that is there: use --backend ray, or leave it out.")
    if output is not None and (sends or dry_run):
        why = "--dry-run prints the plan" if dry_run else f"--backend {backend} sends the job"
        raise PlanRefused(f"{why} and writes no files: leave --output out.")
    if dry_run or not sends:  # asks no cluster
        chosen = planner(address) if sends else planner()
        attempt = next_attempt(chosen, loaded.name) if isinstance(chosen, LocalBackend) else 1
        plan = chosen.plan(job_of(loaded, attempt=attempt))
        if dry_run:
            values_of(plan.env if backend == "ray" else ())  # refuses as the submission would
            print(plan.to_yaml(), end="")
        else:
            _write(plan, output or Path(f"{loaded.name}-{backend}"), spec)
        return
    opened = _open_backend(backend, address)
    with doing("submitting"):
        handle = opened.submit(opened.plan(job_of(loaded, attempt=next_attempt(opened, loaded.name))))
    print(f"{handle.submission_id} submitted; results go to {loaded.storage}. Try next:")
    for verb, *options in (["logs", "--follow"], ["status"], ["stop"]):
        print(f"  {jobs_command(handle, verb, *options)}")


@app.command(rich_help_panel=CLUSTERS)
def dashboard(
    address: Address = "",
    open: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Find or start Prometheus and Grafana for it, until Ctrl-C.")
    ] = False,
    grafana: Annotated[Path | None, typer.Option(help="Write a dashboard for Grafana to this file.")] = None,
) -> None:
    """Say where the cluster's dashboard is; give it its charts, or write ours for a Grafana elsewhere."""
    if grafana is not None:
        if metrics or open or address:
            raise ConfigError("--grafana writes a file, and asks no cluster: leave the other options out.")
        from tune_app.on_ray.grafana import write_dashboard

        write_dashboard(grafana)
        print(grafana)
        return
    from cluster.errors import ClusterUnreachable
    from cluster.ray_jobs import RayBackend

    backend = RayBackend(address)
    try:
        with doing("asking the cluster"):
            url = backend.dashboard_url()
    except ClusterUnreachable as err:
        raise ClusterUnreachable(
            f"{err} A search on this machine has one with `tune-app run SPEC --dashboard`."
        ) from err
    print(url, flush=True)
    if open:
        import webbrowser

        webbrowser.open(url)
    if metrics:
        _serve_metrics(backend)


@jobs.command("list")
def list_jobs(backend: BackendName = "", address: Address = "", json: Json = False) -> None:
    """Show the jobs that a cluster knows, the newest first."""
    opened = _open_backend(backend, address)
    with doing("asking the cluster"):
        rows = [_row(job, opened) for job in opened.list()]
    if json:
        print(json_text.dumps(rows, indent=1))
        return
    heads = ("job", "experiment", "state")
    print_table(heads, [tuple(row[head] for head in heads) for row in rows], left=heads)


@jobs.command()
def status(job: Job, backend: BackendName = "", address: Address = "", json: Json = False) -> None:
    """Say how far a job is: pending, running, succeeded, failed or stopped."""
    opened = _open_backend(backend, address)
    with doing("asking the cluster"):
        row = _row(_find(job, opened), opened)
    print(json_text.dumps(row, indent=1) if json else row["state"])


@jobs.command()
def logs(
    job: Job,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends.")] = False,
    backend: BackendName = "",
    address: Address = "",
) -> None:
    """Print what the driver of a job printed."""
    opened = _open_backend(backend, address)
    for piece in opened.logs(_find(job, opened), follow=follow):
        print(piece, end="", flush=True)


@jobs.command()
def stop(job: Job, backend: BackendName = "", address: Address = "") -> None:
    """End a job as Ctrl-C does; what is finished stays, and a new submission goes on."""
    opened = _open_backend(backend, address)
    with doing("asking the cluster"):
        found = _find(job, opened)
        state = opened.status(found)
        if not state.is_final:
            opened.stop(found)
    said = f" ended before: {state}" if state.is_final else ": stop signal sent; finished trials are kept"
    print(f"{found.submission_id}{said}")


def _open_backend(name: str, address: str) -> "Backend":
    """Opens the backend that follows jobs; says on standard error which cluster that is, unless it is to be quiet."""
    from cluster import load
    from cluster.errors import PlanRefused
    from cluster.job import Backend
    from cluster.ray_jobs import ADDRESSES

    chosen = name or ("ray" if address or any(os.environ.get(each) for each in ADDRESSES) else "local")
    kind = load(chosen)
    if chosen not in SENDING:
        raise PlanRefused(f"--backend {chosen} only makes plans; jobs are followed with --backend ray --address URL.")
    backend = kind(address)
    assert isinstance(backend, Backend), "local and ray follow jobs"
    if verbosity() > Verbosity.QUIET:
        print(f"cluster: {getattr(backend, 'address', 'this machine')}", file=sys.stderr)
    return backend


def _serve_metrics(backend: "RayBackend") -> None:
    """Gives a cluster Prometheus and Grafana, as long as both are wanted."""
    from tune_app.engine.stop_signal import handled_by
    from tune_app.on_ray.metrics_servers import Server, dashboard_url, is_there, metrics_servers

    came: list[int] = []
    with handled_by(lambda number, _: came.append(number)), contextlib.ExitStack() as running:
        with doing("finding or starting Prometheus and Grafana"):
            servers = running.enter_context(metrics_servers(backend.session_folder()))
        for server in servers:
            print(f"{server.name}: {server.url}, {server.state}")
        grafana = [server for server in servers if server.name == "Grafana"]
        print(f"our dashboard: {dashboard_url(grafana[0])}" if grafana else NO_GRAFANA, flush=True)
        ours: list[Server] = [server for server in servers if server.process is not None]
        if ours:
            print("Ctrl-C ends what was started", file=sys.stderr, flush=True)
        while ours and not came:
            time.sleep(LOOK_EVERY_S)
            for server in ours:
                if not server.runs:
                    raise ClusterUnavailable(f"{server.name} has ended by itself: run this again.")
            if not is_there(backend.address):
                print("Ray has ended, and so does what was started for it", file=sys.stderr)
                break
    if came and came[0] != signal.SIGINT:
        raise typer.Exit(128 + came[0])


def _write(plan: "SubmitPlan", folder: Path, source: Path) -> None:
    """Writes the files of a plan, unless one of them would overwrite the spec that it was read from."""
    from cluster.errors import PlanRefused
    from cluster.working_dir import write_files

    if source.resolve() in {(folder / name).resolve() for name in plan.files}:
        raise PlanRefused(f"the plan in {folder} would overwrite the spec {source}: name another folder by --output.")
    write_files(plan, folder)
    print(f"written to {folder}: {', '.join(plan.files)}. Nothing was started; in that folder, run:")
    for line in plan.commands:
        print(f"  {line}")


def _find(name: str, backend: "Backend") -> "JobHandle":
    """Returns the job of this id, or the newest one of the experiment of this name."""
    from tune_app.run.submission import find_job

    return find_job(backend.list(), name)


def _row(job: "JobHandle", backend: "Backend") -> dict[str, str]:
    """Returns what people and programs are told of a job."""
    return {"job": job.submission_id, "experiment": job.experiment, "state": str(backend.status(job))}
