"""Export of one point: its packed file, its card, and its ONNX file, verified, into a folder of the user's."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from search_spaces.rungs import FULL
from trainables.errors import ConfigError
from trainables.storage import StoragePath, exists, read_bytes, remove, replace, sha256
from tune_app.artifacts.test_split import verified_artifact
from tune_app.ledger.baseline import read_baseline
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Assignment, TrialRecord, params_label
from tune_app.ledger.reading import read_records
from tune_app.terminal.progress import counting, doing

if TYPE_CHECKING:
    from trainables.data.data_sets import DataSet
    from trainables.data.images import Images
    from trainables.export.onnx_check import OnnxResult

SHOWN = 8
"""Names in a message."""
PACKED, CARD, ONNX = "model.mbq", "card.json", "model.onnx"
FOLDER_CHARS = 100
"""Of a label that names a folder; names of files end at 255 bytes."""


def find_trial(folder: ExperimentFolder, name: str, records: Sequence[TrialRecord] | None = None) -> TrialRecord:
    """The complete trial with this label (`p30_w4_a8`, `p30_w4_a8@ptq#2`), id, or unique start of an id.

    A label without a rung is of the full schedule, or else of the only rung that knows its point. `@full` may be
    written out, and a label that a table cut ends with `…`. `records` are those of the folder, if they were read
    already.

    Raises:
        ConfigError: no trial or several fit, or the trial has no artifact.
    """
    found = find_record(folder, name, records)
    if found.state != "complete":
        raise ConfigError(f"trial {name!r} is {found.state} ({found.reason}): it has no artifact.")
    return found


def find_record(folder: ExperimentFolder, name: str, records: Sequence[TrialRecord] | None = None) -> TrialRecord:
    """As `find_trial`, of a trial of any state.

    Raises:
        ConfigError: no trial or several fit.
    """
    records = read_records(folder) if records is None else records
    found = next(filter(None, ([r for r in records if fits(name, r.assignment)] for fits in FITS)), [])
    if not found:
        raise ConfigError(f"no trial of {folder.path} is called {name!r}; {_known(name, records)}")
    if len(found) > 1:
        raise ConfigError(f"{name!r} fits {_some([r.assignment.trial_id for r in found])}: give one of them.")
    return found[0]


def folder_name(record: TrialRecord) -> str:
    """What the folder of an exported trial is called: its label, or its id where the label is long or holds a slash."""
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

    if isinstance(target, Path) and target.exists() and not target.is_dir():
        raise ConfigError(f"{target} is a file: give a folder.")
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
    from trainables.device import choose_device
    from trainables.export.onnx_check import write_and_check
    from trainables.measure import packed_accuracy

    path = target / ONNX
    remove(path)
    content, images = verified_artifact(record, folder), _validation_images(folder)
    with doing("evaluating the packed file"):
        accuracy = packed_accuracy(content, images, choose_device(gpu_share=0))
    with counting("checking the ONNX file, images", total=len(images)) as advance:
        result = write_and_check(content, images, accuracy, advance=advance)
    replace(path, result.content)
    return result


def experiment_data(folder: ExperimentFolder) -> "DataSet":
    """The data set of an experiment.

    Raises:
        ConfigError: it is not at hand, or not the one that the experiment began with.
    """
    from trainables.data.data_sets import load_data

    data, baseline = load_data(folder.read_spec().base.data), read_baseline(folder)
    if baseline is not None and data.fingerprint != baseline.fingerprint:
        raise ConfigError(f"the data set is not the one that {folder.path} began with: restore its files.")
    return data


def _refuse_others(target: StoragePath, record: TrialRecord, content: bytes) -> None:
    """What was exported before of this trial has its packed file, or a card that names that file."""
    found = {name: read_bytes(target / name) for name in (PACKED, CARD, ONNX) if exists(target / name)}
    digest = sha256(content).encode()
    if found and found.get(PACKED) != content and digest not in found.get(CARD, b""):
        raise ConfigError(
            f"{target} holds {', '.join(found)} of something else than {record.assignment.label} "
            f"({record.assignment.trial_id}): name another folder with --output."
        )


def _is_named(name: str, work: Assignment) -> bool:
    return name == work.label or (work.rung == FULL and name.replace(f"@{FULL}", "") == work.label)


def _is_first_run(name: str, work: Assignment) -> bool:
    return work.repeat == 0 and name == params_label(work.params)


def _has_id(name: str, work: Assignment) -> bool:
    return name != "" and work.trial_id.startswith(name)


def _was_cut(name: str, work: Assignment) -> bool:
    return name.endswith("…") and work.label.startswith(name[:-1])


FITS = (_is_named, _is_first_run, _has_id, _was_cut)
"""Ways to call a trial; the first that some trial answers to counts."""


def _known(name: str, records: Sequence[TrialRecord]) -> str:
    labels = [r.assignment.label for r in records if r.state == "complete"]
    close = difflib.get_close_matches(name, labels, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {_some(labels) or 'none yet'}."


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _validation_images(folder: ExperimentFolder) -> "Images":
    from trainables.data.images import Images
    from trainables.device import choose_device

    data = experiment_data(folder)
    return Images(data.val, data.mean, data.std, choose_device(gpu_share=0).torch)
