"""What is measured of a finished trial: its packed file, read back from the bytes, and what follows from it."""

import torch

from trainables.costs.counts import counted_metrics, sparsity_achieved
from trainables.costs.size_formulas import formula_bytes
from trainables.data.images import Images
from trainables.device import Device
from trainables.errors import ArtifactMismatch, Collapsed, ConfigError
from trainables.export.header import skeleton
from trainables.export.packed import PackedModel, size_breakdown, unpack
from trainables.models.model import fp32_bytes
from trainables.models.units import units
from trainables.prune.channels import prune_frac_achieved
from trainables.prune.masks import check_zeros, weights_of
from trainables.results import Measurement, Scores, chance_limit
from trainables.stages.stage import StageResult
from trainables.stages.workplace import Workplace
from trainables.storage import StoragePath, remove, replace
from trainables.train.evaluation import score

TOLERANCE = 0.001
"""The accuracy by which a decoded file may differ from the trained network, a tenth of a point. Both compute the same
function, but on another device sums have another order, and an activation between two steps may fall either way."""


def measure(content: bytes, trained: StageResult, workplace: Workplace, *, untrained: bool = False) -> Measurement:
    """Measures a packed file: its bytes are decoded, and the network evaluated on the validation split.

    Raises:
        ArtifactMismatch: the decoded network is not the one that was packed.
        Collapsed: its accuracy is at chance, and the baseline was not `untrained`; the error carries the measurement.
    """
    packed = unpack(content)
    scores = score(workplace.device.place(packed.network()), workplace.val)
    accuracy = scores.accuracy
    accuracy_trained = trained.metrics["val_accuracy"]
    if abs(accuracy - accuracy_trained) > TOLERANCE:
        raise ArtifactMismatch(
            f"the decoded file has accuracy {accuracy:.4f}, the trained network {accuracy_trained:.4f}; "
            f"they may differ by {TOLERANCE}"
        )
    model = trained.model()
    decoded = dict(zip(units(model), map(torch.from_numpy, packed.codes), strict=True))
    check_zeros(weights_of(model), decoded, where="in the decoded file")
    measurement = Measurement(
        **vars(scores),
        accuracy_trained=accuracy_trained,
        n=len(workplace.val),
        size_bytes=len(content),
        size_breakdown=size_breakdown(content),
        compression_ratio=fp32_bytes(trained.architecture) / len(content),
        prune_frac_achieved=prune_frac_achieved(trained.architecture),
        sparsity_achieved=sparsity_achieved(packed.codes),
        formula_bytes=formula_bytes(model),
        **counted_metrics(model, trained.architecture),
    )
    if not untrained and accuracy <= chance_limit(workplace.data.classes):
        err = Collapsed(f"accuracy {accuracy:.4f} is at chance for {workplace.data.classes} classes")
        err.measurement = measurement
        raise err
    return measurement


def with_onnx(measurement: Measurement, content: bytes, workplace: Workplace, target: StoragePath) -> Measurement:
    """Adds size and accuracy of the ONNX file, which is written when onnxruntime agrees with the packed file.

    A file that it does not agree with, or that cannot be written, is a finding and not the end of the trial: the packed
    file is as good as before.
    """
    from trainables.export.onnx.check import write_and_check

    try:
        checked = write_and_check(content, workplace.val, measurement.accuracy)
    except (ArtifactMismatch, ConfigError) as err:
        remove(target)
        return measurement.model_copy(update={"onnx_failure": str(err)})
    replace(target, checked.content)
    return measurement.model_copy(update={"onnx_size_bytes": checked.size_bytes, "onnx_accuracy": checked.accuracy})


def file_metrics(packed: PackedModel, *, size_bytes: int) -> dict[str, float]:
    """Returns by name the METRICS that a packed file says by itself, without images: all but the SCORES."""
    architecture = packed.header.architecture
    return {
        "size_bytes": size_bytes,
        "compression_ratio": fp32_bytes(architecture) / size_bytes,
        **counted_metrics(skeleton(packed.header), architecture),
        "sparsity_achieved": sparsity_achieved(packed.codes),
    }


def packed_scores(content: bytes, images: Images, device: Device) -> Scores:
    """Returns the scores of the network that is decoded from a file, or raises CorruptFile: it is no packed file."""
    return score(device.place(unpack(content).network()), images)
