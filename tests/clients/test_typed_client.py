"""The typed client runs, and type checkers in strict mode find nothing to say about it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deploykit

CLIENT = Path(__file__).with_name("typed_client.py")
ROOT = Path(deploykit.__file__).parents[1]


def run(folder, *command, **variables):
    """A command in a folder without a configuration, as a user's own is; what it says where it fails."""
    environment = {**os.environ, **variables}
    done = subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_it_runs(tmp_path):
    said = run(tmp_path, sys.executable, CLIENT, tmp_path, PYTHONPATH=str(ROOT))
    assert "<Verdict net.onnx against Net: same>".replace("net.onnx", str(tmp_path / "net.onnx")) in said


def test_it_names_all_that_is_public():
    text = CLIENT.read_text()
    errors = {"DeploykitError", "DeviceUnavailable"}
    assert not [name for name in deploykit.__all__ if name not in text and name not in errors]


@pytest.mark.slow
def test_mypy_strict(tmp_path):
    """As where deploykit is installed: it is found by its path, and what is inside of it is not the user's to answer for."""
    shutil.copy(CLIENT, tmp_path)
    options = ("--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={ROOT / '.mypy_cache' / 'client'}")
    run(tmp_path, sys.executable, "-m", "mypy", *options, CLIENT.name, MYPYPATH=str(ROOT))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pyright") is None, reason="pyright is not installed: pip install pyright (it fetches Node.js)")
def test_pyright_strict(tmp_path):
    shutil.copy(CLIENT, tmp_path)
    settings = {"typeCheckingMode": "strict", "include": [CLIENT.name], "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    run(tmp_path, "pyright", "--pythonpath", sys.executable)
