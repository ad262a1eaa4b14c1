"""The timeline: when trials ran and what their stages cost, one lane for each worker that was busy at a time."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tune_app.drawing.palette import CYCLE
from tune_app.ledger.ledger import TrialRecord
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure, escaped, names_axis
from tune_app.terminal.quantities import show_count

MOST = 200
"""Trials that are shown, the newest ones: of more, bars become too thin to tell apart."""
REST = "export, check and measure"
SHORT_S = 0.001
"""Seconds below which a piece is not drawn: it could not be seen."""
LANE_CHARS = 24
"""Characters of a host's name beside its lanes."""
CLOSE_MARKS = [
    {"dtickrange": [1_000, 59_999], "value": "%H:%M:%S"},
    {"dtickrange": [60_000, 10_799_999], "value": "%H:%M"},
]
"""How marks are written that lie less than three hours apart: on a narrow page a date would reach into the next one."""


@dataclass(frozen=True)
class Piece:
    """A stage of a trial, or what came after its stages."""

    row: int
    lane: int
    kind: str
    start: datetime
    seconds: float
    cached: bool


@dataclass(frozen=True)
class TimelineInfo:
    """Pieces in order of time; lanes are packed greedily on each host, whose workers have no names in the ledger."""

    lanes: tuple[str, ...]
    pieces: tuple[Piece, ...]
    trials: int
    of: int
    hits: int
    """The number of stages of all trials that the cache answered."""
    stages: int


def timeline_info(contents: Contents) -> TimelineInfo:
    """Returns the newest trials; stages follow one another from the start of their trial."""
    begun = [(start, i) for i, r in enumerate(contents.records) if (start := _start(r)) is not None]
    shown = [(start, i, contents.records[i]) for start, i in sorted(begun)[-MOST:]]
    lanes = pack([(start, record.seconds, record.environment.get("host", "")) for start, _, record in shown])
    names = sorted(set(lanes))
    pieces = [
        piece
        for (start, i, record), lane in zip(shown, lanes, strict=True)
        for piece in _pieces(record, i, names.index(lane), start)
    ]
    stages = [stage for record in contents.records for stage in record.result.stages]
    return TimelineInfo(
        lanes=tuple(f"{host or 'worker'} · {number + 1}" for host, number in names),
        pieces=tuple(pieces),
        trials=len(shown),
        of=len(contents.records),
        hits=sum(stage.cached for stage in stages),
        stages=len(stages),
    )


def pack(spans: Sequence[tuple[datetime, float, str]]) -> list[tuple[str, int]]:
    """Returns for each span the host and the first lane that is free; spans come in order of their start.

    Start times are whole seconds, so one that begins within a second before another ends may share its lane.
    """
    ends: dict[tuple[str, int], datetime] = {}
    found = []
    for start, seconds, host in spans:
        soon = start + timedelta(seconds=1)
        lane = next((host, number) for number in itertools.count() if ends.get((host, number), soon) <= soon)
        ends[lane] = start + timedelta(seconds=seconds)
        found.append(lane)
    return found


def draw_timeline(info: TimelineInfo) -> Figure:
    """Draws bars by kind of stage; a stage that the cache answered is a diamond where it was read."""
    kinds = list(dict.fromkeys(piece.kind for piece in info.pieces if piece.kind != REST))
    colors = dict(zip(kinds, (c for c in CYCLE if c != "@c5"), strict=False)) | {REST: "@dim"}
    ran = {kind: [piece for piece in info.pieces if piece.kind == kind and not piece.cached] for kind in [*kinds, REST]}
    data = [_bars(kind, pieces, colors.get(kind, "@c6")) for kind, pieces in ran.items() if pieces]
    hits = [piece for piece in info.pieces if piece.cached]
    if hits:
        data.append(_diamonds(hits))
    layout = {
        "barmode": "overlay",
        "margin": {"r": 40},
        "bargap": 0.3,
        "xaxis": {
            "type": "date",
            "title": {"text": "time (UTC)"},
            "tickformatstops": CLOSE_MARKS,
            "tickfont": {"size": 9},
        },
        "yaxis": names_axis(list(range(len(info.lanes))), info.lanes, LANE_CHARS),
    }
    height = min(900, 110 + 34 * max(2, len(info.lanes)))
    return Figure("timeline", "When trials ran", _words(info), data, layout, height=height)


def _start(record: TrialRecord) -> datetime | None:
    try:
        found = datetime.fromisoformat(record.started_at)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except ValueError:
        return None


def _pieces(record: TrialRecord, row: int, lane: int, start: datetime) -> list[Piece]:
    found, now = [], start
    for stage in record.result.stages:
        found.append(Piece(row, lane, stage.kind, now, stage.seconds, stage.cached))
        now += timedelta(seconds=stage.seconds)
    rest = record.seconds - (now - start).total_seconds()
    if rest > SHORT_S:
        found.append(Piece(row, lane, REST, now, rest, False))
    return found


def _bars(kind: str, pieces: Sequence[Piece], color: str) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": escaped(kind),
        "base": [_text(piece.start) for piece in pieces],
        "x": [round(1000 * piece.seconds) for piece in pieces],
        **_in_lanes(pieces, [f"{kind}, {piece.seconds:,.1f} s" for piece in pieces]),
        "textposition": "none",
        "marker": {"color": color, "line": {"color": "@surface", "width": 0.5}},
    }


def _diamonds(hits: Sequence[Piece]) -> dict[str, Any]:
    border = {"color": "@ink", "width": 1.4}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "cache hit",
        "x": [_text(piece.start) for piece in hits],
        **_in_lanes(hits, [f"{piece.kind} from the cache" for piece in hits]),
        "marker": {"symbol": "diamond", "size": 8 if len(hits) <= 60 else 5, "color": "@surface", "line": border},
    }


def _in_lanes(pieces: Sequence[Piece], what: Sequence[str]) -> dict[str, Any]:
    """Returns the lanes of pieces, and what the page says of each."""
    said = {"customdata": [piece.row for piece in pieces], "meta": {"what": what}}
    return {"y": [piece.lane for piece in pieces], **said, "hovertemplate": "%{text}<extra></extra>"}


def _text(moment: datetime) -> str:
    """Returns a time as plotly reads it: without a zone, to the millisecond."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _words(info: TimelineInfo) -> str:
    if not info.pieces:
        return "No trial has finished yet."
    all_of = show_count(info.of, "trial")
    newest = f"The newest {info.trials:,} of {all_of}" if info.trials < info.of else all_of
    cached = f" The stage cache answered {info.hits:,} of {info.stages:,} stages." if info.stages else ""
    lanes = f"{len(info.lanes)} lanes" if len(info.lanes) > 1 else "one lane"
    return f"{newest} in {lanes}: one for each worker of a host that was busy at the same time.{cached}"
