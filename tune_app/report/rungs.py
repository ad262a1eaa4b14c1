"""How the ranks of each rung agree with those of the next one: the pairs, and their rank correlation."""

from dataclasses import dataclass

from tune_app.drawing.axis import Axis, axis_of
from tune_app.frontier.objectives import judged
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure, guide
from tune_app.search.ladder import agreements
from tune_app.tables.columns import short
from tune_app.terminal.quantities import show_count


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
            pairs = RungPairs(
                rung=agreement.rung,
                above=agreement.above,
                axis=axis_of(name, spec, [*low, *high]),
                low=low,
                high=high,
                rows=rows,
                correlation=rho,
                dropped=agreement.dropped,
            )
            found.append(pairs)
    return found


def draw_rungs(pairs: RungPairs) -> Figure:
    """Draws one point per pair; on the line both rungs say the same."""
    axis, name = pairs.axis, short(pairs.axis.metric)
    low, high = [axis.scaled(v) for v in pairs.low], [axis.scaled(v) for v in pairs.high]
    ends = [min([*low, *high], default=0.0), max([*low, *high], default=1.0)]
    same = guide(ends, ends, color="@muted", width=1, dash="dot")
    points = {
        "type": "scatter",
        "mode": "markers",
        "x": low,
        "y": high,
        "customdata": list(pairs.rows),
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": "@front", "size": 8, "opacity": 0.75},
        "showlegend": False,
    }
    layout = {
        "xaxis": {**axis.layout(), "title": {"text": f"{name} at {pairs.rung}"}},
        "yaxis": {**axis.layout(), "title": {"text": f"{name} at {pairs.above}"}},
    }
    title = f"{name[0].upper()}{name[1:]}: {pairs.rung} against {pairs.above}"
    figure = f"rungs-{pairs.rung}-{axis.metric}".replace("_", "-")
    return Figure(figure, title, _words(pairs), [same, points] if low else [], layout, height=340, linked=True)


def _words(pairs: RungPairs) -> str:
    if not pairs.low:
        return "No point ran at both rungs yet."
    rho = "it does not vary" if pairs.correlation is None else f"rank correlation {pairs.correlation:.2f}"
    dropped = " The rung is skipped: some objective agrees too little." if pairs.dropped else ""
    return f"{show_count(len(pairs.low), 'point')} ran at both; {rho}.{dropped}"
