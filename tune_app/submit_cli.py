"""`tune-app submit` and `tune-app doctor`: a search on other machines, and whether it can run there."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.job import SubmitPlan
    from tune_app.experiment import ExperimentSpec


def submit(spec: "ExperimentSpec", *, backend: str, address: str, dry_run: bool, output: Path | None) -> None:
    """Sends a search, or writes what a person needs to send it.

    Raises:
        ClusterError: it cannot run there, or the cluster does not take it.
        LeaseHeld: a job of this experiment still runs there.
    """
    from cluster import load
    from tune_app.submission import job_of, next_attempt

    planner = load(backend)
    if backend not in ("local", "ray"):
        plan = planner().plan(job_of(spec, attempt=1))
        print(plan.to_yaml(), end="") if dry_run else _write(plan, output or Path(f"{spec.name}-{backend}"))
        return
    if dry_run:  # asks no cluster
        print(planner(address).plan(job_of(spec, attempt=1)).to_yaml(), end="")
        return
    from tune_app.jobs_cli import open_backend

    opened = open_backend(backend, address)
    handle = opened.submit(opened.plan(job_of(spec, attempt=next_attempt(opened, spec.name))))
    print(f"{handle.submission_id} submitted; results go to {spec.storage}. Try next:")
    where = f" --backend {backend}" + (f" --address {address}" if address else "")
    for command in ("logs --follow", "status", "stop"):
        verb, *options = command.split()
        print(f"  tune-app jobs {' '.join([verb, spec.name, *options])}{where}")


def _write(plan: "SubmitPlan", folder: Path) -> None:
    from cluster.working_dir import write_files

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

    from tune_app.preflight import refuse
    from tune_app.probes import check_cluster
    from tune_app.session import ray_session
    from tune_app.text_table import print_table

    with ray_session():
        found = check_cluster(spec)
    if json:
        print(json_text.dumps([finding.model_dump() for finding in found], indent=1))
    else:
        rows = [(finding.rule, "yes" if finding.holds else "NO", finding.found) for finding in found]
        print_table(("rule", "holds", "found"), rows, left=("rule", "holds", "found"))
    sys.stdout.flush()
    refuse(found)
