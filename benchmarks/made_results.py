"""Results of trials that nobody trained: for benchmarks of what happens around a trial."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainables.config import Architecture, ModelConfig
from trainables.results import COUNTED, Completed, Measurement, StageRun

UNSAID = {**dict.fromkeys(COUNTED, 1), "n": 100, "prune_frac_achieved": 0.0, "sparsity_achieved": 0.0}
"""What is reported where a row does not say it."""


def completed(row: Mapping[str, Any], stages: Sequence[StageRun] = ()) -> Completed:
    """The result of a trial with the measurements of a row, as far as it has them; NaN stands for one that it lacks."""
    known = {name: row[name] for name in Measurement.model_fields if name in row and row[name] == row[name]}
    about = {"accuracy_trained": row["accuracy"], "compression_ratio": 1e6 / row["size_bytes"], **UNSAID}
    measurement = Measurement.model_validate({**about, **known, "size_breakdown": {}, "formula_bytes": {}})
    architecture = Architecture(model=ModelConfig(), classes=10, channels=1, image_size=8)
    return Completed(measurement=measurement, architecture=architecture, artifact_sha256="", stages=list(stages))
