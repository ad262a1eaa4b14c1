"""The check of a written ONNX file in onnxruntime: does it compute what the packed file computes?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from trainables.data.images import Images
from trainables.errors import ArtifactMismatch
from trainables.export.onnx.graph import write_onnx
from trainables.export.onnx.processor import products_saturate

TOLERANCE = 0.001
"""The accuracies of the packed and the ONNX file may differ by a tenth of a point, or by one image where that is
more: a sum in another order can move a value across a rounding border, and n images resolve no less than 1/n."""
BATCH = 256
"""Images at a time; more would take more memory, and fewer more calls for the same images."""
Advance = Callable[[int], None]


@dataclass(frozen=True)
class OnnxResult:
    """A checked file: its bytes, and what onnxruntime makes of it on the images it was checked on."""

    content: bytes
    accuracy: float

    @property
    def size_bytes(self) -> int:
        """The length of the file."""
        return len(self.content)


def write_and_check(
    packed: bytes, images: Images, packed_accuracy: float, *, advance: Advance = lambda count: None
) -> OnnxResult:
    """Returns the ONNX file of a packed file, if onnxruntime finds the same accuracy with it; `advance` counts images.

    Raises:
        ArtifactMismatch: it does not.
        CorruptFile: the bytes are no packed file.
    """
    content = write_onnx(packed)
    return OnnxResult(content, check_onnx(content, images, packed_accuracy, advance=advance))


def check_onnx(
    content: bytes, images: Images, packed_accuracy: float, *, advance: Advance = lambda count: None
) -> float:
    """Returns the accuracy of an ONNX file, near that of the packed file.

    Raises:
        ArtifactMismatch: it is more than a tenth of a point (on fewer than 1,000 images: more than one image) away
            from `packed_accuracy`, or onnxruntime refuses the file.
    """
    accuracy = onnx_accuracy(content, images, advance=advance)
    allowed = max(TOLERANCE, 1 / len(images))
    if abs(accuracy - packed_accuracy) > allowed + 1e-9:
        raise ArtifactMismatch(
            f"the ONNX file has accuracy {accuracy:.4f}, the packed file {packed_accuracy:.4f}; "
            f"on {len(images)} images they may differ by {allowed:.4f}"
        )
    return accuracy


def onnx_accuracy(content: bytes, images: Images, *, advance: Advance = lambda count: None) -> float:
    """Returns the fraction of images whose largest logit is at the label; errors are those of `open_session`."""
    labels, right, session = images.labels.cpu().numpy(), 0, open_session(content)
    for start in range(0, len(images), BATCH):
        pixels = images.pixels[start : start + BATCH].cpu().numpy()
        right += int((onnx_logits(session, pixels).argmax(1) == labels[start : start + BATCH]).sum())
        advance(len(pixels))
    return right / len(images)


def onnx_logits(session: ort.InferenceSession, pixels: np.ndarray) -> np.ndarray:
    """Returns the logits of images: (N, C, S, S) uint8 → (N, classes) float32."""
    logits: np.ndarray = session.run(["logits"], {"pixels": pixels})[0]
    return logits


def open_session(content: bytes) -> ort.InferenceSession:
    """Opens a file with onnxruntime's defaults on one CPU thread.

    One option differs from the default where products of 8-bit codes saturate: slower kernels that add them up
    exactly. Where they do not, it would slow them down for nothing.

    Raises ArtifactMismatch when onnxruntime refuses the file.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if products_saturate():
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as err:  # onnxruntime's errors have no common base
        raise ArtifactMismatch(f"onnxruntime refuses the ONNX file: {str(err).splitlines()[0]}") from err
