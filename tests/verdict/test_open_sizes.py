"""A file that is wrong at a size that it leaves open is never called the same, and one that is right is not refused."""

from __future__ import annotations

import importlib
import sys
import textwrap

import pytest
import sympy
import torch

from deploykit.exporter import export
from deploykit.network.capturing import Guard
from deploykit.network.input_specs import InputSpec
from deploykit.verdict import validate
from deploykit.verdict.open_sizes import try_sizes
from deploykit.verdict.result import Parting

NETWORKS = '''
import torch
import torch.nn.functional as F
from torch import nn


class UNet(nn.Module):
    """Pads only where a size is odd."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 4, 2, stride=2)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)

    def forward(self, x):
        h, w = x.shape[-2:]
        if h % 2 or w % 2:
            x = F.pad(x, (0, w % 2, 0, h % 2))
        return self.up(self.down(x))[..., :h, :w]


class PadsAlways(UNet):
    """Pads to the next multiple, without asking."""

    def forward(self, x):
        h, w = x.shape[-2:]
        return self.up(self.down(F.pad(x, (0, (-w) % 2, 0, (-h) % 2))))[..., :h, :w]


class Skip(nn.Module):
    """Resizes the skip connection only where the sizes differ."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.out = nn.Conv2d(7, 2, 1)

    def forward(self, x):
        y = F.interpolate(self.down(x), scale_factor=2, mode="nearest")
        if y.shape[-2:] != x.shape[-2:]:
            y = F.interpolate(y, size=x.shape[-2:], mode="bilinear", align_corners=True)
        return self.out(torch.cat([x, y], 1))


class Area(nn.Module):
    """Nothing asks, and the file is wrong at odd sizes all the same."""

    def forward(self, x):
        return F.interpolate(x, scale_factor=0.5, mode="area")


class ManyAtOnce(nn.Module):
    """Another answer for every seventh batch size."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        y = self.linear(x)
        return y * 2 if x.shape[0] % 7 == 0 else y


class Hidden(nn.Module):
    """A branch behind a branch of which both sides are equal at the nearest size."""

    def forward(self, x):
        if x.shape[2] > 20:
            if x.shape[2] % 7 == 3:
                return x * 3
            return x
        return x * 1


class Asks(nn.Module):
    """Asks, and does the same on both sides: right at every size."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x) if x.shape[2] > 40 else self.conv(x) * 1.0


class Multiples(nn.Module):
    """Takes multiples of four alone."""

    def forward(self, x):
        b, c, h, w = x.shape
        return x.view(b, c, h // 4, 4, w // 4, 4).mean((3, 5))


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return self.linear(x - self.mean)


class Logarithm(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        return self.linear(torch.log(x))


class Squeezed(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        return self.linear(x).squeeze(1)


class Padded(nn.Module):
    """Attention that answers with NaN where all is padding."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids):
        x = self.embed(ids)
        scores = (x @ x.transpose(1, 2)).masked_fill((ids == 0)[:, None, :], float("-inf"))
        return self.head((scores.softmax(-1) @ x).mean(1))


class Brain(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4).to(torch.bfloat16)

    def forward(self, x):
        return self.linear(x.to(torch.bfloat16)).float()


class Projected(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(5, 6, proj_size=4, bidirectional=True)

    def forward(self, x):
        return self.rnn(x)[0]


class Silent(nn.Module):
    def forward(self, x):
        return torch.log(-x.abs() - 1)
'''


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open")
    (folder / "open_size_networks.py").write_text(textwrap.dedent(NETWORKS))
    sys.path.insert(0, str(folder))
    yield importlib.import_module("open_size_networks")
    sys.path.remove(str(folder))
    sys.modules.pop("open_size_networks", None)


def exported(name, out, shape=(3, 16, 16), dynamic=("batch", "height", "width")):
    return export(f"open_size_networks:{name}", input_shapes=[shape], dynamic=dynamic, out=out, simplify=False).verdict


def failed(verdict):
    return next(check for check in verdict.checks if not check.passed)


@pytest.mark.parametrize(
    ("name", "line"), [("UNet", "if h % 2 or w % 2"), ("Skip", "if y.shape[-2:] != x.shape[-2:]"), ("Hidden", None), ("Area", None)]
)
def test_a_file_that_holds_one_side_of_a_branch_is_different(nets, tmp_path, name, line):
    verdict = exported(name, tmp_path / "m.onnx")
    assert verdict.verdict == "different"
    check = failed(verdict)
    assert check.name == "sizes"
    assert check.detail.startswith("wrong at batch 2, height ")
    assert (verdict.blamed_step, verdict.first_divergent_layer) == ("export", None)
    if line:
        number = 1 + NETWORKS.splitlines().index(next(text for text in NETWORKS.splitlines() if line in text))
        assert f"(open_size_networks.py:{number})" in check.detail


def test_a_branch_on_the_batch_is_tried(nets, tmp_path):
    verdict = exported("ManyAtOnce", tmp_path / "m.onnx", (6,), ("batch",))
    assert verdict.verdict == "different"
    assert "wrong at batch 7" in failed(verdict).detail
    assert "batch % 7" in failed(verdict).detail


@pytest.mark.parametrize("name", ["PadsAlways", "Asks", "Multiples"])
def test_a_file_that_is_right_at_every_size_is_the_same(nets, tmp_path, name):
    file = tmp_path / "m.onnx"
    verdict = exported(name, file)
    assert verdict.same, verdict.checks
    low, high = verdict.sizes["height"]
    assert low < 16 < high
    check = next(check for check in verdict.checks if check.name == "sizes")
    assert "proven for batch 1.." in check.detail
    assert f", height {low}..{high}" in check.detail
    assert verdict.document()["sizes"]["height"] == [low, high]
    again = validate(file, against=f"open_size_networks:{name}")
    assert again.same
    assert again.sizes["height"][0] < 16 < again.sizes["height"][1]


def test_sizes_that_the_network_refuses_are_said(nets, tmp_path):
    check = next(check for check in exported("Multiples", tmp_path / "m.onnx").checks if check.name == "sizes")
    assert "the network refuses" in check.detail


def test_validate_finds_the_branch_without_the_export(nets, tmp_path):
    exported("UNet", tmp_path / "m.onnx")
    verdict = validate(tmp_path / "m.rejected.onnx", against="open_size_networks:UNet", input_shapes=[(3, 16, 16)])
    assert verdict.verdict == "different"
    assert "height % 2" in failed(verdict).detail


def test_a_forward_pass_that_writes_to_a_buffer_is_named(nets, tmp_path):
    verdict = exported("Counter", tmp_path / "m.onnx", (6,), ("batch",))
    assert not verdict.same
    detail = next(check.detail for check in verdict.checks if check.name == "evidence")
    assert "changes mean" in detail
    assert "make it an input and an output" in detail


def test_inputs_that_the_network_answers_with_nan_are_no_evidence(nets, tmp_path):
    verdict = exported("Logarithm", tmp_path / "m.onnx", (6,), ("batch",))
    assert verdict.same, verdict.checks
    assert any("between 0 and 1" in note for note in verdict.notes)


def test_made_up_inputs_that_are_all_padding_are_no_evidence(nets, tmp_path):
    options = {"input_shapes": [(10,)], "input_dtypes": ["int64"], "dynamic": ("batch", "length=1"), "out": tmp_path / "m.onnx"}
    verdict = export("open_size_networks:Padded", **options).verdict
    assert verdict.same, verdict.checks
    assert verdict.sizes["length"][0] < 10 < verdict.sizes["length"][1]


def test_a_network_that_says_nothing_is_not_proven_and_nobody_is_blamed(nets, tmp_path):
    verdict = exported("Silent", tmp_path / "m.onnx", (6,), ("batch",))
    assert verdict.verdict == "not proven"
    assert (verdict.blamed_step, verdict.first_divergent_layer) == (None, None)


def test_what_the_checker_says_of_a_squeezed_axis_is_explained(nets, tmp_path):
    verdict = exported("Squeezed", tmp_path / "m.onnx", (8, 6), ("batch", "time=1"))
    assert verdict.verdict == "invalid"
    assert "squeeze() of an axis that is declared open" in failed(verdict).detail


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("Brain", (6,), "its weights are bfloat16, for which onnxruntime has no kernel here: export module.float()"),
        ("Projected", (3, 5), "layer 'rnn': an LSTM with proj_size cannot be exported"),
    ],
)
def test_what_torch_cannot_export_is_explained(nets, tmp_path, name, shape, words):
    verdict = exported(name, tmp_path / "m.onnx", shape, ("batch",))
    assert verdict.verdict == "invalid"
    assert words in failed(verdict).detail


def tried(differs, *guards, shape=(1, 16, 24), rows=(1, 2, 5)):
    """What becomes of a network with an open batch, height and width that differs where `differs(batch, height, width)` says."""
    names = {0: "batch", 2: "height", 3: "width"}

    def compared(batch):
        rows, _, height, width = batch.tensors[0].shape
        return Parting("differs") if differs(rows, height, width) else None

    return try_sizes([InputSpec("x", shape)], [names], guards, compared, lambda _: (), rows)


def at_most(name, size):
    symbol = sympy.Symbol(name, integer=True, positive=True)
    return Guard(f"{name} <= {size}", (name,), symbol <= size, {symbol: name})


def test_two_thresholds_that_matter_together_are_found():
    found = tried(lambda b, h, w: h > 150 and w > 160, at_most("height", 150), at_most("width", 160))
    trial, _, _ = found.differs
    assert str(trial) == "batch 2, height 151, width 161"
    assert [guard.text for guard in trial.guards] == ["height <= 150", "width <= 160"]


def test_a_batch_and_a_height_that_matter_together_are_found():
    found = tried(lambda b, h, w: h > 30 and b > 9, at_most("height", 30), at_most("batch", 9))
    assert str(found.differs[0]) == "batch 10, height 31, width 24"


@pytest.mark.parametrize("differs", [lambda b, h, w: h > 150 and w > 40, lambda b, h, w: b == 5 and h > 30])
def test_the_largest_of_all_axes_are_tried_at_once(differs):
    found = tried(differs, at_most("height", 150))
    assert found.differs[0].sizes["batch"] == 5
    assert found.differs[0].sizes["height"] == 151


def test_corners_that_take_too_long_are_said():
    found = tried(lambda *_: False, at_most("height", 2000), at_most("width", 3000))
    assert found.differs is None
    assert any(
        remark.startswith("all at their largest at once (batch 5, height 2001, width 3001) was not") for remark in found.undecided
    )


class Graph(torch.nn.Module):
    """Sums over the edges of a graph: neither its nodes nor its edges are a batch."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.example_inputs = (torch.randn(5, 4), torch.tensor([[0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 2]]))

    def forward(self, x, edge):
        h = self.linear(x)
        return torch.zeros_like(h).index_add(0, edge[1], h[edge[0]])


@pytest.mark.slow
def test_nodes_and_edges_of_a_graph_are_no_batch(tmp_path):
    graph = Graph()
    verdict = export(graph, dynamic=("nodes=x:0", "edges=edge:1"), out=tmp_path / "m.onnx", simplify=False).verdict
    assert verdict.same, verdict.checks
    assert verdict.sizes["nodes"][1] > 5
    assert verdict.sizes["edges"][0] < 6 < verdict.sizes["edges"][1]
    again = validate(tmp_path / "m.onnx", against=graph)
    assert again.same, again.checks
    assert again.sizes == verdict.sizes
