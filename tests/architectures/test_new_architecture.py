"""A new architecture is one new file: nothing else is edited, and everything works with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deploykit

TOY = '''"""A toy network: one convolution and one linear layer."""

from torch import Tensor, nn

from deploykit.architectures import ImageInput, Recipe, register


@register("toy", input=ImageInput(channels=1, height=8, width=8), recipe=Recipe(epochs=2, lr=0.01))
class Toy(nn.Module):
    """A toy for a test; 1x8x8 -> 10 logits."""

    def __init__(self, width: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(width * 36, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, 1, 8, 8) -> logits (batch, classes)."""
        return self.fc(self.flatten(self.relu(self.conv(x))))
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package with one more file; gives a function that runs commands with it."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(Path(deploykit.__file__).parent, root / "deploykit", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "deploykit" / "architectures" / "toy.py").write_text(TOY)
    env = {**os.environ, "PYTHONPATH": str(root)}

    def run(*command):
        return subprocess.run([sys.executable, *command], cwd=root, env=env, capture_output=True, text=True, timeout=600)

    return run


def test_one_new_file_appears_in_the_list_trains_and_exports(copy):
    listed = json.loads(copy("-m", "deploykit", "list", "--format", "json").stdout)
    toy = next(row for row in listed if row["name"] == "toy")
    assert (toy["params"], toy["macs"]) == (4 * 9 + 4 + 144 * 10 + 10, 4 * 9 * 36 + 1440)
    assert toy["summary"].startswith("A toy")
    trained = copy("-m", "deploykit", "train", "toy", "--arg", "width=6", "--format", "json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["metrics"]["test"] > 0.5
    exported = copy("-m", "deploykit", "export", "toy", "--format", "json")
    assert exported.returncode == 0, exported.stderr
    assert json.loads(exported.stdout)["verdict"]["verdict"] == "same"


def test_the_conformance_suite_picks_it_up(copy):
    suite = Path(__file__).with_name("test_conformance.py")
    config = Path(__file__).parents[2] / "pyproject.toml"
    root = ["-c", str(config), f"--rootdir={config.parent}", "-p", "no:cacheprovider", "-q"]
    done = copy("-m", "pytest", *root, str(suite), "-k", "toy")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 3 passed" in done.stdout or "3 passed" in done.stdout
