"""A real search in seconds: digits at 8x8, a very narrow VGG16, a grid of six points."""

from pathlib import Path
from typing import Any

from trainables.storage import StoragePath
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec


def tiny_spec(storage: StoragePath, **changes: Any) -> ExperimentSpec:
    """The spec of a small real search; `changes` replace top-level fields."""
    schedule = {"lr": 0.1, "batch_size": 64, "weight_decay": 1e-4}
    content: dict[str, Any] = {
        "name": "tiny",
        "storage": str(storage),
        "base": {
            "data": {
                "name": "digits",
                "image_size": 8,
                "validation": {"from": "train", "fraction": 0.2},
                "augment": {"crop_padding": 0},
            },
            "baseline": {
                "kind": "train",
                "model": {"name": "vgg16", "width": 0.05},
                "schedule": {**schedule, "epochs": 3},
            },
            "prune": {"fine_tune": {**schedule, "epochs": 2}},
            "quantize": {"kind": "qat", "schedule": {**schedule, "lr": 0.01, "epochs": 2}},
        },
        "space": {"prune_frac": [0.0, 0.5], "w_bits": [3, 4, 8], "a_bits": [8]},
        "sampler": {"name": "grid"},
        "budget": {"trials": 6},
        "resources": {"cpu": 1, "baseline_cpu": 1},
        "max_concurrent_trials": 2,
    }
    return ExperimentSpec.model_validate({**content, **changes})


def write_spec(path: Path, spec: ExperimentSpec) -> Path:
    """The spec as a file."""
    path.write_text(dump_spec(spec))
    return path
