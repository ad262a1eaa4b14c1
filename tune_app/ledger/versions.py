"""Plug-ins: every registry, the installed packages whose names a spec uses, and the versions that results are of."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.credentials import strings_in
from search_spaces.samplers import SAMPLERS
from trainables.config import TrialConfig, plugins, trial_packages
from trainables.errors import ConfigError, InfeasiblePoint
from trainables.registry import Registry
from tune_app.ledger.ledger import TrialRecord
from tune_app.spec.experiment import ExperimentSpec

REGISTRIES: list[Registry[Any]] = [*(each for each in vars(plugins).values() if isinstance(each, Registry)), SAMPLERS]


def packages_of(content: object) -> list[str]:
    """Lists the packages that bring a plug-in that is named somewhere in a JSON value, sorted."""
    words = {text for _, text in strings_in(content)}
    points = [point for registry in REGISTRIES for point in registry.installed().values()]
    return sorted({point.dist.name for point in points if point.name in words and point.dist})


def plug_ins_of(config: TrialConfig) -> str:
    """Names the packages whose plug-ins make a trial, as installed here: `own-plug-ins 1.0`; empty: there are none."""
    return ", ".join(trial_packages(config))


def may_differ(made_by: object) -> bool:
    """Whether versions are to be compared: plug-ins made a result (`made_by` is true), or some are installed here."""
    return bool(made_by) or any(registry.installed() for registry in REGISTRIES)


def refuse_other_versions(records: Iterable[TrialRecord], spec: ExperimentSpec) -> None:
    """Refuses to go on where results would not mean the same as those that are there.

    A trial of other versions has another key: it would run again beside its old result.

    Raises:
        ConfigError: a complete trial of the space was made by other versions of plug-ins than are installed here.
    """
    for record in records:
        work, made_by = record.assignment, record.environment.get("plug_ins", "")
        if record.state != "complete" or not may_differ(made_by):
            continue
        if work.rung not in spec.rungs or not spec.has_point(work.params):
            continue
        try:
            here = plug_ins_of(spec.trial(work.params, work.rung, repeat=work.repeat))
        except InfeasiblePoint:
            here = ""
        if here != made_by:
            raise ConfigError(
                f"an experiment keeps the versions of its plug-ins, but {work.label} of {spec.name!r} was made by "
                f"{made_by or 'no version that it noted'} and here is {here or 'no plug-in'}: install what made it, or "
                "give this spec another name and --warm-start from the old one."
            )


def installed_version(package: str) -> str:
    """Returns the version of a package; "none" where it is not installed, or nothing says which version it is."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
