"""How much each parameter decides each objective: fANOVA (Hutter et al. 2014), by Optuna."""

import math
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from search_spaces.samplers import distribution
from tune_app.drawing.axis import PERCENT
from tune_app.frontier.points import PointRuns
from tune_app.report.contents import Contents
from tune_app.report.figure import Figure
from tune_app.tables.columns import short

if TYPE_CHECKING:
    from optuna.study import Study

FEWEST = 8
"""Points below which shares of a variance say nothing: a forest then fits single points."""
MOST = 200
"""Points beyond which a forest takes longer without saying anything else."""
TREES = 32
"""Trees of the forest: twice as many change the third digit of a share."""
SEED = 0
"""The seed of the forest and of the choice of points: the same experiment gives the same report."""


@dataclass(frozen=True)
class ImportanceInfo:
    """Shares of an objective's variance that a parameter alone explains, together 1, by objective and parameter.

    `points` of `of` were used; `why_not` says why there is nothing, for everything or for the objectives named in it.
    """

    shares: dict[str, dict[str, float]]
    points: int
    of: int
    why_not: str = ""


def importance_info(contents: Contents) -> ImportanceInfo:
    """Returns importances over the points of the full schedule inside the space, at most MOST of them, drawn with a
    seed."""
    spec = contents.spec
    inside = [g for g in contents.groups if g.mean and spec.space.contains(dict(g.point))]
    if len(inside) < FEWEST:
        few = f"It takes {FEWEST} points with a result; there are {len(inside)}."
        return ImportanceInfo({}, len(inside), len(inside), few)
    used = inside if len(inside) <= MOST else random.Random(SEED).sample(inside, k=MOST)
    searched = _varied(contents, used)
    if len(searched) < 2:
        return ImportanceInfo({}, len(used), len(inside), "Fewer than two parameters vary over all points.")
    flat = [name for name in spec.objectives if _is_flat([group.mean[name] for group in used])]
    study = _study(contents, used, searched)
    shares = {name: _shares(study, i) for i, name in enumerate(spec.objectives) if name not in flat}
    why_not = f"All points have the same {', '.join(map(short, flat))}." if flat else ""
    return ImportanceInfo(shares, len(used), len(inside), why_not)


def draw_importance(info: ImportanceInfo) -> Figure:
    """Draws bars by parameter, the most important one on top."""
    names = sorted(
        {name for found in info.shares.values() for name in found},
        key=lambda name: sum(found.get(name, 0.0) for found in info.shares.values()),
    )
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": short(objective),
            "x": [round(100 * found.get(name, 0.0), 2) for name in names],
            "y": names,
            "marker": {"color": f"@c{i}"},
            "hovertext": names,
            "hovertemplate": f"%{{hovertext}}: %{{x:.1f}} % of the variance of {short(objective)}<extra></extra>",
        }
        for i, (objective, found) in enumerate(info.shares.items())
    ]
    layout = {
        "barmode": "group",
        "bargap": 0.35,
        "xaxis": {
            **PERCENT,
            "title": {"text": "share of the variance explained"},
            "range": [0, 100],
            "dtick": 25,
        },
        "yaxis": {"ticksuffix": "  ", "showgrid": False},
    }
    height = 110 + 22 * len(names) * max(1, len(info.shares))
    return Figure("importance", "Which parameter decides", _words(info), data, layout, height=height)


def _varied(contents: Contents, groups: Sequence[PointRuns]) -> list[str]:
    """Returns parameters that all these points have, with more than one value: fANOVA knows no conditional ones."""
    values = [dict(group.point) for group in groups]
    return [
        name
        for name in contents.spec.space.root
        if all(name in point for point in values) and len({point[name] for point in values}) > 1
    ]


def _is_flat(values: Sequence[float]) -> bool:
    """Whether values are equal but for the rounding of a mean."""
    return math.isclose(min(values), max(values), rel_tol=1e-12, abs_tol=1e-15)


def _study(contents: Contents, groups: Sequence[PointRuns], searched: Sequence[str]) -> "Study":
    """Returns the points as an Optuna study in memory; it sees the place of each value, as the samplers do."""
    import optuna
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    root, objectives = contents.spec.space.root, contents.spec.objectives
    study = optuna.create_study(directions=list(objectives.values()))
    for group in groups:
        point = dict(group.point)
        trial = create_trial(
            values=[group.mean[name] for name in objectives],
            params={name: root[name].values.index(point[name]) for name in searched},
            distributions={name: distribution(root[name]) for name in searched},
        )
        study.add_trial(trial)
    return study


def _shares(study: "Study", objective: int) -> dict[str, float]:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    values = [trial.values[objective] for trial in study.get_trials(deepcopy=False)]
    low, span = min(values), max(values) - min(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = get_param_importances(
            study,
            evaluator=FanovaImportanceEvaluator(n_trees=TREES, seed=SEED),
            target=lambda trial: (trial.values[objective] - low) / span,  # a forest splits no variance below 2e-16
        )
    return {name: float(share) for name, share in found.items()}


def _words(info: ImportanceInfo) -> str:
    if not info.shares:
        return f"No importances. {info.why_not}"
    best = [f"{max(found, key=lambda n: found[n])} for {short(name)}" for name, found in info.shares.items()]
    sample = f" (a seeded sample of {info.of:,})" if info.points < info.of else ""
    method = f"fANOVA over {info.points} points{sample}; parameters alone, without interactions."
    return f"What matters most: {', '.join(best)}. {method} {info.why_not}".strip()
