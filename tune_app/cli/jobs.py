"""`tune-app jobs`: what was submitted, and how it goes."""

import json as json_text
import os
import sys
from typing import Annotated

import typer

from cluster.job import Backend, JobHandle
from tune_app.terminal.progress import Verbosity, doing, verbosity
from tune_app.terminal.table import print_table

app = typer.Typer(no_args_is_help=True, help="See, follow and stop what was submitted.")
BackendName = Annotated[
    str, typer.Option("--backend", help="local or ray.  \\[default: ray if an address is known, else local]")
]
Address = Annotated[str, typer.Option(help="The cluster's, http://host:8265.  \\[default: RAY_ADDRESS]")]
Name = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job, or name of an experiment.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def open_backend(name: str, address: str) -> Backend:
    """The backend that follows jobs; which cluster it speaks to is said on standard error, if not to be quiet.

    Raises:
        ClusterError: there is none of this name, or it only makes plans.
    """
    from cluster import load
    from cluster.errors import PlanRefused
    from cluster.ray_jobs import ADDRESSES

    chosen = name or ("ray" if address or any(os.environ.get(each) for each in ADDRESSES) else "local")
    kind = load(chosen)
    if chosen not in ("local", "ray"):
        raise PlanRefused(f"--backend {chosen} only makes plans; jobs are followed with --backend ray --address URL.")
    backend = kind(address)
    assert isinstance(backend, Backend), "local and ray follow jobs"
    where = getattr(backend, "address", "this machine")
    if verbosity() > Verbosity.QUIET:
        print(f"cluster: {where}", file=sys.stderr)
    return backend


@app.command("list")
def list_jobs(backend: BackendName = "", address: Address = "", json: Json = False) -> None:
    """Show the jobs that a cluster knows, the newest first."""
    opened = open_backend(backend, address)
    with doing("asking the cluster"):
        rows = [_row(job, opened) for job in opened.list()]
    if json:
        print(json_text.dumps(rows, indent=1))
        return
    heads = ("job", "experiment", "state")
    print_table(heads, [tuple(row[head] for head in heads) for row in rows], left=heads)


@app.command()
def status(job: Name, backend: BackendName = "", address: Address = "", json: Json = False) -> None:
    """Say how far a job is: pending, running, succeeded, failed or stopped."""
    opened = open_backend(backend, address)
    with doing("asking the cluster"):
        row = _row(_find(job, opened), opened)
    print(json_text.dumps(row, indent=1) if json else row["state"])


@app.command()
def logs(
    job: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job ends.")] = False,
    backend: BackendName = "",
    address: Address = "",
) -> None:
    """Print what the driver of a job printed."""
    opened = open_backend(backend, address)
    for piece in opened.logs(_find(job, opened), follow=follow):
        sys.stdout.write(piece)
        sys.stdout.flush()


@app.command()
def stop(job: Name, backend: BackendName = "", address: Address = "") -> None:
    """End a job as Ctrl-C does; what is finished stays, and a new submission goes on."""
    opened = open_backend(backend, address)
    with doing("asking the cluster"):
        found = _find(job, opened)
        state = opened.status(found)
        if not state.is_final:
            opened.stop(found)
    if state.is_final:
        print(f"{found.submission_id} ended before: {state}")
        return
    print(f"{found.submission_id}: stop signal sent; finished trials are kept")


def _find(name: str, backend: Backend) -> JobHandle:
    from tune_app.run.submission import find_job

    return find_job(backend.list(), name)


def _row(job: JobHandle, backend: Backend) -> dict[str, str]:
    return {"job": job.submission_id, "experiment": job.experiment, "state": str(backend.status(job))}
