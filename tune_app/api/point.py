"""Point: one configuration of an experiment whose network can be loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trainables.errors import CorruptFile
from trainables.storage import StoragePath
from tune_app.findings.frontier_points import FrontierPoint
from tune_app.findings.pick import Pick
from tune_app.frontier.points import MAIN
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.ledger import Ledger, Params, TrialRecord
from tune_app.ledger.reading import verified_artifact
from tune_app.tables.columns import show

if TYPE_CHECKING:
    from trainables.network_file import FromPixels


@dataclass(frozen=True)
class Point:
    """One point of an experiment, and the packed file of the run that stands for it."""

    label: str
    """The name that commands take for it, such as `p30_w4_a8`."""
    trial_id: str
    params: Params
    values: Mapping[str, float]
    """What was measured, by column; of a picked point with several runs the means of its objectives."""
    path: StoragePath
    """Where its packed file, `model.mbq`, lies."""
    why: str = ""
    """Why it was picked; empty for a point that was named."""
    drop: float | None = None
    """Accuracy below the baseline's, as a share; None without a baseline, and for a point that was named."""
    _folder: ExperimentFolder = field(repr=False, kw_only=True)

    @property
    def accuracy(self) -> float:
        """The share of validation images that the network decoded from the file gets right."""
        return self.values["accuracy"]

    @property
    def size_bytes(self) -> int:
        """The length of the packed file."""
        return int(self.values["size_bytes"])

    @property
    def compression_ratio(self) -> float:
        """How many times smaller the file is than the unpruned network in fp32."""
        return self.values["compression_ratio"]

    def load(self) -> "FromPixels":
        """Returns the network as a torch module, decoded from its packed file; on the CPU, in eval mode.

        It takes pixels (N, C, H, W) from 0 to 255, such as uint8, and returns logits (N, classes).

        Raises:
            CorruptFile: the file, or the record of its trial, is gone or is not what was measured.
        """
        from trainables.network_file import FromPixels, packed_network

        record = Ledger(self._folder.trials).find(self.trial_id)
        if record is None:
            raise CorruptFile(f"the record of {self.label} ({self.trial_id}) is gone or damaged: run the search again.")
        return FromPixels(packed_network(verified_artifact(record, self._folder))).eval()

    def __repr__(self) -> str:
        figures = ", ".join(show(name, self.values[name]) for name in MAIN)
        return f"<{type(self).__name__} {self.label}: {figures}>"


def picked(found: Pick, folder: ExperimentFolder) -> Point:
    """Returns the point that was picked from an experiment."""
    point: FrontierPoint = found.point
    params, values = point.params, point.values
    return Point(point.label, point.trial_id, params, values, found.artifact, found.why, found.drop, _folder=folder)


def named(record: TrialRecord, folder: ExperimentFolder) -> Point:
    """Returns the point of a complete trial."""
    work = record.assignment
    path = folder.packed_file(work.trial_id)
    return Point(work.label, work.trial_id, work.params, record.metrics(), path, _folder=folder)
