"""How a network is asked for: one parser of TARGETs, one value that every stage hands on."""

import inspect
import subprocess
import sys
from dataclasses import fields

import pytest
import torch
from torch import nn

import deploykit
from deploykit.cli._common import against_options, target_options
from deploykit.errors import InputError
from deploykit.network import target as targets
from deploykit.network.request import Request, Target, is_onnx
from deploykit.profiler.subjects import Subject


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("lenet5", Target("architecture", "lenet5")),
        ("no such one", Target("architecture", "no such one")),
        ("torchvision:resnet18", Target("torchvision", "resnet18")),
        ("package.module:make.it", Target("callable", "make.it", "package.module")),
        ("trained/lenet5/model.safetensors", Target("checkpoint", "trained/lenet5/model.safetensors")),
        ("weights.pth", Target("checkpoint", "weights.pth")),
        ("model.onnx", Target("onnx", "model.onnx")),
        ("MODEL.ONNX", Target("onnx", "MODEL.ONNX")),
        ("torchvision:x.pt", Target("checkpoint", "torchvision:x.pt")),
        ("torchvision:x.onnx", Target("onnx", "torchvision:x.onnx")),
        (":", Target("callable", "", "")),
        ("", Target("architecture", "")),
    ],
)
def test_a_target_is_read_by_its_spelling_alone(text, target):
    assert Target.parse(text) == target
    assert is_onnx(text) == (target.kind == "onnx") == Request(text).is_file == Subject(text).is_file


def test_every_value_of_a_request_is_a_keyword_of_the_functions_that_take_a_network():
    keywords = set(Request("x").keywords())
    assert keywords == {each.name for each in fields(Request)} - {"target", "module"}
    for function in (deploykit.export, deploykit.profile, deploykit.validate):
        assert keywords <= set(inspect.signature(function).parameters), function.__name__


@pytest.mark.parametrize("options", [target_options, against_options])
def test_the_command_line_fills_every_value_of_a_request(options):
    import click
    from click.testing import CliRunner

    got = []
    command = click.command()(options(lambda request: got.append(request)))
    naming = ["net:Net"] if options is target_options else ["--against", "net:Net"]
    words = "--checkpoint w.pt --untrained --seed 3 --arg width=64 --input-shape 3x8x8 --input-shape 5 --input-dtype float32 --inputs v.npz"
    result = CliRunner().invoke(command, [*naming, *words.split(), "--input-dtype", "int64"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    (request,) = got
    silent = [name for name, value in request.keywords().items() if value in (None, False)]
    assert not silent, "an option for each"
    assert request.target == "net:Net"
    assert request.arguments == {"width": 64}
    assert list(request.input_shapes) == [(3, 8, 8), (5,)]
    assert CliRunner().invoke(command, ["", ""][: len(naming)] if options is target_options else ["--against", ""]).exit_code == 2


def test_a_module_is_a_network_already():
    module = nn.Sequential(nn.Linear(6, 3))
    network = targets.resolve(Request("mine", module=module, input_shapes=[(6,)]))
    assert network.module is not module, "a copy is worked on"
    assert all(torch.equal(a, b) for a, b in zip(network.module.parameters(), module.parameters(), strict=True))
    assert (network.target, network.name, network.inputs[0].shape) == ("mine", "mine", (6,))
    with pytest.raises(InputError, match="mine is a network already"):
        targets.resolve(Request("mine", module=module, arguments={"width": 3}, input_shapes=[(6,)]))
    assert not Request("mine.onnx", module=module).is_file


def test_a_target_with_keywords_is_a_request():
    whole = targets.resolve(Request("mlp", untrained=True, seed=4, arguments={"hidden": 8}))
    short = targets.resolve("mlp", untrained=True, seed=4, arguments={"hidden": 8})
    assert whole.arguments == short.arguments == ("hidden",)
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, short.module.state_dict()[name])


def test_a_request_needs_no_torch():
    code = "import sys, deploykit.network.request, deploykit.profiler.subjects; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
