"""Whether what a spec judges by is measured: defined for the classes, and in the records that are there."""

from collections.abc import Iterable

from trainables.errors import ConfigError
from trainables.results import TOP
from tune_app.ledger.ledger import TrialRecord
from tune_app.spec.experiment import ExperimentSpec


def refuse_undefined(spec: ExperimentSpec, *, classes: int) -> None:
    """Refuses an objective or a bound that has no value for so many classes.

    Raises:
        ConfigError: it is `top5_accuracy`, and there are five classes or fewer.
    """
    if "top5_accuracy" in spec.metrics and classes <= TOP:
        raise ConfigError(
            f"top5_accuracy as an objective or bound needs more than {TOP} classes, but {spec.base.data.name!r} has "
            f"{classes}: take accuracy or balanced_accuracy."
        )


def refuse_unmeasured(spec: ExperimentSpec, records: Iterable[TrialRecord]) -> None:
    """Refuses to go on by a column that results of an older version of this package lack.

    Raises:
        ConfigError: a complete trial has no value of an objective or of a bounded column.
    """
    for record in records:
        known = record.metrics()
        lacking = [name for name in spec.metrics if name not in known]
        if lacking and record.state == "complete":
            raise ConfigError(
                f"an objective or bound needs a value in every result, but {record.assignment.label} of {spec.name!r} "
                f"has no {lacking[0]}, as results of older versions do not. Leave {lacking[0]} out, or give this spec "
                "another name: it then begins anew."
            )
