"""What an app installs: the wheel and the extra `cpu`, in an environment of its own, with neither torch nor onnx."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "trained" / "lenet5" / "model.onnx"
HEAVY = ("torch", "torchvision", "onnx", "onnxscript", "onnxsim", "sklearn", "matplotlib")
ASK = """
import importlib.util, json, sys
from deploykit.runtime import Predictor
missing = [name for name in sys.argv[3:] if importlib.util.find_spec(name) is None]
with Predictor(sys.argv[1], device="cpu") as model:
    print(json.dumps([missing, model.predict(sys.argv[2]).label, len(list(model.predict_many([sys.argv[2]] * 3)))]))
"""


@pytest.fixture(scope="module")
def app(wheel, tmp_path_factory):
    """A virtual environment with the wheel and its extra `cpu`, at the versions that CI uses."""
    folder = tmp_path_factory.mktemp("app")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", ROOT / "constraints.txt"]
    done = subprocess.run([*install, f"{wheel}[cpu,cli]"], capture_output=True, text=True, timeout=600, env=clean())
    if done.returncode and "No matching distribution found" in done.stderr:
        pytest.skip("no package registry can be reached")
    assert done.returncode == 0, done.stderr[-2000:]
    return python


def clean():
    """Without the source folder on the path: pip would take what lies there for installed."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def ask(app, cwd, *arguments):
    return subprocess.run([app, *map(str, arguments)], cwd=cwd, env=clean(), capture_output=True, text=True, timeout=300)


def test_predictor_answers_with_neither_torch_nor_onnx(app, tmp_path, digit_files):
    paths, labels = digit_files
    done = ask(app, tmp_path, "-c", ASK, MODEL, paths[0], *HEAVY)
    assert done.returncode == 0, done.stderr
    missing, label, count = json.loads(done.stdout)
    assert missing == list(HEAVY)
    assert label == labels[0]
    assert count == 3


def test_the_command_answers(app, tmp_path, digit_files):
    paths, labels = digit_files
    done = ask(app, tmp_path, "-m", "deploykit", "predict", MODEL, *paths, "--format", "json")
    assert done.returncode == 0, done.stderr
    found = [entry["label"] for entry in json.loads(done.stdout)]
    assert sum(a == b for a, b in zip(found, labels, strict=True)) >= 19
    assert json.loads(ask(app, tmp_path, "-m", "deploykit", "doctor", "--format", "json").stdout)["versions"]["onnxruntime"]


def test_what_needs_more_says_what_to_install(app, tmp_path):
    for command in (("export", "lenet5"), ("validate", MODEL), ("train", "lenet5")):
        done = ask(app, tmp_path, "-m", "deploykit", *command)
        assert done.returncode == 2, (command, done.stderr)
        assert done.stderr.count("\n") == 1
        assert "pip install" in done.stderr
