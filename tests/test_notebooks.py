"""Every notebook runs from top to bottom, and is committed with the outputs that a reader sees."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests import beside

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_with_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run all cells in order, then save"
    assert sum(bool(cell.outputs) for cell in code) > len(code) // 2
    text = str([output for cell in code for output in cell.outputs])
    assert "Traceback" not in text
    assert str(FOLDER.parent) not in text


def main() -> None:
    """Run every notebook; print what each of them complains about, as JSON."""
    print(json.dumps({path.stem: complaints(path) for path in NOTEBOOKS}))


def complaints(path: Path) -> list[str]:
    """The error that ends a notebook, and what it writes to standard error besides that kernels are compiled."""
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}})
    try:
        client.execute(env=os.environ.copy())
    except nbclient.exceptions.CellExecutionError as error:
        return [str(error)]
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]
    return [output.text for output in outputs if "minigrad: compiling" not in output.text]


RUN = beside.add(
    *("notebooks", "-m", "tests.test_notebooks"),
    MPLBACKEND="module://matplotlib_inline.backend_inline",
    PYDEVD_DISABLE_FILE_VALIDATION="1",
)


@RUN
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path):
    assert beside.result("notebooks")[path.stem] == []


if __name__ == "__main__":
    main()
