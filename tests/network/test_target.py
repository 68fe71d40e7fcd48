"""Building a network leaves the caller's process as it was: its random numbers and its import path."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from deploykit import architectures
from deploykit.errors import CheckpointError, InputError
from deploykit.network import target as targets
from deploykit.network.request import Request, make_importable
from deploykit.verdict.validation import _is_shipped

LAZY = """
import torch
import helper_beside_it

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        import helper_of_the_constructor
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x):
        import helper_of_the_run
        return self.linear(x) + helper_of_the_run.SHIFT
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a network that imports what lies beside it: at once, when it is built, and when it runs."""
    (tmp_path / "lazy_net.py").write_text(LAZY)
    for name in ("helper_beside_it", "helper_of_the_constructor", "helper_of_the_run"):
        (tmp_path / f"{name}.py").write_text("SHIFT = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    yield tmp_path
    for name in ("lazy_net", "helper_beside_it", "helper_of_the_constructor", "helper_of_the_run"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("target", ["lenet5", "torchvision:squeezenet1_1", "lazy_net:Net"])
def test_the_random_numbers_of_the_caller_go_on(folder, target):
    asked = Request(target, untrained=True, seed=7, input_shapes=[(3,)] if ":Net" in target else None)
    torch.manual_seed(41)
    expected = torch.rand(3)
    torch.manual_seed(41)
    first = targets.resolve(asked).module.state_dict()
    assert torch.equal(torch.rand(3), expected)
    second = targets.resolve(asked).module.state_dict()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items()), "one seed, one network"


def test_a_seed_gives_the_weights_that_it_gives_by_hand():
    network = targets.resolve(Request("mlp", untrained=True, seed=5))
    torch.manual_seed(5)
    expected = architectures.get("mlp").create({})
    assert all(torch.equal(a, b) for a, b in zip(network.module.parameters(), expected.parameters(), strict=True))


@pytest.mark.parametrize("wrong", ["no_such_module:Net", "lazy_net:Missing", "lenet5"])
def test_the_random_numbers_and_the_import_path_survive_an_error(folder, wrong):
    before = list(sys.path)
    torch.manual_seed(41)
    expected = torch.rand(3)
    torch.manual_seed(41)
    with pytest.raises((InputError, CheckpointError)):
        targets.resolve(Request(wrong))
    assert torch.equal(torch.rand(3), expected)
    assert sys.path == before


def test_the_current_folder_is_on_the_import_path_only_while_the_network_is_built(folder):
    before = list(sys.path)
    network = targets.resolve(Request("lazy_net:Net", input_shapes=[(3,)]))
    assert sys.path == before
    with pytest.raises(ModuleNotFoundError, match="helper_of_the_run"):
        network.module(torch.zeros(1, 3))


def test_a_folder_that_the_caller_has_on_the_path_stays_there(folder, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(folder)])
    before = list(sys.path)
    targets.resolve(Request("lazy_net:Net", input_shapes=[(3,)]))
    assert sys.path == before


def test_a_command_lets_the_network_import_while_it_runs_and_puts_nothing_before_the_libraries(folder):
    (folder / "onnxscript.py").write_text("raise RuntimeError('this is no library')\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "deploykit", "export", "lazy_net:Net", "--input-shape", "3", "--out", "net.onnx"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    make_importable(Request("lenet5"))
    assert str(folder) not in sys.path, "a network of deploykit's own has nothing beside it"


@pytest.mark.parametrize(
    ("name", "shipped"),
    [
        ("lenet5", True),
        ("torchvision:resnet18", True),
        ("lazy_net:Net", False),
        ("torchvision:x.pt", False),
        ("torchvision:x.onnx", False),
        ("trained/lenet5/model.safetensors", False),
    ],
)
def test_a_file_names_shipped_networks_only(name, shipped):
    assert _is_shipped(name) == shipped


def test_weights_that_were_given_have_no_seed():
    assert targets.resolve(Request("mlp", untrained=True, seed=5)).provenance()["seed"] == 5
    given = nn.Linear(3, 2)
    given.example_inputs = [torch.zeros(1, 3)]
    assert targets.resolve(Request("Linear", module=given, seed=5)).provenance()["seed"] is None
