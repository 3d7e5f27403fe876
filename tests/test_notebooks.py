"""Every notebook runs from top to bottom, and is committed without what it printed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def names(path: Path) -> str:
    return path.stem


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS][:3] == [
        "01_quickstart",
        "02_training_offload",
        "03_early_exit",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        assert str(ROOT) not in cell.source
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, cell.id


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_runs(path, monkeypatch):
    monkeypatch.setenv("MEC_GYM_NOTEBOOK_STEPS", "50000")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # this checkout, installed or not
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    # A cell that raises makes execute() raise, with the cell's traceback.
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out.output_type == "error"]
    assert [out for out in outputs if "image/png" in out.get("data", {})]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_what_is_imported_is_there(path):
    """What the slow test would find out only after minutes."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            tree = ast.parse(re.sub(r"(?m)^%.*$", "", cell.source))
            imports = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
            exec(compile(ast.Module(imports, []), path.name, "exec"), {})
