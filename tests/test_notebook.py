"""The tutorial's notebook runs from its first cell to its last, and is kept without what it has shown."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.documents import ROOT
from tests.notebooks import LOOPBACK, settle_in
from tune_app.tables.query import frontier_frame

NOTEBOOK = ROOT / "docs/tutorial.ipynb"


def test_it_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_its_links_lead_somewhere() -> None:
    assert "(python.md)" in NOTEBOOK.read_text()
    assert "tutorial.ipynb" in (ROOT / "docs/python.md").read_text()


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settle_in(tmp_path, monkeypatch)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.create_kernel_manager().ip = LOOPBACK
    client.execute()
    shown = [str(output) for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any(">finished<" in text and "10 of 10 trials" in text for text in shown)
    said = [text for text in shown if "stderr" in text and "IProgress" not in text]  # Optuna misses ipywidgets there
    assert said == []
    assert len(frontier_frame(tmp_path / "runs/digits")) >= 2
