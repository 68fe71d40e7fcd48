"""`--module FILE`: the architectures that a user's own file registers, for every command that takes a TARGET."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from deploykit import architectures
from deploykit.architectures import _modules
from deploykit.cli import cli
from deploykit.errors import CheckpointError, InputError
from deploykit.network.checkpoint import load_checkpoint

TOY = '''
from beside import WIDTH
from torch import nn

from deploykit.architectures import ImageInput, Recipe, register


@register("own-toy", input=ImageInput(channels=1, height=8, width=8), recipe=Recipe(epochs=1))
class Toy(nn.Module):
    """A toy; 1x8x8 -> 10 logits."""

    def __init__(self, width: int = WIDTH, classes: int = 10) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(64, width), nn.Linear(width, classes)

    def forward(self, x):
        return self.b(self.a(x.flatten(1)).relu())
'''


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.delenv(_modules.VARIABLE, raising=False)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "beside.py").write_text("WIDTH = 8\n")
    path = tmp_path / "nets" / "toy.py"
    path.write_text(TOY)
    monkeypatch.chdir(tmp_path)
    return path


def run(*command):
    """In this process: what the command printed, its errors, and its exit status."""
    found = CliRunner().invoke(cli, [*map(str, command)], standalone_mode=False)
    if found.exception is not None:
        raise found.exception
    return found.stdout


@pytest.mark.slow
def test_every_command_that_takes_a_target_knows_it_and_nothing_stays(file):
    listed = json.loads(run("list", "--module", file, "--format", "json"))
    assert next(row for row in listed if row["name"] == "own-toy")["params"] == 64 * 8 + 8 + 80 + 10
    run("train", "own-toy", "--module", file, "--limit", "100", "--out", "out")
    assert "same network" in run("export", "out/model.safetensors", "--module", file)
    assert "same network" in run("validate", "out/model.onnx", "--module", file)
    profiled = run("profile", "own-toy", "--module", file, "--untrained", "--no-latency", "--arg", "width=4")
    assert "Linear" in profiled
    assert "own-toy" not in architectures.names()
    assert _modules.VARIABLE not in os.environ
    with pytest.raises(CheckpointError, match=r"unknown architecture 'own-toy'.*--module FILE"):
        load_checkpoint("out/model.safetensors").build()


def test_processes_that_are_started_know_it(file, run_command):
    found = run_command("list", "--format", "json", cwd=file.parent.parent, env={_modules.VARIABLE: str(file)})
    assert "own-toy" in {row["name"] for row in json.loads(found.stdout)}


def test_a_file_is_run_once_and_forgotten_by_who_brought_it(file):
    with architectures.using(file):
        with architectures.using(file):
            assert architectures.get("own-toy").create()
        assert "own-toy" in architectures.names()
    assert "own-toy" not in architectures.names()
    with architectures.using(file):
        assert "own-toy" in architectures.names()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "the module .* is not there"),
        ("1 +", "raised SyntaxError"),
        ("raise ValueError('no')", "raised ValueError: no"),
        ("import sys; sys.exit(3)", "raised SystemExit"),
        ("x = 1", "registers no architecture"),
        (TOY.replace("own-toy", "lenet5"), "raised ValueError: the architecture 'lenet5' is registered twice"),
        (TOY + "\n1 / 0", "raised ZeroDivisionError"),
        ("\0", "raised"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line_and_leaves_nothing(file, source, reason):
    wrong = file.with_name("wrong.py")
    if source is not None:
        wrong.write_text(source)
    with pytest.raises(InputError, match=reason) as caught:
        run("list", "--module", wrong)
    assert "\n" not in str(caught.value)
    assert "own-toy" not in architectures.names()
    assert _modules.VARIABLE not in os.environ
