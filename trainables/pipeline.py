"""A configuration, from data to a verified file: stages over the cache, pack, decode, measure."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import trainables.baseline
import trainables.prune.channel_prune
import trainables.prune.sparsify
import trainables.quant.ptq
import trainables.quant.qat
import trainables.quant.sensitivity  # noqa: F401  (imported for their run_stage handlers)
from trainables.cache import StageCache
from trainables.config import Architecture, StageConfig, TrialConfig, stage_keys, teacher_key
from trainables.counts import count, sparsity_achieved
from trainables.data import DataSet, Images
from trainables.device import Device, choose_device, use_threads
from trainables.errors import ArtifactMismatch, Collapsed, TrialFailure
from trainables.export.coders import Choice
from trainables.export.packed import Header, pack, size_breakdown, unpack
from trainables.models.model import fp32_bytes
from trainables.models.units import count_parameters, units
from trainables.progress import Progress
from trainables.prune.channels import prune_frac_achieved
from trainables.prune.masks import check_zeros, weights_of
from trainables.results import Completed, Measurement, StageCost
from trainables.size_formulas import formula_bytes
from trainables.stage import StageContext, StageResult, run_stage
from trainables.storage import create_once, replace, sha256
from trainables.train import evaluate

TOLERANCE = 0.001
"""A decoded file may differ from the trained network by a tenth of a point."""
CHANCE_FACTOR = 1.5


@dataclass(frozen=True)
class Workplace:
    """What a worker holds while it works on trials of one experiment."""

    data: DataSet
    cache: StageCache
    device: Device

    @functools.cached_property
    def train(self) -> Images:
        """Training images on the device."""
        return Images(self.data.train, self.data.mean, self.data.std, self.device.torch)

    @functools.cached_property
    def val(self) -> Images:
        """Validation images on the device."""
        return Images(self.data.val, self.data.mean, self.data.std, self.device.torch)


def open_workplace(data: DataSet, stages: Path, *, cpu: float, gpu: float, compile: bool = False) -> Workplace:
    """A workplace with the trial's share of threads and device."""
    use_threads(cpu)
    return Workplace(data, StageCache(stages), choose_device(gpu, compile=compile))


def run_stages(
    config: TrialConfig, stages: Sequence[StageConfig], workplace: Workplace
) -> tuple[StageResult, list[StageCost]]:
    """Folds the first stages of a configuration over the cache; returns the last result and every cost.

    Raises:
        TrialFailure: a stage failed; its `stage` says which.
    """
    keys = stage_keys(config, fingerprint=workplace.data.fingerprint)
    result: StageResult | None = None
    costs: list[StageCost] = []
    trainer = _Trainer(config, workplace, costs)
    for stage, key in zip(stages, keys, strict=False):
        result = trainer.run(stage, key, parent=result)
    assert result is not None, "a configuration has at least one stage"
    return result, costs


@dataclass(frozen=True)
class _Trainer:
    """Runs stages of one configuration over the cache and notes what each cost."""

    config: TrialConfig
    workplace: Workplace
    costs: list[StageCost]

    def run(self, stage: StageConfig, key: str, *, parent: StageResult | None) -> StageResult:
        work, config = self.workplace, self.config

        def make(progress: Progress) -> StageResult:
            context = StageContext(
                data=work.data,
                train=work.train,
                val=work.val,
                augment=config.data.augment,
                device=work.device,
                seed=config.seed,
                progress=progress,
                parent_result=parent,
                find_teacher=self._teacher,
            )
            return run_stage(stage, context)

        try:
            result, cost = work.cache.get_or_run(key, stage.kind, make)
        except TrialFailure as err:
            err.stage = err.stage or stage.kind
            raise
        self.costs.append(cost)
        return result

    def _teacher(self) -> StageResult:
        fingerprint = self.workplace.data.fingerprint
        if self.config.teacher is None:
            return self.run(self.config.baseline, stage_keys(self.config, fingerprint=fingerprint)[0], parent=None)
        return self.run(self.config.teacher, teacher_key(self.config, fingerprint=fingerprint), parent=None)


def run_pipeline(config: TrialConfig, workplace: Workplace, artifact: Path) -> Completed:
    """Trains what is not cached, writes `artifact`, decodes it from its bytes and measures it.

    Raises:
        TrialFailure: there is no usable result.
        StorageUnavailable: a folder cannot be written.
    """
    result, costs = run_stages(config, config.stages(), workplace)
    content = _write(result, workplace.data, artifact, coder=config.pack.coder)
    measurement = measure(content, result, workplace)
    if config.measure.onnx:
        measurement = _with_onnx(measurement, content, workplace, artifact.with_name("model.onnx"))
    completed = Completed(
        measurement=measurement,
        architecture=result.architecture,
        artifact_sha256=sha256(content),
        stages=costs,
    )
    replace(artifact.with_name("card.json"), completed.model_dump_json(indent=1).encode() + b"\n")
    return completed


def measure(content: bytes, trained: StageResult, workplace: Workplace) -> Measurement:
    """Everything about a packed file, read from its bytes on the validation split.

    Raises:
        ArtifactMismatch: the decoded network is not the one that was packed.
        Collapsed: its accuracy is at chance.
    """
    accuracy = packed_accuracy(content, workplace.val, workplace.device)
    accuracy_trained = trained.metrics["val_accuracy"]
    if abs(accuracy - accuracy_trained) > TOLERANCE:
        raise ArtifactMismatch(
            f"the decoded file has accuracy {accuracy:.4f}, the trained network {accuracy_trained:.4f}; "
            f"they may differ by {TOLERANCE}"
        )
    if accuracy <= CHANCE_FACTOR / workplace.data.classes:
        raise Collapsed(f"accuracy {accuracy:.4f} is at chance for {workplace.data.classes} classes")
    model = trained.model()
    codes = unpack(content).codes
    decoded = dict(zip(units(model), map(torch.from_numpy, codes), strict=True))
    check_zeros(weights_of(model), decoded, where="in the decoded file")
    counts = count(model, trained.architecture)
    return Measurement(
        accuracy=accuracy,
        accuracy_trained=accuracy_trained,
        n=len(workplace.val),
        size_bytes=len(content),
        size_breakdown=size_breakdown(content),
        compression_ratio=baseline_bytes(trained.architecture) / len(content),
        parameters=count_parameters(model),
        prune_frac_achieved=prune_frac_achieved(trained.architecture),
        sparsity_achieved=sparsity_achieved(codes),
        macs=counts.macs,
        bops=counts.bops,
        activation_bytes=counts.activation_bytes,
        peak_activation_bytes=counts.peak_activation_bytes,
        formula_bytes=formula_bytes(model),
    )


def _with_onnx(measurement: Measurement, content: bytes, workplace: Workplace, target: Path) -> Measurement:
    """The measurement with those of the ONNX file, which is written when onnxruntime agrees with the packed file.

    A file that it does not agree with is a finding, not the end of the trial: the packed file is as good as before.
    """
    from trainables.export.onnx_check import write_and_check

    try:
        checked = write_and_check(content, workplace.val, measurement.accuracy)
    except ArtifactMismatch as err:
        target.unlink(missing_ok=True)
        return measurement.model_copy(update={"onnx_failure": str(err)})
    replace(target, checked.content)
    return measurement.model_copy(update={"onnx_size_bytes": checked.size_bytes, "onnx_accuracy": checked.accuracy})


def packed_accuracy(content: bytes, images: Images, device: Device) -> float:
    """Fraction right of the network decoded from a packed file's bytes.

    Raises:
        CorruptFile: the bytes are no packed file.
    """
    network = unpack(content).network()
    device.place(network)
    return evaluate(network, images)


@functools.lru_cache(maxsize=64)
def _fp32_bytes(architecture_json: str) -> int:
    return fp32_bytes(Architecture.model_validate_json(architecture_json))


def baseline_bytes(architecture: Architecture) -> int:
    """fp32 bytes of the unpruned network of this architecture; cached, since every trial asks."""
    return _fp32_bytes(architecture.model_copy(update={"widths": {}}).model_dump_json())


def _write(result: StageResult, data: DataSet, artifact: Path, *, coder: Choice) -> bytes:
    """Writes the packed file if it is not there yet, and returns the bytes on disk."""
    assert result.scheme is not None, "the last stage quantizes"
    header = Header(architecture=result.architecture, scheme=result.scheme, mean=data.mean, std=data.std)
    content = pack(result.model(), header, coder=coder)
    if not create_once(artifact, content) and artifact.read_bytes() != content:
        replace(artifact, content)  # left by another version or a fault of the disk; no record names it
    return artifact.read_bytes()
