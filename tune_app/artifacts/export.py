"""Exports one point into a folder of the user's: its packed file, its card, and its ONNX file, verified."""

from typing import TYPE_CHECKING

from trainables.errors import ConfigError
from trainables.storage import StoragePath, exists, read_bytes, refuse_file, remove, replace, sha256
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import PACKED, ExperimentFolder
from tune_app.ledger.ledger import TrialRecord
from tune_app.ledger.reading import verified_artifact
from tune_app.terminal.progress import counting, doing

if TYPE_CHECKING:
    from trainables.data.data_sets import DataSet
    from trainables.export.onnx.check import OnnxResult

CARD, ONNX = "card.json", "model.onnx"
FOLDER_CHARS = 100
"""The longest label that names a folder: file systems end names at 255 bytes, and a character may take four of
those; what is longer than this nobody reads either."""


def folder_name(record: TrialRecord) -> str:
    """Returns the name of an exported trial's folder: its label, or its id where that is long or holds a slash."""
    work = record.assignment
    return work.label if len(work.label) <= FOLDER_CHARS and not set("/\\") & set(work.label) else work.trial_id


def export_trial(folder: ExperimentFolder, record: TrialRecord, target: StoragePath) -> None:
    """Writes `model.mbq` and `card.json` of a complete trial into `target`, decoding the file once to prove it whole.

    A target that holds an export of the same file is written again; files of another one are left as they are.

    Raises:
        ConfigError: the target is a file, or holds a file of these names that is not this trial's.
        CorruptFile: the artifact is not the file that was measured.
        StorageUnavailable: the target cannot be read or written.
    """
    from trainables.export.packed import unpack

    refuse_file(target)
    content = verified_artifact(record, folder)
    unpack(content)
    _refuse_others(target, record, content)
    replace(target / PACKED, content)
    replace(target / CARD, record.model_dump_json(indent=1).encode() + b"\n")


def export_onnx(folder: ExperimentFolder, record: TrialRecord, target: StoragePath) -> "OnnxResult":
    """Writes `model.onnx` of a trial into `target`, if onnxruntime computes with it what the packed file computes.

    Both are evaluated on the validation split. A `model.onnx` that was there before is gone when this fails.

    Raises:
        ArtifactMismatch: the accuracies differ.
        ConfigError: the data set is not at hand, or not the one that the experiment began with.
        CorruptFile: the artifact is not the file that was measured.
        StorageUnavailable: the target cannot be written.
    """
    from trainables.data.images import Images
    from trainables.device import choose_device
    from trainables.export.onnx.check import write_and_check
    from trainables.measure import packed_scores

    path = target / ONNX
    remove(path)
    content, data, device = verified_artifact(record, folder), experiment_data(folder), choose_device(gpu_share=0)
    images = Images(data.val, data.mean, data.std, device.torch)
    with doing("evaluating the packed file"):
        accuracy = packed_scores(content, images, device).accuracy
    with counting("checking the ONNX file, images", total=len(images)) as advance:
        result = write_and_check(content, images, accuracy, advance=advance)
    replace(path, result.content)
    return result


def experiment_data(folder: ExperimentFolder) -> "DataSet":
    """Loads the data set of an experiment.

    Raises:
        ConfigError: it is not at hand, or not the one that the experiment began with.
    """
    from trainables.data.data_sets import load_data

    data, baseline = load_data(folder.read_spec().base.data), read_baseline(folder)
    if baseline is not None and data.fingerprint != baseline.fingerprint:
        raise ConfigError(f"the data set is not the one that {folder.path} began with: restore its files.")
    return data


def _refuse_others(target: StoragePath, record: TrialRecord, content: bytes) -> None:
    """Refuses a folder with files of something else: an export of this trial has its packed file, or a card of it."""
    found = {name: read_bytes(target / name) for name in (PACKED, CARD, ONNX) if exists(target / name)}
    digest = sha256(content).encode()
    if found and found.get(PACKED) != content and digest not in found.get(CARD, b""):
        raise ConfigError(
            f"{target} holds {', '.join(found)} of something else than {record.assignment.label} "
            f"({record.assignment.trial_id}): name another folder with --output."
        )
