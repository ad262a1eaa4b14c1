"""All figures of an analysis; what has nothing to show is left out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from tune_app.drawing.sheet import Drawing
from tune_app.mistakes.analysis import Analysis
from tune_app.mistakes.calibration_figure import calibration_figure
from tune_app.mistakes.class_figures import accuracy_figure, change_figure
from tune_app.mistakes.image_figures import changed_figure, confident_errors_figure, top_confusions_figure
from tune_app.mistakes.matrix_figures import counts_figure, image_matrix_figure, shares_figure


@dataclass(frozen=True)
class Figure:
    """A drawing, its name, and what it shows in words, for who cannot see it."""

    name: str
    text: str
    drawing: Drawing


FIGURES: dict[str, tuple[str, Callable[[Analysis], Drawing | None]]] = {
    "class_accuracy": ("Accuracy of each class, the worst first", accuracy_figure),
    "class_changes": ("Images of each class that became wrong or right against the baseline", change_figure),
    "confusion_counts": ("Confusion matrix: images", counts_figure),
    "confusion_normalized": ("Confusion matrix: percent of the true class", shares_figure),
    "confusion_images": ("Confusion matrix with a misclassified image in each cell", image_matrix_figure),
    "top_confusions": ("The most frequent confusions with their images", top_confusions_figure),
    "confident_errors": ("The most confident errors", confident_errors_figure),
    "newly_wrong": (
        "Images that the baseline had right and this network has not",
        partial(changed_figure, now="wrong"),
    ),
    "newly_right": (
        "Images that the baseline had wrong and this network has right",
        partial(changed_figure, now="right"),
    ),
    "calibration": ("Reliability diagram, and confidence when right and when wrong", calibration_figure),
}


def figures(analysis: Analysis) -> list[Figure]:
    """Returns the figures that have something to show, in the order of `FIGURES`."""
    found = ((name, text, draw(analysis)) for name, (text, draw) in FIGURES.items())
    return [Figure(name, text, drawing) for name, text, drawing in found if drawing is not None]
