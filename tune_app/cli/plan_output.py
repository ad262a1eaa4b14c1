"""A plan on the terminal: rungs, stages, and what is still to come."""

from tune_app.stages.plan import Plan, StagePlan
from tune_app.terminal.table import print_table

ABSENT = "–"
UNKNOWN = "unknown"


def print_plan(plan: Plan, *, json: bool) -> None:
    """Lines and a table for people, or JSON alone."""
    if json:
        print(plan.model_dump_json(indent=1))
        return
    print(f"{plan.name}: {plan.points:,} points; budget {plan.trials:,} trials, {plan.done:,} done")
    for rung in plan.rungs:
        print(f"rung {rung.name}: {rung.epochs:,} epochs, {rung.trials:,} trials, {rung.done:,} done")
    if plan.repeats:
        print("repeats: further runs of points that may be on the frontier are not counted here")
    if plan.sampled:
        print(f"stages are counted over a sample of {plan.counted:,} points")
    _print_stages(plan)
    least, missing = ("at least ", f"; nobody has measured {', '.join(plan.unknown)}") if plan.unknown else ("", "")
    print(f"\nstill to run: {least}{plan.seconds:,.0f} s of stages, all workers together{missing}")
    artifacts = UNKNOWN if plan.more_artifacts_bytes is None else f"{plan.more_artifacts_bytes:,.0f}"
    print(
        f"disk: stages {plan.stages_bytes:,} bytes, {least}{plan.more_stages_bytes:,.0f} more to come; "
        f"artifacts {plan.artifacts_bytes:,} bytes, {artifacts} more to come"
    )


def _print_stages(plan: Plan) -> None:
    heads = ("stage", "distinct", "in cache", "to make", "seconds each", "seconds", "bytes each")
    rows = [
        (stage.label, f"{stage.distinct:,}", f"{stage.cached:,}", f"{stage.to_make:,.1f}", *_costs(stage))
        for stage in plan.stages
    ]
    print()
    print_table(heads, rows, left=("stage",))


def _costs(stage: StagePlan) -> tuple[str, str, str]:
    """Seconds of one and of all that are to be made, and bytes of one."""
    size = UNKNOWN if stage.bytes_each is None else f"{stage.bytes_each:,.0f}"
    if stage.seconds_each is None:
        return UNKNOWN, UNKNOWN if stage.to_make else ABSENT, size
    return f"{stage.seconds_each:,.1f}", f"{stage.to_make * stage.seconds_each:,.1f}", size
