"""A search that is ready to run, on a proposer without a pipeline."""

from tests.tune_app.run.test_outcome import BASELINE
from tests.tune_app.search.test_ladder import open_proposer
from tune_app.engine.engine import ReadySearch
from tune_app.engine.live_view import LiveView, Status
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.spec.experiment import ExperimentSpec


def make_ready(spec: ExperimentSpec, lease: Lease) -> ReadySearch:
    """A search with the budget and the space of a spec, and no records."""
    folder, proposer = ExperimentFolder(spec.folder), open_proposer(spec)
    return ReadySearch(spec, folder, lease, proposer, BASELINE, LiveView(Status(spec)))
