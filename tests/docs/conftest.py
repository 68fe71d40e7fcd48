"""What the tests of the documentation share: the site, built once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode leaves helpers beside the tests unfound

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder of the built site, as `make docs` builds it: a warning is an error."""
    for package in ("sphinx", "furo", "myst_parser", "sphinx_click"):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'deploykit[docs]'")
    folder = tmp_path_factory.mktemp("site")
    recipe = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "-m sphinx" in line)
    options = recipe.partition("-m sphinx ")[2].split()
    options[options.index("build/doctrees")] = str(folder / "doctrees")
    assert options[-2:] == ["docs", "build/docs"]
    command = [sys.executable, "-m", "sphinx", *options[:-1], str(folder / "html")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"
