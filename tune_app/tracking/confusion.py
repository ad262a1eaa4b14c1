"""The confusion matrix of an experiment's knee, which an overview may have (torch is imported on use)."""

from trainables.errors import ConfigError, CorruptFile
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.terminal.progress import counting
from tune_app.tracking.protocol import ConfusionMatrix, Overview

CHEAP_MACS = 5e9
"""MACs of the baseline on the whole validation split up to which a matrix is cheap: a second or two of one core."""


def is_cheap(folder: ExperimentFolder) -> bool:
    """Whether the confusion matrix takes no time that anybody would notice.

    Raises:
        CorruptFile: the stored baseline is damaged.
    """
    baseline = read_baseline(folder)
    return baseline is not None and baseline.n * baseline.macs <= CHEAP_MACS


def knee_confusion(folder: ExperimentFolder, overview: Overview) -> ConfusionMatrix | None:
    """Returns the matrix of the frontier's knee on the validation split; None without a frontier, its file or the
    data."""
    if not overview.knee:
        return None
    from trainables.device import choose_device
    from tune_app.drawing.sheet import to_png
    from tune_app.mistakes.analysis import from_probabilities
    from tune_app.mistakes.matrix_figures import image_matrix_figure
    from tune_app.mistakes.subject import trial_subject

    try:
        subject = trial_subject(folder, overview.knee)
        with counting("confusion matrix of the frontier's knee, images", total=len(subject.data.val)) as advance:
            found = subject.network.predict(subject.images, subject.data, choose_device(gpu_share=1), advance=advance)
    except (ConfigError, CorruptFile):
        return None
    images = subject.images
    analysis = from_probabilities(subject.about, images.labels, found, images=images.images, names=subject.data.names)
    picture = to_png(image_matrix_figure(analysis))
    return ConfusionMatrix(subject.about.label, analysis.names, analysis.outcome.matrix.tolist(), picture)
