"""What options are when nobody gives them, and between which numbers they may be: said once, for the commands and for Python."""

from __future__ import annotations

import importlib
import inspect
import re
from enum import Enum

import click
import pytest

import deploykit
from deploykit import plugins
from deploykit.cli import cli

ANY = float("inf")
SEEDS = (0, 2**32 - 1)
# command -> option -> (default, least, most); without a range, the default alone.
OPTIONS = {
    "demo": {"--seed": (0, *SEEDS)},
    "doctor": {"--device": "cpu"},
    "export": {
        "--seed": (0, *SEEDS), "--opset": 20, "--dynamic": "batch", "--precision": "fp32", "--simplify": True,
        "--resize": (None, 1, ANY), "--background": (None, 0, ANY), "--nms": (None, 0, 1), "--max-detections": (None, 1, ANY),
        "--with-preprocessing": False, "--normalize": None, "--class-agnostic": None, "--untrained": False,
    },
    "package": {
        "--for": "triton", "--max-batch-size": (32, 0, 65_536), "--max-queue-delay-us": (0, 0, 60_000_000),
        "--instances": (1, 1, 1024), "--with-python-backend": False, "--storage-uri": "pvc://models", "--allow-rejected": False,
    },
    "predict": {"--top": (1, 1, ANY), "--batch-size": (64, 1, 65_536), "--device": "auto", "--threads": (None, 1, 1024)},
    "profile": {
        "--seed": (0, *SEEDS), "--batch": (None, 1, 1 << 20), "--convention": "macs", "--depth": "leaves", "--untrained": False,
        "--backends": "torch,onnxruntime", "--tree": False, "--latency": True, "--device": "cpu", "--threads": (None, 1, 1024),
    },
    "serve": {
        "--host": "127.0.0.1", "--port": (8000, 0, 65_535), "--grpc-port": (None, 0, 65_535), "--max-batch-size": (32, 1, 65_536),
        "--max-queue-delay-us": (0, 0, 60_000_000), "--instances": (1, 1, 1024), "--threads": (None, 1, 1024),
        "--queue-size": (128, 1, 1 << 20), "--timeout": (60.0, 0.001, 86_400), "--device": "auto", "--allow-rejected": False,
        "--allow-reload": False, "--drain-seconds": (30.0, 0, 3600), "--drain-delay": (0.0, 0, 3600),
    },
    "train": {
        "--epochs": (None, 0, 100_000), "--batch-size": (None, 1, 1 << 20), "--lr": (None, 0, ANY), "--limit": (None, 1, ANY),
        "--seed": (0, *SEEDS), "--device": "auto", "--precision": "fp32", "--resume": False, "--patience": (None, 1, ANY),
    },
    "tune": {
        "--seed": (0, *SEEDS), "--max-drop": (0.5, 0, 100), "--min-agreement": (0.99, 0, 1), "--max-error": (0.05, 0, 1),
        "--goal": "latency", "--batch": (None, 1, 1 << 16), "--threads": (None, 1, 1024), "--device": "cpu",
        "--seconds": (150, 5, ANY), "--untrained": False,
    },
    "validate": {
        "--seed": (None, *SEEDS), "--batches": "1,2,5", "--rtol": (None, 0, ANY), "--atol": (None, 0, ANY), "--device": "cpu",
        "--resize": (None, 1, ANY), "--nms": (None, 0, 1), "--max-detections": (None, 1, ANY), "--normalize": None,
    },
}  # fmt: skip


def options_of(command):
    found = importlib.import_module(f"deploykit.cli.{command}").command.params
    return {name: option for option in found if isinstance(option, click.Option) for name in option.opts}


def default_of(option):
    """click says by a marker of its own that there is none, which for a flag means no."""
    if isinstance(option.default, Enum):
        return False if option.is_flag else None
    return option.default


@pytest.mark.parametrize("command", OPTIONS)
def test_defaults_and_ranges_of_a_command(command):
    options, found = options_of(command), {}
    for name, expected in OPTIONS[command].items():
        option = options[name]
        kind = option.type
        default = default_of(option)
        most = ANY if getattr(kind, "max", None) is None else kind.max
        found[name] = (default, kind.min, most) if isinstance(expected, tuple) else default
    assert found == OPTIONS[command]


@pytest.mark.parametrize("command", sorted({*plugins.names("deploykit.cli")} - {"list"}))
def test_a_default_is_shown_by_the_help(command):
    """A flag is off; what an option is otherwise can be read, whether click writes it or its help does."""
    for name, option in options_of(command).items():
        if default_of(option) not in (None, False):
            assert option.show_default, name


STANDS_FOR = {
    "--arg": "KEY=VALUE", "--input-dtype": "TYPE", "--module": "FILE.py", "--inputs": "FILE.npz", "--against": "TARGET", "--scale": "N",
    "--resize": "N", "--labels": "FILE_OR_LIST", "--units": "UNIT,UNIT", "--boxes": "NAME", "--scores": "NAME", "--classes": "NAME",
    "--background": "N", "--plot": "FILE.png", "--witness": "FILE.npz", "--engines": "A,B", "--precisions": "A,B", "--backends": "A,B",
    "--max-drop": "POINTS", "--dynamic": "AXES", "--input-names": "NAME,NAME", "--meaning": "NAME=TEXT", "--storage-uri": "URI",
    "--data": ("NAME_OR_DIR", "NAME_OR_DIR_OR_NPZ"), "--device": ("auto|cpu|cuda", "cpu|cuda|auto"), "--image": ("SIDE|HxW",),
}  # fmt: skip
OTHERWISE = {("--device", "train"), ("--image", "export"), ("--image", "validate")}  # these choose, or have a type of their own


def test_what_stands_for_a_value_says_what_it_is():
    """Options of one name say the same in every command, but for those that take more than others do."""
    told = {}
    for command in OPTIONS:
        for name, option in options_of(command).items():
            told.setdefault(name, []).append((command, option.metavar))
    for name, words in STANDS_FOR.items():
        expected = {words} if isinstance(words, str) else set(words)
        found = {metavar for command, metavar in told[name] if (name, command) not in OTHERWISE}
        assert found == expected, name
    assert dict(told["--data"])["tune"] == "NAME_OR_DIR_OR_NPZ"
    assert options_of("export")["--nms"].metavar == "IOU"


def test_the_learning_rate_is_above_0_and_lists_are_lists():
    assert options_of("train")["--lr"].type.min_open
    several = {(command, name) for command in OPTIONS for name, option in options_of(command).items() if option.multiple}
    targets = {
        (command, name) for command in ("export", "profile", "tune", "validate") for name in ("--input-shape", "--input-dtype")
    }
    assert several >= targets | {("serve", "--name"), ("package", "--name"), ("export", "--meaning"), ("train", "--arg")}
    assert not {(command, name) for command, name in several if name in ("--out", "--data", "--threads", "--batches")}


@pytest.mark.parametrize(
    ("command", "other_names"),
    [
        ("serve", {}),
        ("package", {"--for": "kind", "--with-python-backend": "python_backend", "--storage-uri": "storage"}),
        ("tune", {}),
        ("export", {}),
        ("profile", {}),
    ],
)
def test_python_has_the_defaults_of_the_commands(command, other_names):
    given = inspect.signature(getattr(deploykit, command)).parameters
    same = 0
    for name, option in options_of(command).items():
        parameter = given.get(other_names.get(name, name.strip("-").replace("-", "_")))
        default = default_of(option)
        if parameter is not None and isinstance(default, (int, float, str)) and parameter.default is not inspect.Parameter.empty:
            plain = ",".join(parameter.default) if isinstance(parameter.default, (tuple, list)) else parameter.default
            assert plain == default, name
            same += 1
    assert same >= 3, "which are compared at all"


def test_a_command_says_what_it_does_in_a_line():
    """The first line of its file, in the list of all commands and where a shell completes them."""
    context = click.Context(cli, info_name="deploykit")
    listed = cli.get_help(context)
    for command in plugins.names("deploykit.cli"):
        found = cli.get_command(context, command)
        assert isinstance(found, click.Command)
        line = plugins.summary("deploykit.cli", command)
        assert 10 < len(line) <= 66  # with the name, on 80 columns
        assert re.search(rf"^  {command} +{re.escape(line)}$", listed, re.MULTILINE)
        assert found.get_short_help_str(100) == line
