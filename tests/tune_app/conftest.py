"""Packages with plug-ins that a test installs, and figures that are quick to draw."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainables.registry import _installed, _scan


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Puts a package with entry points where installed ones are looked for."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(name: str, group: str, *, version: str = "1.5", **points: str) -> None:
        for older in tmp_path.glob(f"{name}-*.dist-info"):
            shutil.rmtree(older)
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        lines = [f"{point} = {place}" for point, place in points.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]))
        for memory in (_installed, _scan):
            memory.cache_clear()

    yield put
    for memory in (_installed, _scan):
        memory.cache_clear()


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two figures of an analysis instead of ten; all are drawn in tests/tune_app/mistakes/test_figures.py."""
    from tune_app.mistakes.figures import FIGURES

    two = {name: FIGURES[name] for name in ("class_accuracy", "confusion_normalized")}
    monkeypatch.setattr("tune_app.mistakes.figures.FIGURES", two)
