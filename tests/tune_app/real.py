"""A real experiment of one trial in seconds, without Ray."""

from pathlib import Path

from tests.specs import tiny_spec
from trainables.data.data_sets import load_data
from trainables.stages.workplace import open_workplace
from trainables.storage import replace
from tune_app.engine.baseline import make_baseline
from tune_app.engine.trial import run_trial
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment
from tune_app.search.keys import config_key
from tune_app.spec.experiment import ExperimentSpec
from tune_app.spec.yaml_file import dump_spec

PLACE = 5
"""Of the trial in the space: pruned."""


def make_real_experiment(storage: Path) -> ExperimentFolder:
    """Digits at 8x8: one epoch of baseline, one after pruning, quantized after training."""
    tiny = tiny_spec(storage)
    base = tiny.base.model_dump()
    base["baseline"]["schedule"] |= {"epochs": 1, "batch_size": 64}
    base["prune"]["fine_tune"] |= {"epochs": 1, "lr": 0.05, "batch_size": 64}
    base["quantize"] = {"kind": "ptq"}
    spec = ExperimentSpec.model_validate({**tiny.model_dump(), "base": base})
    made, data = ExperimentFolder(spec.folder), load_data(spec.base.data)
    replace(made.spec_file, dump_spec(spec).encode())
    make_baseline(spec, data)
    params = spec.space.point(PLACE)
    work = Assignment(number=0, config_key=config_key(spec, data.fingerprint, params), params=params, seed=0)
    run_trial(work, spec, made, open_workplace(data, made.stages, cpu=1, gpu=0))
    return made


def label_of(folder: ExperimentFolder) -> str:
    """Of the one trial."""
    return Assignment(number=0, config_key="", params=folder.read_spec().space.point(PLACE), seed=0).label
