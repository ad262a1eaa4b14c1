"""The numbers of an analysis as a JSON document; what is not defined (a score of no images) is null."""

import math
from typing import Any

import numpy as np

from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.calibration import Reliability
from tune_app.mistakes.confusion import confusions, errors_by_group, mean_score
from tune_app.mistakes.outcome import Outcome

TOP = 20
"""Entries of each list: the document is read by people too, and predictions.parquet has all."""


def numbers(analysis: Analysis) -> dict[str, Any]:
    """Returns everything but the predictions; images are named by their place in the validation split."""
    about, outcome, baseline = analysis.about, analysis.outcome, analysis.baseline
    return {
        "label": about.label,
        "experiment": about.experiment or None,
        "trial_id": about.trial_id or None,
        "size_bytes": about.size_bytes,
        "data": about.data,
        "split": "val",
        **_scores(outcome),
        "classes": list(analysis.names),
        "per_class": per_class(analysis),
        "confusion": outcome.matrix.tolist(),
        "top_confusions": _top(analysis),
        "errors_by_group": errors_by_group(outcome.matrix, analysis.groups) if analysis.groups else None,
        "confident_errors": [_image(analysis, i) for i in outcome.errors[:TOP].tolist()],
        "baseline": None if baseline is None else {**_scores(baseline), "confusion": baseline.matrix.tolist()},
        "change": _change(analysis),
    }


def per_class(analysis: Analysis) -> list[dict[str, Any]]:
    """Returns one row per class; what the baseline did and what changed are null where there is none."""
    scores, change = analysis.outcome.scores, analysis.change
    before = None if analysis.baseline is None else analysis.baseline.scores
    return [
        {
            "class": name,
            "images": int(scores.images[i]),
            "right": int(scores.right[i]),
            "accuracy": _known(scores.accuracy[i]),
            "precision": _known(scores.precision[i]),
            "f1": _known(scores.f1[i]),
            "baseline_accuracy": None if before is None else _known(before.accuracy[i]),
            "accuracy_change": None if change is None else _known(change.class_accuracy[i]),
            "newly_wrong": None if change is None else int(change.broken[i]),
            "newly_right": None if change is None else int(change.repaired[i]),
        }
        for i, name in enumerate(analysis.names)
    ]


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
    columns = {name: getattr(bins, name) for name in ("low", "high", "images", "confidence", "accuracy")}
    return [{name: _known(values[i]) for name, values in columns.items()} for i in range(len(bins.images))]


def _top(analysis: Analysis) -> list[dict[str, Any]]:
    names = analysis.names
    return [
        {"class": names[c.label], "predicted": names[c.predicted], "images": c.count, "share": c.share}
        for c in confusions(analysis.outcome.matrix)[:TOP]
    ]


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


def _known(value: "np.generic | float") -> int | float | None:
    plain: int | float = value.item() if isinstance(value, np.generic) else value
    return None if math.isnan(plain) else plain
