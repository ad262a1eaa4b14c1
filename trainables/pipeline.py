"""A configuration, from data to a verified file: stages over the cache, pack, decode, measure."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from trainables.config import StageConfig, TrialConfig, repeat_seed, stage_keys, teacher_key
from trainables.data.data_sets import DataSet
from trainables.device import threads
from trainables.errors import TrialFailure
from trainables.export.coders.coder import Choice
from trainables.export.packed import pack_result
from trainables.measure import measure, with_onnx
from trainables.results import Completed, StageRun
from trainables.stages.saved_epochs import SavedEpochs
from trainables.stages.stage import StageContext, StageResult, run_stage
from trainables.stages.workplace import Workplace
from trainables.storage import StoragePath, create_once, read_bytes, replace, sha256


def run_stages(
    config: TrialConfig, stages: Sequence[StageConfig], workplace: Workplace, runs: list[StageRun] | None = None
) -> tuple[StageResult, list[StageRun]]:
    """Runs the first stages of a configuration, each on the result before it, where the cache does not have them.

    Returns the last result and a note of each stage. Notes are added to `runs` as they come, also of a failing stage.

    Raises:
        TrialFailure: a stage failed; its `stage` says which.
    """
    keys = stage_keys(config, fingerprint=workplace.data.fingerprint)
    result: StageResult | None = None
    runs = [] if runs is None else runs
    trainer = _Trainer(config, workplace, runs)
    for stage, key in zip(stages, keys, strict=False):
        result = trainer.run(stage, key, parent=result)
    assert result is not None, "a configuration has at least one stage"
    return result, runs


def run_teacher(config: TrialConfig, workplace: Workplace) -> None:
    """Makes the configuration's own teacher, if a stage learns from it and the cache does not have it.

    Raises:
        TrialFailure: it could not be made.
    """
    if config.teacher is not None and any(stage.distills for stage in config.stages()):
        _Trainer(config, workplace, []).teacher()


@dataclass(frozen=True)
class _Trainer:
    """A runner of the stages of one configuration, which uses the cache and notes what became of each."""

    config: TrialConfig
    workplace: Workplace
    runs: list[StageRun]

    def run(self, stage: StageConfig, key: str, *, parent: StageResult | None) -> StageResult:
        """Finds a stage in the cache or makes it, and notes it."""
        work, config = self.workplace, self.config

        def make(saved_epochs: SavedEpochs) -> StageResult:
            context = StageContext(
                data=work.data,
                train=work.train,
                val=work.val,
                augment=config.data.augment,
                device=work.device,
                # Without a parent it is the baseline or the teacher, which all repeats share.
                seed=config.seed if parent is None else repeat_seed(config.seed, config.repeat),
                saved_epochs=saved_epochs,
                parent_result=parent,
                find_teacher=self.teacher,
            )
            with threads(work.first_threads if parent is None else None):
                return run_stage(stage, context)

        started = time.perf_counter()
        try:
            result, run = work.cache.get_or_run(key, stage.kind, make)
        except Exception as err:
            known, seconds = isinstance(err, TrialFailure) and err.remembered, time.perf_counter() - started
            self.runs.append(StageRun(kind=stage.kind, key=key, seconds=seconds, cached=known))
            if isinstance(err, TrialFailure):
                err.stage = err.stage or stage.kind
            raise
        self.runs.append(run)
        return result

    def teacher(self) -> StageResult:
        """Finds or makes the configuration's teacher, or the baseline where it has none."""
        config, fingerprint = self.config, self.workplace.data.fingerprint
        if config.teacher is None:
            return self.run(config.baseline, stage_keys(config, fingerprint=fingerprint)[0], parent=None)
        return self.run(config.teacher, teacher_key(config, fingerprint=fingerprint), parent=None)


def run_pipeline(
    config: TrialConfig, workplace: Workplace, artifact: StoragePath, runs: list[StageRun] | None = None
) -> Completed:
    """Trains what is not cached, writes `artifact`, decodes it from its bytes and measures it.

    What each stage took is added to `runs` as in `run_stages`, and so is known after a failure too.

    Raises:
        TrialFailure: there is no usable result.
        StorageUnavailable: a folder cannot be written.
    """
    result, runs = run_stages(config, config.stages(), workplace, runs)
    content = _write(result, workplace.data, artifact, coder=config.pack.coder)
    measurement = measure(content, result, workplace, untrained=config.baseline.PLACEHOLDER)
    if config.measure.onnx:
        measurement = with_onnx(measurement, content, workplace, artifact.with_name("model.onnx"))
    completed = Completed(
        measurement=measurement, architecture=result.architecture, artifact_sha256=sha256(content), stages=runs
    )
    replace(artifact.with_name("card.json"), completed.model_dump_json(indent=1).encode() + b"\n")
    return completed


def _write(result: StageResult, data: DataSet, artifact: StoragePath, *, coder: Choice) -> bytes:
    """Writes the packed file if it is not there yet, and returns the bytes on disk."""
    content = pack_result(result, data, coder=coder)
    if not create_once(artifact, content) and read_bytes(artifact) != content:
        replace(artifact, content)  # left by another version or a fault of the disk; no record names it
    return read_bytes(artifact)
