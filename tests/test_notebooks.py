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


def cells(path: Path, kind: str) -> list[str]:
    """The sources of a notebook's cells of one kind, ``code`` or ``markdown``."""
    notebook = nbformat.read(path, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def imports(path: Path) -> list[ast.stmt]:
    """The import statements of all code cells, in order."""
    found = []
    for source in cells(path, "code"):
        lines = [line for line in source.splitlines() if not line.startswith("%")]
        found += ast.walk(ast.parse("\n".join(lines)))
    return [node for node in found if isinstance(node, (ast.Import, ast.ImportFrom))]


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == [
        "01_quickstart",
        "02_training_offload",
        "03_early_exit",
        "04_distributed_inference",
        "05_pipeline_training",
        "06_federated_training",
        "07_gossip_training",
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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_imports_resolve(path):
    statements = imports(path)
    assert any(isinstance(node, ast.ImportFrom) and node.module == "mec_gym" for node in statements)
    for node in statements:
        exec(ast.unparse(node), {})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=names)
def test_links(path):
    links = re.findall(r"\]\(([^)\s]+)\)", "\n".join(cells(path, "markdown")))
    assert any(link.startswith("../docs/environments/") for link in links)
    for link in links:
        place, _, anchor = link.partition("#")
        page = path.parent / place
        assert page.exists(), link
        if anchor:
            heading = "^#+ " + anchor.replace("-", "[^a-z0-9\n]+") + r"[^\w\n]*$"
            text = page.read_text(encoding="utf-8")
            assert re.search(heading, text, re.MULTILINE | re.IGNORECASE), link


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
