"""The choice of one point of the frontier for a purpose, and the reason for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainables.errors import ConfigError, CorruptFile
from trainables.quantities import parse_points, parse_ratio, parse_size
from trainables.storage import StoragePath, exists
from tune_app.findings.frontier_points import FrontierPoint, costs_of_points, points_of
from tune_app.frontier.pareto import knee
from tune_app.ledger.baseline import BaselineInfo, read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.reading import made_again_by
from tune_app.spec.experiment import ExperimentSpec
from tune_app.tables.at_rest import known_trials
from tune_app.tables.query import select
from tune_app.terminal.quantities import show_ratio, show_share, show_size


@dataclass(frozen=True)
class Wish:
    """The bounds that a chosen point has to keep. Without any bound the knee is chosen."""

    max_drop: float | None = None
    """Accuracy below the baseline's at most, as a share."""
    max_bytes: int | None = None
    min_ratio: float | None = None
    where: str = ""
    """An SQL condition, as in `query.select`."""
    knee: bool = False
    """Whether the knee of what keeps the bounds is wanted, not the best of it."""

    @classmethod
    def read(
        cls,
        *,
        max_drop: float | str | None = None,
        max_bytes: int | str | None = None,
        min_ratio: float | str | None = None,
        where: str = "",
        knee: bool = False,
    ) -> "Wish":
        """Returns the bounds that are given as numbers, or as people write them: `1pp`, `50KB`, `10x`.

        Raises:
            ConfigError: a text is no such quantity, or a number is none that the bound can have.
        """
        drop = parse_points(max_drop) if isinstance(max_drop, str) else max_drop
        most = parse_size(max_bytes) if isinstance(max_bytes, str) else max_bytes
        ratio = parse_ratio(min_ratio) if isinstance(min_ratio, str) else min_ratio
        if drop is not None and not 0 <= drop < 1:
            raise ConfigError(f"0 <= max_drop < 1 must hold, a share, but got {drop}: 0.01 or '1pp' is one point.")
        if most is not None and not most >= 0:
            raise ConfigError(f"max_bytes >= 0 must hold, but got {most}.")
        if ratio is not None and not ratio > 0:
            raise ConfigError(f"min_ratio > 0 must hold, but got {ratio}.")
        return cls(drop, most, ratio, where, knee)


@dataclass(frozen=True)
class Pick:
    """A chosen point, and the reason."""

    point: FrontierPoint
    why: str
    artifact: StoragePath
    """Where its packed file is."""
    drop: float | None
    """Accuracy below the baseline's, as a share; None without a baseline."""


def pick(folder: ExperimentFolder, wish: Wish) -> Pick:
    """Chooses the point of the frontier that serves a purpose best.

    With a bound on the size (`max_bytes`, `min_ratio`) the most accurate point that keeps it; with a bound on the
    drop the smallest; with both, with neither, or if asked for, the knee (`frontier.knee`) of what keeps them.

    Raises:
        ConfigError: no point keeps the bounds, or there is none yet; the condition is refused.
        CorruptFile: the stored spec or baseline is damaged, or the packed file of the chosen point is gone.
        StorageUnavailable: a file cannot be read.
    """
    spec, baseline, table = folder.read_spec(), read_baseline(folder), known_trials(folder)
    everyone = points_of(table, spec)
    if not everyone:
        raise ConfigError(f"{folder.path} has no frontier yet: no trial of the full schedule is complete and feasible.")
    left = everyone
    if wish.where.strip():
        kept_ids = set(select(table.filter(table["on_frontier"]), wish.where)["trial_id"].to_pylist())
        left = [point for point in everyone if point.trial_id in kept_ids]
    if not left:
        raise ConfigError(f"none of {len(everyone)} frontier points satisfies {wish.where!r}: loosen the condition.")
    bounds = _bounds(wish, baseline, folder)
    for bound in bounds:
        kept = [point for point in left if bound.keeps(point)]
        if not kept:
            raise ConfigError(f"none of {len(left)} frontier points is {bound.missed_by(left)}.")
        left = kept
    chosen, rule = _choose(left, wish, spec)
    among = f"{len(everyone)} frontier points"
    if bounds or wish.where.strip():
        kept_bounds = f" that are {', '.join(bound.text() for bound in bounds)}" if bounds else ""
        condition = f" where {' '.join(wish.where.split())}" if wish.where.strip() else ""
        among = f"{len(left)} (of {len(everyone)}) frontier points{kept_bounds}{condition}"
    drop = None if baseline is None else baseline.accuracy - chosen.values["accuracy"]
    artifact = folder.packed_file(chosen.trial_id)
    if not exists(artifact):
        way_out = made_again_by(folder, chosen.label)
        raise CorruptFile(f"the packed file of {chosen.label}, {rule} of {among}, is gone: {way_out}.")
    return Pick(chosen, f"{rule} of {among}", artifact, drop)


@dataclass(frozen=True)
class _Bound:
    """A bound on a column: which points keep it, and what to say when none does."""

    column: str
    limit: float
    words: str
    """What a point that keeps it is, with a place for `shown`."""
    shown: float

    def keeps(self, point: FrontierPoint) -> bool:
        value = point.values[self.column]
        # A share of n images is a fraction: what lies on the bound keeps it.
        return value <= self.limit if self.column == "size_bytes" else value >= self.limit - 1e-12

    def text(self, *, exact: bool = False) -> str:
        return self.words.format(_shown(self.column, self.shown, exact=exact))

    def missed_by(self, points: Sequence[FrontierPoint]) -> str:
        """Says what was wanted and which of the points comes nearest, in exact numbers where rounded ones are equal."""
        if self.column == "accuracy":
            which, point = "most accurate", max(points, key=lambda p: p.values["accuracy"])
        else:
            which, point = "smallest", min(points, key=lambda p: p.values["size_bytes"])
        exact = _shown(self.column, self.limit) == _shown(self.column, point.values[self.column])
        names = ["accuracy"] if self.column == "accuracy" else ["size_bytes", "compression_ratio"]
        value, *more = (_shown(name, point.values[name], exact=exact) for name in names)
        return f"{self.text(exact=exact)}: the {which}, {point.label}, has {value}{''.join(f' ({m})' for m in more)}"


def _shown(column: str, value: float, *, exact: bool = False) -> str:
    if column == "size_bytes":
        return f"{value:,.15g} bytes" if exact else show_size(value)
    if column == "compression_ratio":
        return f"{float(value)!r}x" if exact else show_ratio(value)
    return f"{100 * value:.13g} %" if exact else show_share(value)


def _bounds(wish: Wish, baseline: BaselineInfo | None, folder: ExperimentFolder) -> list[_Bound]:
    found = []
    if wish.max_bytes is not None:
        found.append(_Bound("size_bytes", wish.max_bytes, "at most {}", wish.max_bytes))
    if wish.min_ratio is not None:
        found.append(_Bound("compression_ratio", wish.min_ratio, "at least {} smaller", wish.min_ratio))
    if wish.max_drop is not None:
        if baseline is None:
            raise ConfigError(f"{folder.path} has no baseline yet, so there is no drop: run `tune-app run` first.")
        words = f"within {100 * wish.max_drop:.12g} pp of the baseline's {{}}"
        found.append(_Bound("accuracy", baseline.accuracy - wish.max_drop, words, baseline.accuracy))
    return found


def _choose(left: Sequence[FrontierPoint], wish: Wish, spec: ExperimentSpec) -> tuple[FrontierPoint, str]:
    small = wish.max_bytes is not None or wish.min_ratio is not None
    if wish.knee or small == (wish.max_drop is not None):
        place = knee(costs_of_points(left, spec))
        assert place is not None, "there is a point"
        return left[place], "the knee"
    if small:
        return max(left, key=lambda p: (p.values["accuracy"], -p.values["size_bytes"])), "the most accurate"
    return min(left, key=lambda p: (p.values["size_bytes"], -p.values["accuracy"])), "the smallest"
