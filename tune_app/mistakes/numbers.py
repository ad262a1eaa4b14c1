"""The numbers of an analysis as a JSON document; what is not defined (a score of no images) is null."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainables.train.class_scores import mean_score
from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.calibration import Reliability
from tune_app.mistakes.confusion import confusions, errors_by_group, mutual_confusions
from tune_app.mistakes.outcome import Outcome

TOP = 20
"""Entries of each list: the document is read by people too, and predictions.parquet has all."""


def numbers(analysis: Analysis) -> dict[str, Any]:
    """Returns everything but the predictions; images are named by their place in the split."""
    about, outcome, baseline, names = analysis.about, analysis.outcome, analysis.baseline, analysis.names
    return {
        "label": about.label,
        "experiment": about.experiment or None,
        "trial_id": about.trial_id or None,
        "size_bytes": about.size_bytes,
        "data": about.data,
        "split": about.split,
        **_scores(outcome),
        "classes": list(names),
        "per_class": per_class(analysis),
        "confusion": outcome.matrix.tolist(),
        "top_confusions": [
            {"class": names[c.label], "predicted": names[c.predicted], "images": c.count, "share": c.share}
            for c in confusions(outcome.matrix)[:TOP]
        ],
        "mutual_confusions": [
            {
                "classes": [names[m.first], names[m.second]],
                "images": m.count,
                "forth": m.forth,
                "back": m.back,
                "share": m.share,
            }
            for m in mutual_confusions(outcome.matrix)[:TOP]
        ],
        "errors_by_group": errors_by_group(outcome.matrix, analysis.groups) if analysis.groups else None,
        "confident_errors": [_image(analysis, i) for i in outcome.errors[:TOP].tolist()],
        "baseline": None if baseline is None else {**_scores(baseline), "confusion": baseline.matrix.tolist()},
        "change": _change(analysis),
    }


def per_class(analysis: Analysis) -> list[dict[str, Any]]:
    """Returns one row per class; what the baseline did and what changed are null where there is none.

    `accuracy` is the share of the class's images that are right: its recall.
    """
    baseline, change, unknown = analysis.baseline, analysis.change, np.full(len(analysis.names), np.nan)
    columns = {
        **vars(analysis.outcome.scores),
        "baseline_right": unknown if baseline is None else baseline.scores.right,
        "baseline_accuracy": unknown if baseline is None else baseline.scores.accuracy,
        "accuracy_change": unknown if change is None else change.class_accuracy,
        "newly_wrong": unknown if change is None else change.broken,
        "newly_right": unknown if change is None else change.repaired,
    }
    return [{"class": name, **row} for name, row in zip(analysis.names, _rows(columns), strict=True)]


def _scores(outcome: Outcome) -> dict[str, Any]:
    scores, calibration = outcome.scores, outcome.calibration
    return {
        "images": len(outcome.right),
        "errors": len(outcome.errors),
        "accuracy": outcome.accuracy,
        "macro": {
            "accuracy": mean_score(scores.accuracy),
            "precision": _known(mean_score(scores.precision)),
            "f1": mean_score(scores.f1),
        },
        "confidence": {
            "right": _known(calibration.confidence_right),
            "wrong": _known(calibration.confidence_wrong),
            "errors_above_0.9": calibration.confident_errors,
        },
        "calibration": {
            "ece": calibration.width.error,
            "ece_equal_mass": calibration.mass.error,
            "bins": _bins(calibration.width),
            "bins_equal_mass": _bins(calibration.mass),
        },
    }


def _bins(bins: Reliability) -> list[dict[str, Any]]:
    return _rows({name: values for name, values in vars(bins).items() if name != "error"})


def _rows(columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Returns columns row by row."""
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    return [dict(zip(columns, map(_known, row), strict=True)) for row in rows]


def _change(analysis: Analysis) -> dict[str, Any] | None:
    change = analysis.change
    if change is None:
        return None
    return {
        "accuracy": change.accuracy,
        "newly_wrong": [_image(analysis, i) for i in change.newly_wrong.tolist()],
        "newly_right": [_image(analysis, i) for i in change.newly_right.tolist()],
        "agreement": change.agreement,
        "p_value": change.p_value,
    }


def _image(analysis: Analysis, place: int) -> dict[str, Any]:
    outcome, baseline, names = analysis.outcome, analysis.baseline, analysis.names
    row = {
        "index": place,
        "class": names[analysis.labels[place]],
        "predicted": names[outcome.predicted[place]],
        "confidence": float(outcome.confidence[place]),
    }
    if baseline is not None:
        row["baseline_predicted"] = names[baseline.predicted[place]]
        row["baseline_confidence"] = float(baseline.confidence[place])
    return row


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
