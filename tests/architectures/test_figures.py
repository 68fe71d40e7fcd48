"""Every network is the one that was described: its parameters, multiply-accumulates and shapes are known from elsewhere."""

from __future__ import annotations

import pytest
import torch

from deploykit import architectures, list_architectures, profile
from deploykit.architectures._registry import REGISTRY
from deploykit.errors import InputError, UnknownName

# name: input shape, parameters, multiply-accumulates, output shape; computed independently of this project.
FIGURES = {
    "lenet": ([1, 28, 28], 61_706, 416_520, (10,)),
    "lenet5": ([1, 32, 32], 61_706, 416_520, (10,)),
    "lenet5-handwritten": ([1, 32, 32], 61_706, 416_520, (10,)),
    "cnn2": ([1, 28, 28], 29_002, 2_838_080, (10,)),
    "cnn4": ([1, 28, 28], 271_178, 7_175_680, (10,)),
    "alexnet": ([1, 224, 224], 29_983_434, 921_368_960, (10,)),
    "vgg11": ([1, 224, 224], 128_806_154, 7_547_232_256, (10,)),
    "vgg11-small": ([1, 224, 224], 2_018_346, 121_091_072, (10,)),
    "nin": ([1, 224, 224], 1_992_166, 762_297_352, (10,)),
    "googlenet": ([1, 96, 96], 5_977_530, 276_066_304, (10,)),
    "resnet18": ([1, 32, 32], 11_175_434, 35_410_944, (10,)),
    # resnet18's, less three 1x1 convolutions: 64 * 128 * 16 + 128 * 256 * 4 + 256 * 512 * 1
    "resnet18-plain": ([1, 32, 32], 11_001_610, 35_410_944 - 393_216, (10,)),
    "resnet18-cifar": ([3, 96, 96], 11_180_810, 323_552_960, (10,)),
    "mlp": ([20], 7_946, 20 * 256 + 256 * 10, (10,)),
    "mlp-sequential": ([20], 7_946, 20 * 256 + 256 * 10, (10,)),
    "fixed-hidden-mlp": ([20], 420, 3 * 20 * 20, (1,)),
    "nest-mlp": ([20], 3_952, 20 * 64 + 64 * 32 + 32 * 16, (16,)),
    "chimera": ([20], 4_712, 20 * 64 + 64 * 32 + 32 * 16 + 16 * 20 + 3 * 20 * 20, (1,)),
    "shared-mlp": ([4], 121, 4 * 8 + 2 * 8 * 8 + 8, (1,)),
    "rgnet": ([4], 309, 4 * (4 * 8 + 8 * 4) + 4, (1,)),
    "centered": ([8], 1_152, 8 * 128, (128,)),
    "my-linear": ([64], 529, 64 * 8 + 8, (1,)),
    "edge-kernel": ([1, 6, 8], 2, 2 * 6 * 7, (1, 6, 7)),
    # fixed weights are parameters too, as in torchinfo and sum(p.numel() for p in parameters())
    "laplacian": ([1, 200, 300], 9, 9 * 198 * 298, (1, 198, 298)),
}
ROWS = {row["name"]: row for row in list_architectures()}


def test_all_networks_are_there():
    assert set(FIGURES) <= set(architectures.names())
    assert len(FIGURES) == 24


@pytest.mark.parametrize("name", FIGURES)
def test_parameters_and_multiply_accumulates(name):
    shape, params, macs, _ = FIGURES[name]
    row = ROWS[name]
    assert (row["input_shape"], row["params"], row["macs"]) == (shape, params, macs)


@pytest.mark.parametrize("name", ["laplacian", "edge-kernel", "fixed-hidden-mlp", "shared-mlp", "lenet5"])
def test_the_list_and_the_profile_say_the_same(name):
    totals = profile(name, untrained=True, latency=False).table.totals
    assert (ROWS[name]["params"], ROWS[name]["macs"]) == (totals.params, totals.ops)


@pytest.mark.parametrize("name", FIGURES)
def test_output_shape(name):
    architecture = architectures.get(name)
    shape, _, macs, output = FIGURES[name]
    device = "meta" if macs > 1_000_000 else "cpu"
    with torch.device(device), torch.no_grad():
        network = architecture.create().eval()
        assert network(torch.zeros(3, *shape)).shape == (3, *output)


def test_counting_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    list_architectures()
    assert torch.equal(torch.rand(3), expected)


def test_trained_means_a_checkpoint_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "trained" / "mlp"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"")
    trained = {row["name"] for row in list_architectures() if row["trained"]}
    assert trained == {"mlp"}


@pytest.mark.parametrize("name", FIGURES)
def test_every_file_says_where_its_network_comes_from(name):
    module = __import__(REGISTRY[name].build.__module__, fromlist=["*"])
    assert any(word in module.__doc__ for word in ("after ", "After ", "follow no paper", "names the paper", "Gonzalez"))
    assert "differs" in module.__doc__ or name in ("cnn2", "cnn4", "lenet5-handwritten", "laplacian")


ARGUMENTS = [
    ("lenet", {"in_channels": 3, "classes": 4}, (3, 28, 28), (4,)),
    ("lenet5", {"in_channels": 3, "classes": 4}, (3, 32, 32), (4,)),
    ("lenet5-handwritten", {"in_channels": 3, "classes": 4}, (3, 32, 32), (4,)),
    ("cnn2", {"in_channels": 3, "classes": 4, "width": 3}, (3, 28, 28), (4,)),
    ("cnn4", {"in_channels": 3, "classes": 4, "width": 3}, (3, 28, 28), (4,)),
    ("alexnet", {"in_channels": 3, "classes": 4, "hidden": 32, "second_hidden": True}, (3, 224, 224), (4,)),
    ("vgg11", {"in_channels": 3, "classes": 4, "divisor": 32}, (3, 224, 224), (4,)),
    ("vgg11-small", {"in_channels": 3, "classes": 4, "divisor": 16, "dropout": 0.0}, (3, 224, 224), (4,)),
    ("nin", {"in_channels": 3, "classes": 4}, (3, 224, 224), (4,)),
    ("googlenet", {"in_channels": 3, "classes": 4}, (3, 96, 96), (4,)),
    ("resnet18", {"in_channels": 3, "classes": 4, "residual": False}, (3, 32, 32), (4,)),
    ("resnet18-plain", {"in_channels": 3, "classes": 4}, (3, 32, 32), (4,)),
    ("resnet18-cifar", {"in_channels": 1, "classes": 4}, (1, 96, 96), (4,)),
    ("mlp", {"inputs": 5, "hidden": 6, "classes": 4}, (5,), (4,)),
    ("mlp-sequential", {"inputs": 5, "hidden": 6, "classes": 4}, (5,), (4,)),
    ("nest-mlp", {"inputs": 5, "outputs": 3}, (5,), (3,)),
    ("shared-mlp", {"inputs": 5, "hidden": 6, "outputs": 3}, (5,), (3,)),
    ("rgnet", {"blocks": 2}, (4,), (1,)),
    ("centered", {"inputs": 5, "outputs": 7}, (5,), (7,)),
    ("my-linear", {"inputs": 5, "hidden": 6, "outputs": 3}, (5,), (3,)),
    ("fixed-hidden-mlp", {"width": 6}, (6,), (1,)),
]


@pytest.mark.parametrize(("name", "arguments", "shape", "output"), ARGUMENTS, ids=[row[0] for row in ARGUMENTS])
def test_arguments_make_another_network(name, arguments, shape, output):
    data_dependent = name == "fixed-hidden-mlp"
    with torch.device("cpu" if data_dependent else "meta"), torch.no_grad():
        network = architectures.get(name).create(arguments).eval()
        assert network(torch.zeros(2, *shape)).shape == (2, *output)


def test_alexnet_has_a_second_hidden_layer_on_request():
    with torch.device("meta"):
        one, two = (architectures.get("alexnet").create({"second_hidden": wanted}) for wanted in (False, True))
    extra = sum(p.numel() for p in two.parameters()) - sum(p.numel() for p in one.parameters())
    assert extra == 4096 * 4096 + 4096


def test_resnet18_without_residual_is_resnet18_plain():
    with torch.device("meta"):
        plain = architectures.get("resnet18-plain").create()
        without = architectures.get("resnet18").create({"residual": False})
    assert {n: t.shape for n, t in plain.state_dict().items()} == {n: t.shape for n, t in without.state_dict().items()}


def test_an_argument_that_is_unknown_or_unusable_is_one_clear_line():
    with pytest.raises(UnknownName, match=r"unknown argument of vgg11 'classs'.*did you mean 'classes'"):
        architectures.get("vgg11").create({"classs": 3})
    with pytest.raises(InputError, match="cannot build lenet5 with"):
        architectures.get("lenet5").create({"classes": "ten"})
