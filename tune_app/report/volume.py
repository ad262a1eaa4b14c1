"""How the hypervolume grew, against trials and against training seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

from tune_app.drawing.axis import unit_of
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure
from tune_app.tables.columns import short
from tune_app.tables.growth import ENOUGH, hypervolume_rows, settled_at
from tune_app.terminal.quantities import show_count, show_duration, show_number

UNITS = ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
"""Units of time by their seconds, the largest first."""


@dataclass(frozen=True)
class VolumeInfo:
    """What was known after each trial of the full schedule; the volume is in the product of the objectives' units."""

    objectives: tuple[str, ...]
    trials: tuple[int, ...]
    training_s: tuple[float, ...]
    volume: tuple[float, ...]


def volume_info(contents: Contents) -> VolumeInfo:
    """Returns the hypervolume after each trial; empty without a baseline, whose cost bounds the volume."""
    reference = contents.reference
    found = [] if reference is None else hypervolume_rows(contents.records, contents.spec, reference)
    return VolumeInfo(
        objectives=tuple(contents.spec.objectives),
        trials=tuple(int(row["trials"]) for row in found),
        training_s=tuple(float(row["training_s"]) for row in found),
        volume=tuple(float(row["hypervolume"]) for row in found),
    )


def draw_volume(info: VolumeInfo) -> list[Figure]:
    """Draws one figure for each way of counting effort; trials that changed nothing are left out of the line."""
    divisor, unit = next((d, u) for d, u in UNITS if max(info.training_s, default=0.0) >= d or d == 1.0)
    spent = [round(seconds / divisor, 4) for seconds in info.training_s]
    by_trials, by_time = _words(info)
    trials = [show_count(n, "trial") for n in info.trials]
    times = [f"{show_duration(seconds)} of training" for seconds in info.training_s]
    over_trials = _figure(info, "trials", by_trials, info.trials, trials, "trials of the full schedule")
    over_time = _figure(info, "training", by_time, spent, times, f"training of all trials, {unit}")
    return [over_trials, over_time]


def _figure(
    info: VolumeInfo, effort: str, words: str, efforts: Sequence[float], said: Sequence[str], axis_title: str
) -> Figure:
    """Draws the volume over one way of counting effort; `said` is each effort in words.

    The axis begins near the first volume, not at 0, so that gains can be seen.
    """
    volume, last = info.volume, len(info.volume) - 1
    # Where it changes, and both ends; before the first point that counts there is no volume.
    kept = [i for i, v in enumerate(volume) if v > 0 and (i in (0, last) or v != volume[i - 1])]
    unit, divisor = unit_of("count", max(volume, default=0.0))
    heights = [float(f"{volume[i] / divisor:.6g}") for i in kept]
    low, high = (min(heights), max(heights)) if heights else (0.0, 1.0)
    room = 0.08 * ((high - low) or high)
    trace = {
        "type": "scatter",
        "mode": "lines+markers" if len(kept) <= 60 else "lines",
        "x": [efforts[i] for i in kept],
        "y": heights,
        "line": {"shape": "hv", "color": "@front", "width": 2},
        "marker": {"size": 5},
        "cliponaxis": False,
        "text": [f"{show_number(volume[i])} after {said[i]}" for i in kept],
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }
    product = ", ".join(filter(None, (" · ".join(map(short, info.objectives)), unit)))
    layout = {
        "xaxis": {"title": {"text": axis_title}, "tickformat": ",~r", "rangemode": "tozero"},
        "yaxis": {
            "title": {"text": f"hypervolume ({product})"},
            "tickformat": ",~r",
            "range": [max(0.0, low - room), high + room],
        },
    }
    data = [trace] if kept else []
    return Figure(f"hypervolume-{effort}", f"Hypervolume against {effort}", words, data, layout, height=320)


def _words(info: VolumeInfo) -> tuple[str, str]:
    """Returns the words of the figure over trials, and of the one over training time."""
    if not info.volume:
        nothing = "Hypervolume is bounded by the cost of the baseline: it shows once there are a baseline and a trial."
        return nothing, nothing
    final = info.volume[-1]
    if (enough := settled_at(info.volume)) is None:
        nothing = "No trial is better than the reference point in every objective yet: the hypervolume is 0."
        return nothing, nothing
    until, spent = show_duration(info.training_s[enough]), show_duration(info.training_s[-1])
    trials = f"{show_count(info.trials[-1], 'trial')} of the full schedule"
    return (
        f"{show_number(final)} after {trials}; {100 * ENOUGH:g} % of it after {info.trials[enough]:,}.",
        f"{100 * ENOUGH:g} % of the hypervolume was reached after {until} of {spent} of training.",
    )
