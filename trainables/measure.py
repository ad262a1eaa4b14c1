"""What is measured of a finished trial: its packed file, read back from the bytes, and what follows from it."""

import functools

import torch

from trainables.config import Architecture
from trainables.costs.counts import count, sparsity_achieved
from trainables.costs.size_formulas import formula_bytes
from trainables.data.images import Images
from trainables.device import Device
from trainables.errors import ArtifactMismatch, Collapsed
from trainables.export.header import skeleton
from trainables.export.packed import PackedModel, size_breakdown, unpack
from trainables.models.model import fp32_bytes
from trainables.models.units import count_parameters, units
from trainables.prune.channels import prune_frac_achieved
from trainables.prune.masks import check_zeros, weights_of
from trainables.results import CHANCE_FACTOR, Measurement
from trainables.stages.stage import StageResult
from trainables.stages.workplace import Workplace
from trainables.storage import StoragePath, remove, replace
from trainables.train.loop import evaluate

TOLERANCE = 0.001
"""A decoded file may differ from the trained network by a tenth of a point."""


def measure(content: bytes, trained: StageResult, workplace: Workplace, *, untrained: bool = False) -> Measurement:
    """Everything about a packed file, read from its bytes on the validation split.

    Raises:
        ArtifactMismatch: the decoded network is not the one that was packed.
        Collapsed: its accuracy is at chance, and the baseline was not `untrained`; the error carries the measurement.
    """
    packed = unpack(content)
    accuracy = _accuracy(packed, workplace.val, workplace.device)
    accuracy_trained = trained.metrics["val_accuracy"]
    if abs(accuracy - accuracy_trained) > TOLERANCE:
        raise ArtifactMismatch(
            f"the decoded file has accuracy {accuracy:.4f}, the trained network {accuracy_trained:.4f}; "
            f"they may differ by {TOLERANCE}"
        )
    model = trained.model()
    decoded = dict(zip(units(model), map(torch.from_numpy, packed.codes), strict=True))
    check_zeros(weights_of(model), decoded, where="in the decoded file")
    counts = count(model, trained.architecture)
    measurement = Measurement(
        accuracy=accuracy,
        accuracy_trained=accuracy_trained,
        n=len(workplace.val),
        size_bytes=len(content),
        size_breakdown=size_breakdown(content),
        compression_ratio=baseline_bytes(trained.architecture) / len(content),
        parameters=count_parameters(model),
        prune_frac_achieved=prune_frac_achieved(trained.architecture),
        sparsity_achieved=sparsity_achieved(packed.codes),
        macs=counts.macs,
        bops=counts.bops,
        activation_bytes=counts.activation_bytes,
        peak_activation_bytes=counts.peak_activation_bytes,
        formula_bytes=formula_bytes(model),
    )
    if not untrained:
        _check_above_chance(measurement, classes=workplace.data.classes)
    return measurement


def _check_above_chance(measurement: Measurement, *, classes: int) -> None:
    if measurement.accuracy <= CHANCE_FACTOR / classes:
        err = Collapsed(f"accuracy {measurement.accuracy:.4f} is at chance for {classes} classes")
        err.measurement = measurement
        raise err


def with_onnx(measurement: Measurement, content: bytes, workplace: Workplace, target: StoragePath) -> Measurement:
    """The measurement with those of the ONNX file, which is written when onnxruntime agrees with the packed file.

    A file that it does not agree with is a finding, not the end of the trial: the packed file is as good as before.
    """
    from trainables.export.onnx_check import write_and_check

    try:
        checked = write_and_check(content, workplace.val, measurement.accuracy)
    except ArtifactMismatch as err:
        remove(target)
        return measurement.model_copy(update={"onnx_failure": str(err)})
    replace(target, checked.content)
    return measurement.model_copy(update={"onnx_size_bytes": checked.size_bytes, "onnx_accuracy": checked.accuracy})


def file_metrics(packed: PackedModel, *, size_bytes: int) -> dict[str, float]:
    """By name the METRICS that a packed file says by itself, without images: all but the accuracy."""
    architecture, model = packed.header.architecture, skeleton(packed.header)
    counts = count(model, architecture)
    return {
        "size_bytes": size_bytes,
        "compression_ratio": baseline_bytes(architecture) / size_bytes,
        "parameters": count_parameters(model),
        "macs": counts.macs,
        "bops": counts.bops,
        "activation_bytes": counts.activation_bytes,
        "peak_activation_bytes": counts.peak_activation_bytes,
        "sparsity_achieved": sparsity_achieved(packed.codes),
    }


def packed_accuracy(content: bytes, images: Images, device: Device) -> float:
    """Fraction right of the network decoded from a packed file's bytes.

    Raises:
        CorruptFile: the bytes are no packed file.
    """
    return _accuracy(unpack(content), images, device)


def _accuracy(packed: PackedModel, images: Images, device: Device) -> float:
    network = packed.network()
    device.place(network)
    return evaluate(network, images)


@functools.lru_cache(maxsize=64)
def _fp32_bytes(architecture_json: str) -> int:
    return fp32_bytes(Architecture.model_validate_json(architecture_json))


def baseline_bytes(architecture: Architecture) -> int:
    """fp32 bytes of the unpruned network of this architecture; cached, since every trial asks."""
    return _fp32_bytes(architecture.model_copy(update={"widths": {}}).model_dump_json())
