"""A new architecture is one new file: nothing else is edited, and everything works with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

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


# All in one process: each that starts anew loads torch and its compiler, which takes longer than what is asked here.
FOLLOWED = """
import json, sys
import pytest
from click.testing import CliRunner
from deploykit.cli import cli

def run(*args):
    done = CliRunner().invoke(cli, [*args, "--format", "json"], prog_name="deploykit")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)

said = {
    "list": run("list"),
    "train": run("train", "toy", "--arg", "width=6"),
    "export": run("export", "toy"),
}
with open("said.json", "w") as file:
    json.dump(said, file)
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_one_new_file_appears_in_the_list_trains_and_exports_and_the_conformance_suite_picks_it_up(tmp_path):
    shutil.copytree(Path(deploykit.__file__).parent, tmp_path / "deploykit", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "deploykit" / "architectures" / "toy.py").write_text(TOY)
    suite = Path(__file__).with_name("test_conformance.py")
    config = Path(__file__).parents[2] / "pyproject.toml"
    options = ["-c", config, f"--rootdir={config.parent}", "-p", "no:cacheprovider", "-q", suite, "-k", "toy"]
    command = [sys.executable, "-c", FOLLOWED, *map(str, options)]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout

    said = json.loads((tmp_path / "said.json").read_text())
    toy = next(row for row in said["list"] if row["name"] == "toy")
    assert (toy["params"], toy["macs"]) == (4 * 9 + 4 + 144 * 10 + 10, 4 * 9 * 36 + 1440)
    assert toy["summary"].startswith("A toy")
    assert said["train"]["metrics"]["test"] > 0.5
    assert said["export"]["verdict"]["verdict"] == "same"
