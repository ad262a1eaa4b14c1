"""The stored spec beside drivers that sleep at the wrong moment."""

from pathlib import Path

import pytest

from tests.tune_app.factories import make_spec
from trainables.storage import StoragePath, exists, names, replace
from tune_app.errors import LeaseHeld
from tune_app.ledger.folder import ExperimentFolder
from tune_app.ledger.lease import Lease
from tune_app.run.stored_spec import claim
from tune_app.spec.experiment import ExperimentSpec


def spec_of(storage: StoragePath, trials: int) -> ExperimentSpec:
    return make_spec(storage, budget={"trials": trials})


def run(spec: ExperimentSpec) -> None:
    with Lease(ExperimentFolder(spec.folder)) as lease:
        claim(lease, spec)


def lose(folder: ExperimentFolder) -> None:
    """What a driver finds when it wakes: another one had the lease and gave it back."""
    replace(folder.lease / "00000002.json", b"{}")


@pytest.mark.parametrize("other", [30, 18, 24], ids=["a third spec", "the stored one", "the same one"])
def test_a_driver_that_slept_before_it_wrote_leaves_the_spec_of_who_took_over(
    other: int, storage: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ExperimentFolder(spec_of(storage, 18).folder)
    folder.claim(spec_of(storage, 18))

    def asleep(path: StoragePath, content: bytes) -> None:
        """Sleeps between the look at the stored spec and the rename, while another driver runs and ends."""
        monkeypatch.setattr("tune_app.ledger.folder.replace", replace)
        lose(folder)
        run(spec_of(storage, other))
        replace(path, content)

    monkeypatch.setattr("tune_app.ledger.folder.replace", asleep)
    with Lease(folder) as first, pytest.raises(LeaseHeld, match="took over"):
        claim(first, spec_of(storage, 24))
    assert folder.read_spec().budget.trials == other


@pytest.mark.parametrize("other", [30, 24], ids=["a third spec", "the same one"])
def test_who_has_just_taken_over_writes_its_spec_again(
    other: int, storage: StoragePath, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that slept puts back what it knew of, after the new one has compared and before it left its copy."""
    folder = ExperimentFolder(spec_of(storage, 18).folder)
    folder.claim(spec_of(storage, 18))
    save = Lease.save_spec

    def late(lease: Lease, text: bytes) -> None:
        folder.store_spec(spec_of(storage, 18))
        save(lease, text)

    monkeypatch.setattr(Lease, "save_spec", late)
    run(spec_of(storage, other))
    assert folder.read_spec().budget.trials == other


def test_who_puts_back_looks_again(storage: StoragePath, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ExperimentFolder(spec_of(storage, 18).folder)
    folder.claim(spec_of(storage, 18))

    def asleep(path: StoragePath, content: bytes) -> None:
        """Another driver runs after this one has looked for its copy and before it has put back what was there."""
        monkeypatch.setattr("tune_app.run.stored_spec.replace", replace)
        run(spec_of(storage, 30))
        replace(path, content)

    monkeypatch.setattr("tune_app.run.stored_spec.replace", asleep)
    with Lease(folder) as first:
        lose(folder)
        with pytest.raises(LeaseHeld, match="took over"):
            claim(first, spec_of(storage, 24))
    assert folder.read_spec().budget.trials == 30


def test_one_copy_is_kept(tmp_path: Path) -> None:
    folder = ExperimentFolder(spec_of(tmp_path, 18).folder)
    for trials in (18, 24, 24):
        run(spec_of(tmp_path, trials))
    assert names(folder.lease, "*.yaml") == ["00000003.yaml"]
    assert exists(folder.spec_file)


def test_what_is_no_copy_of_a_spec_is_never_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ExperimentFolder(spec_of(tmp_path, 18).folder)
    folder.claim(spec_of(tmp_path, 18))
    replace(folder.lease / "99999999.yaml", b"name: foreign")
    (tmp_path / "toy" / "lease" / "00000000.yaml").mkdir()
    run(spec_of(tmp_path, 24))
    with Lease(folder) as first:
        replace(folder.lease / "00000003.json", b"{}")
        with pytest.raises(LeaseHeld, match="took over"):
            claim(first, spec_of(tmp_path, 30))
    assert folder.read_spec().budget.trials == 24
