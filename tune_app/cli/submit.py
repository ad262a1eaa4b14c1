"""`tune-app submit` and `tune-app doctor`: a search on other machines, and whether it can run there."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.job import SubmitPlan
    from tune_app.spec.experiment import ExperimentSpec


def submit(
    spec: "ExperimentSpec", *, source: Path, backend: str, address: str, dry_run: bool, output: Path | None
) -> None:
    """Sends a search, or writes what a person needs to send it; `source` is the file that the spec was read from.

    Raises:
        ClusterError: it cannot run there, or the cluster does not take it.
        LeaseHeld: a job of this experiment still runs there.
    """
    from cluster import load
    from cluster.errors import PlanRefused
    from tune_app.run.submission import job_of, next_attempt

    planner, sends = load(backend), backend in ("local", "ray")
    if address and not sends:
        raise PlanRefused("an address is of a cluster that is there: use --backend ray, or leave it out.")
    if output is not None and (sends or dry_run):
        why = "--dry-run prints the plan" if dry_run else f"--backend {backend} sends the job"
        raise PlanRefused(f"{why} and writes no files: leave --output out.")
    if not sends:
        plan = planner().plan(job_of(spec, attempt=1))
        if dry_run:
            print(plan.to_yaml(), end="")
        else:
            _write(plan, output or Path(f"{spec.name}-{backend}"), source)
        return
    if dry_run:  # asks no cluster
        print(planner(address).plan(job_of(spec, attempt=1)).to_yaml(), end="")
        return
    from tune_app.cli.jobs import open_backend
    from tune_app.terminal.progress import doing

    opened = open_backend(backend, address)
    with doing("submitting"):
        handle = opened.submit(opened.plan(job_of(spec, attempt=next_attempt(opened, spec.name))))
    print(f"{handle.submission_id} submitted; results go to {spec.storage}. Try next:")
    where = ["--backend", backend, *(["--address", address] if address else [])]
    for verb, *options in (["logs", "--follow"], ["status"], ["stop"]):
        print(f"  {shlex.join(['tune-app', 'jobs', verb, spec.name, *options, *where])}")


def _write(plan: "SubmitPlan", folder: Path, source: Path) -> None:
    from cluster.errors import PlanRefused
    from cluster.working_dir import write_files

    if source.resolve() in {(folder / name).resolve() for name in plan.files}:
        raise PlanRefused(f"the plan in {folder} would overwrite the spec {source}: name another folder by --output.")
    write_files(plan, folder)
    print(f"written to {folder}: {', '.join(plan.files)}. Nothing was started; in that folder, run:")
    for command in plan.commands:
        print(f"  {command}")


def doctor(spec: "ExperimentSpec", *, json: bool) -> None:
    """Asks the cluster of RAY_ADDRESS, or a Ray that is started here for that, whether a search can run.

    Raises:
        TuneAppError: the first rule that does not hold.
    """
    import json as json_text

    from tune_app.engine.preflight import refuse
    from tune_app.on_ray.node_probes import check_cluster
    from tune_app.on_ray.session import ray_session
    from tune_app.terminal.progress import doing
    from tune_app.terminal.table import print_table

    with doing("starting or joining Ray, and asking every node"), ray_session():
        found = check_cluster(spec)
    if json:
        print(json_text.dumps([finding.model_dump() for finding in found], indent=1))
    else:
        rows = [(finding.rule, "yes" if finding.holds else "NO", finding.found) for finding in found]
        print_table(("rule", "holds", "found"), rows, left=("rule", "holds", "found"))
    sys.stdout.flush()
    refuse(found)
