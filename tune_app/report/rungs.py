"""How the ranks of each rung agree with those of the next one: the pairs, and their rank correlation."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_app.drawing.axis import Axis, axis_of
from tune_app.drawing.frontier_info import REFUSED, STANDINGS, Standing, refusal
from tune_app.frontier.objectives import judged
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure, guide, refused_marker
from tune_app.search.ladder import agreements
from tune_app.tables.columns import short
from tune_app.terminal.quantities import show_count


@dataclass(frozen=True)
class RefusedPair:
    """A point that was measured at both rungs, and is no result at one of them at least; it has no part in ranks."""

    standing: Standing
    low: float
    high: float
    row: int


@dataclass(frozen=True)
class RungPairs:
    """Points that ran at two rungs, and their values of one objective at both.

    `correlation` is Spearman's; None where a side does not vary.
    """

    rung: str
    above: str
    axis: Axis
    low: tuple[float, ...]
    high: tuple[float, ...]
    rows: tuple[int, ...]
    """The rows of the trials at the upper rung."""
    refused: tuple[RefusedPair, ...]
    correlation: float | None
    dropped: bool
    """Whether the rung is skipped, since for some objective its ranks agree too little."""


def rung_pairs(contents: Contents) -> list[RungPairs]:
    """Returns the pairs of each rung below the full schedule and each objective; empty without rungs or a baseline."""
    spec, reference = contents.spec, contents.reference
    if spec.fidelity is None or reference is None:
        return []
    runs = {
        (record.assignment.rung, record.assignment.config_key): i
        for i, record in enumerate(contents.records)
        if record.assignment.repeat == 0 and judged(record, spec)
    }
    found = []
    for agreement in agreements(contents.records, spec, reference):
        keys = [key for rung, key in runs if rung == agreement.rung and (agreement.above, key) in runs]
        rows = tuple(runs[agreement.above, key] for key in keys)
        below = [contents.records[runs[agreement.rung, key]].metrics() for key in keys]
        above = [contents.records[row].metrics() for row in rows]
        for name, rho in agreement.correlation.items():
            low, high = tuple(metrics[name] for metrics in below), tuple(metrics[name] for metrics in above)
            refused = _refused(contents, agreement.rung, agreement.above, name)
            values = [*low, *high] or [value for pair in refused for value in (pair.low, pair.high)]
            pairs = RungPairs(
                rung=agreement.rung,
                above=agreement.above,
                axis=axis_of(name, spec, values),
                low=low,
                high=high,
                rows=rows,
                refused=refused,
                correlation=rho,
                dropped=agreement.dropped,
            )
            found.append(pairs)
    return found


def _refused(contents: Contents, rung: str, above: str, metric: str) -> tuple[RefusedPair, ...]:
    """Returns the points that were measured at two rungs, and are refused at one of them."""
    at = {
        (r.assignment.rung, r.assignment.config_key): i
        for i, r in enumerate(contents.records)
        if not r.assignment.repeat
    }
    found = []
    for (name, key), row in at.items():
        if name != above or (rung, key) not in at:
            continue
        both = [contents.records[i] for i in (at[rung, key], row)]
        standing = next((s for r in reversed(both) if (s := refusal(r.state, r.reason))), None)
        low, high = (record.measured().get(metric) for record in both)
        if standing is not None and low is not None and high is not None:
            found.append(RefusedPair(standing, low, high, row))
    return tuple(found)


def draw_rungs(pairs: RungPairs) -> Figure:
    """Draws one point per pair; on the line both rungs say the same."""
    axis, name = pairs.axis, short(pairs.axis.metric)
    low, high = [axis.scaled(v) for v in pairs.low], [axis.scaled(v) for v in pairs.high]
    usable = {"color": "@front", "size": 8, "opacity": 0.75}
    groups = [_points(low, high, pairs.rows, "complete", usable)] if low else []
    for standing in REFUSED:
        some = [pair for pair in pairs.refused if pair.standing == standing]
        x, y = axis.placed([p.low for p in some], pairs.low), axis.placed([p.high for p in some], pairs.high)
        if some:
            groups.append(_points(x, y, [p.row for p in some], STANDINGS[standing], refused_marker(standing)))
    told = [*low, *high] or [value for group in groups for value in (*group["x"], *group["y"])]
    ends = [min(told, default=0.0), max(told, default=0.0)]
    same = guide(ends, ends, color="@muted", width=1, dash="dot")
    layout = {
        "xaxis": {**axis.layout(), "title": {"text": axis.titled(f"{name} at {pairs.rung}")}},
        "yaxis": {**axis.layout(), "title": {"text": axis.titled(f"{name} at {pairs.above}")}},
    }
    title = f"{name[0].upper()}{name[1:]}: {pairs.rung} against {pairs.above}"
    figure = f"rungs-{pairs.rung}-{axis.metric}".replace("_", "-")
    data = [same, *({**trace, "showlegend": len(groups) > 1} for trace in groups)] if groups else []
    return Figure(figure, title, _words(pairs), data, layout, height=340, linked=True)


def _points(
    x: Sequence[float], y: Sequence[float], rows: Sequence[int], name: str, marker: dict[str, Any]
) -> dict[str, Any]:
    hover = {"customdata": list(rows), "hovertemplate": "%{text}<extra></extra>"}
    return {"type": "scatter", "mode": "markers", "name": name, "x": x, "y": y, **hover, "marker": marker}


def _words(pairs: RungPairs) -> str:
    if not pairs.low:
        return "No point has a result at both rungs yet." if pairs.refused else "No point ran at both rungs yet."
    rho = "it does not vary" if pairs.correlation is None else f"rank correlation {pairs.correlation:.2f}"
    dropped = " The rung is skipped: some objective agrees too little." if pairs.dropped else ""
    counts = Counter(STANDINGS[pair.standing] for pair in pairs.refused)
    others = "".join(
        f" {n} {name} at one of the two, drawn at the edge where far outside." for name, n in counts.items()
    )
    return f"{show_count(len(pairs.low), 'point')} ran at both; {rho}.{others}{dropped}"
