"""A search in a bucket over a bad line: the same command again while it says that the storage does not answer."""

from functools import partial
from pathlib import Path

from tests.s3 import endpoint, new_bucket, s3_server
from tests.storm.history import check
from tests.storm.s3_proxy import bad_line
from tests.storm.search import TRIALS, Facts, facts, in_child, quick_spec, record_files, search
from trainables.errors import StorageUnavailable
from trainables.storage import storage_path
from tune_app.ledger.folder import ExperimentFolder

MOST = 20
"""Runs until a search has to be at its end."""


def over_bad_line(seed: int, place: Path, expected: Facts) -> bool:
    """Asserts that a search over a bad line finds what it finds on a disk, all of it whole."""
    assert in_child(partial(_searched, seed, expected)) == 0
    return True


def _searched(seed: int, expected: Facts) -> None:
    with s3_server() as server:
        spec = quick_spec(storage_path(new_bucket("storm")))
        folder = ExperimentFolder(spec.folder)
        kept = dict[str, bytes]()
        with bad_line(server, seed) as (address, done), endpoint(address):
            for _ in range(MOST):
                try:
                    search(spec)
                    break
                except StorageUnavailable:
                    with endpoint(server):
                        kept |= record_files(folder)
            else:
                raise AssertionError(f"no end after {MOST} runs: {done}")
        assert len(done) > 1, "nothing happened"
        with endpoint(server):
            found = facts(folder)
            assert (found, len(found)) == (expected, TRIALS)
            check(folder, kept, spec)
