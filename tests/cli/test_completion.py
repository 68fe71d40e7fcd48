"""What the shell completes, asked as the shell asks: by variables, in a process of its own or in this one."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.shell_completion import BashComplete

from deploykit import architectures, plugins
from deploykit.cli import cli

LENETS = ["lenet", "lenet5", "lenet5-handwritten"]


def completed(*words: str) -> list[tuple[str, str]]:
    """(type, value) of each completion of the last word."""
    complete = BashComplete(cli, {}, "deploykit", "_DEPLOYKIT_COMPLETE")
    return [(item.type, item.value) for item in complete.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize("words", [("export", "lenet"), ("profile", "lenet"), ("validate", "m.onnx", "--against", "lenet")])
def test_a_target_is_an_architecture_or_a_file(words):
    assert completed(*words) == [*(("plain", name) for name in LENETS), ("file", "lenet")]


def test_train_completes_architectures_datasets_and_folders():
    assert completed("train", "") == [("plain", name) for name in architectures.names()]
    assert completed("train", "lenet5", "--data", "fa") == [("plain", "fashion-mnist"), ("dir", "fa")]


def test_commands_kinds_formats_backends_and_files_are_completed():
    assert completed("pro") == [("plain", "profile")]
    assert completed("list", "da") == [("plain", "datasets")]
    assert completed("list", "--format", "m") == [("plain", "markdown")]
    assert completed("profile", "lenet5", "--backends", "torch,onnx") == [("plain", "torch,onnxruntime")]
    assert len(completed("profile", "lenet5", "--backends", "")) == len(plugins.names("deploykit.backends"))
    assert completed("validate", "m") == completed("predict", "m") == completed("predict", "f.onnx", "m") == [("file", "m")]


def test_the_shell_is_answered_without_pytorch():
    script = (
        "import contextlib, os, sys, deploykit.cli as c\n"
        "os.environ |= {'_DEPLOYKIT_COMPLETE': 'bash_complete', 'COMP_WORDS': 'deploykit export lenet5-', 'COMP_CWORD': '2'}\n"
        "sys.argv = ['deploykit']\n"
        "with contextlib.suppress(SystemExit): c.main()\n"
        "assert not {'torch', 'numpy', 'onnx', 'rich'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["plain,lenet5-handwritten", "file,lenet5-"]
