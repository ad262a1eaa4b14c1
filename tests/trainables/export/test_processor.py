from collections.abc import Iterator
from pathlib import Path

import pytest

from trainables.export.onnx import processor

XEON = "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu avx2 avx512f{more}\n\nprocessor\t: 1\nmodel name\t: other\n"
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd asimddp sve i8mm\n\n"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Machine":
    return Machine(monkeypatch, tmp_path / "cpuinfo")


class Machine:
    """Pretends to be another one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
        self._patch, self._path = monkeypatch, path
        monkeypatch.setattr(processor, "CPUINFO", path)

    def be(self, architecture: str, cpuinfo: str) -> None:
        self._patch.setattr(processor.platform, "machine", lambda: architecture)
        self._patch.setattr(processor.platform, "processor", lambda: "")
        self._path.write_text(cpuinfo)
        processor._cpuinfo.cache_clear()


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What was read before or in a test is not known afterwards."""
    processor._cpuinfo.cache_clear()
    yield
    processor._cpuinfo.cache_clear()


def test_name_and_flags_are_those_of_the_first_core(machine: Machine) -> None:
    machine.be("x86_64", XEON.format(more=" avx512_vnni"))
    assert processor.processor_name() == "Xeon"
    assert processor.processor_flags() == ("avx2", "avx512f", "avx512_vnni")
    machine.be("aarch64", GRAVITON)
    assert processor.processor_name() == "aarch64"
    assert processor.processor_flags() == ("asimddp", "i8mm", "sve")


def test_products_saturate_on_x86_without_vnni_or_in_doubt(machine: Machine) -> None:
    machine.be("x86_64", XEON.format(more=""))
    assert processor.products_saturate()
    machine.be("x86_64", XEON.format(more=" avx_vnni"))
    assert not processor.products_saturate()
    machine.be("AMD64", "")
    assert processor.products_saturate()
    machine.be("aarch64", GRAVITON)
    assert not processor.products_saturate()


def test_a_machine_that_tells_nothing_has_its_architecture_for_a_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    assert processor.processor_flags() == ()
    assert processor.processor_name()
