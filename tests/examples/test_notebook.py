"""The notebook runs from its first cell to its last, and what it shows can be read."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
# In a process of its own: Jupyter's libraries warn of each other, and here every warning is an error.
RUN = """
import sys
import nbformat
from nbclient import NotebookClient

source, target = sys.argv[1:]
book = nbformat.read(source, 4)
NotebookClient(book, timeout=600, kernel_name="python3").execute()
nbformat.write(book, target)
"""


def outputs_of(notebook):
    """The outputs of all cells of code, in order; each cell of code must have run."""
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in cells)
    return [output for cell in cells for output in cell["outputs"]]


def require_readable(outputs):
    """A table for every step, nothing on stderr, no dataclass spelled out."""
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    shown = [output["data"] for output in outputs if "data" in output]
    assert all(len("".join(data["text/plain"])) < 400 for data in shown)
    pages = ["".join(data["text/html"]) for data in shown]
    assert all("<table>" in page and len(page) < 20_000 for page in pages)
    words = [
        "trained lenet5",
        "exported",
        "verdict: same network",
        "416,520",
        "label",
        "exported Own",
        "Own: 2,853 parameters",
        "verdict: not the same",
    ]
    assert not [word for word in words if not any(word in page for page in pages)]


@pytest.mark.slow
@pytest.mark.skipif(not all(map(find_spec, ("nbclient", "ipykernel"))), reason="nbclient and ipykernel are not installed")
def test_the_notebook_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", RUN, NOTEBOOK, tmp_path / "done.ipynb"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    require_readable(outputs_of(tmp_path / "done.ipynb"))


def test_what_ships_was_run_and_names_no_folder_of_the_machine():
    require_readable(outputs_of(NOTEBOOK))
    text = NOTEBOOK.read_text()
    assert not [word for word in ("/tmp/", "/home/", "/root", "/work", "C:\\\\") if word in text]
