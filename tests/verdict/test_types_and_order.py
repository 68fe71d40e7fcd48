"""Files whose inputs come in another order or another type than the network's, and networks in half precision."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import deploykit
from deploykit.errors import InputError
from deploykit.network import ready_made
from deploykit.network import target as targets
from deploykit.network.request import Request
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.verdict import legal, validate
from deploykit.verdict.deployed import Deployed

OPEN = {0: torch.export.Dim.AUTO}


class Difference(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)
        self.b = nn.Linear(4, 3)

    def forward(self, left, right):
        return self.a(left) - self.b(right)


class HalfInside(nn.Module):
    """Half precision inside, float32 outside: in float32 as a whole it does not run."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8).half()

    def forward(self, x):
        return self.fc(x.half()).float()


def _file(module, examples, path):
    torch.onnx.export(
        module.eval(), examples, path, dynamo=True, dynamic_shapes=(OPEN,) * len(examples), external_data=False, verbose=False
    )
    return path


@pytest.fixture(scope="module")
def reordered(tmp_path_factory):
    """A file that lists its inputs the other way round; they have the names of the network's parameters."""
    torch.manual_seed(0)
    module = Difference()
    path = _file(module, (torch.randn(2, 4), torch.randn(2, 4)), tmp_path_factory.mktemp("order") / "model.onnx")
    model = onnx.load(path)
    graph_inputs.put_in_order(model.graph, ["right", "left"])
    assert [value.name for value in model.graph.input] == ["right", "left"]
    onnx.save(model, path)
    return module, path


@pytest.mark.parametrize("known", [{}, {"input_shapes": ["4", "4"]}], ids=["from the file", "named"])
def test_inputs_in_another_order_are_paired_by_name(reordered, known):
    module, path = reordered
    verdict = validate(path, module, **known)
    assert verdict.same, verdict.checks


def test_inputs_of_one_order_and_swapped_meaning_are_still_a_fault(reordered, tmp_path):
    module, path = reordered
    model = onnx.load(path)
    graph_inputs.put_in_order(model.graph, ["left", "right"])
    swapped = {"left": "right", "right": "left"}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = swapped.get(name, name)
    onnx.save(model, tmp_path / "swapped.onnx")
    assert validate(tmp_path / "swapped.onnx", module).verdict == "different"


def test_names_that_are_not_those_of_the_file_change_nothing(reordered):
    model = onnx.load(reordered[1])
    before = model.SerializeToString()
    for names in (["left"], ["left", "other"], ["right", "left"]):
        graph_inputs.put_in_order(model.graph, names)
        assert model.SerializeToString() == before


class Optional(Difference):
    def forward(self, left, scale=None, right=None):
        return super().forward(left, right) if scale is None else left


def test_inputs_with_an_optional_parameter_between_them_are_paired_by_name(reordered):
    module, path = reordered
    other = Optional()
    other.load_state_dict(module.state_dict())
    verdict = validate(path, other)
    assert verdict.same, verdict.checks


class Squares(nn.Module):
    """No weights: only its inputs tell that its file is float16."""

    def forward(self, x):
        return (x * x + 1.1).sqrt() * x


def test_a_file_without_weights_is_float16_by_its_inputs(tmp_path):
    path = _file(Squares(), (torch.randn(2, 4).half(),), tmp_path / "model.onnx")
    assert Deployed(onnx.load(path)).precision == "fp16"
    verdict = validate(path, Squares(), input_shapes="4", input_dtypes="float32")
    assert verdict.same, verdict.checks


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A network, its copy in half precision, and the float16 file of the copy, whose inputs are float16."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8))
    half = copy.deepcopy(module).half()
    return module, half, _file(half, (torch.randn(2, 4).half(),), tmp_path_factory.mktemp("half") / "model.onnx")


@pytest.mark.parametrize("known", [{}, {"input_shapes": "4", "input_dtypes": "float32"}], ids=["from the file", "named"])
def test_a_float16_file_is_held_against_the_float32_network(narrow, known):
    module, _, path = narrow
    verdict = validate(path, module, **known)
    assert verdict.same, verdict.checks
    assert verdict.errors.tolerance > 1e-3
    wrong = copy.deepcopy(module)
    wrong[0].weight.data[0, 0] += 0.1
    assert validate(path, wrong, **known).verdict == "different"


def test_a_float16_file_is_held_against_the_half_module(narrow):
    _, half, path = narrow
    verdict = validate(path, half)
    assert verdict.same, verdict.checks


@pytest.mark.parametrize(
    ("module", "known"),
    [(HalfInside(), {}), (nn.Sequential(nn.Linear(8, 8), nn.ReLU()).half(), {"input_dtypes": "float16"})],
    ids=["inside", "whole"],
)
def test_half_precision_that_does_not_run_in_float32_stays(module, known, tmp_path):
    result = deploykit.export(module, input_shapes="8", out=tmp_path / "half.onnx", **known)
    assert result.verdict.same, result.verdict.checks
    stored = {tensor.data_type for tensor in onnx.load(result.file).graph.initializer}
    assert stored == {onnx.TensorProto.FLOAT16}


def test_a_network_that_runs_in_neither_says_what_it_says_in_float32():
    with pytest.raises(InputError, match="cannot take an input of 1x5"):
        targets.resolve(Request.of(HalfInside(), input_shapes="5"))


def test_own_types_are_kept_where_they_are_asked_for():
    module, notes = ready_made.apart(HalfInside(), "net", own_types=True)
    assert module.fc.weight.dtype == torch.float16
    assert notes == ()


@pytest.fixture
def optimized():
    """LayerNormalization in a file of opset 13, as onnxruntime's optimizer writes it, and one operator that nobody has."""
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    scale = onnx.numpy_helper.from_array(np.ones(4, np.float32), "scale")
    graph = onnx.helper.make_graph(
        [node("LayerNormalization", ["x", "scale"], ["y"], axis=-1)],
        "g",
        [value("x", 1, ["n", 4])],
        [value("y", 1, ["n", 4])],
        [scale],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)


def test_operators_of_onnxruntimes_optimizer_are_a_remark(optimized, tmp_path):
    onnx.save(optimized, tmp_path / "optimized.onnx")
    verdict = validate(tmp_path / "optimized.onnx", nn.LayerNorm(4))
    assert verdict.same, verdict.checks
    assert any("opset 13 has no LayerNormalization" in note for note in verdict.notes)


def test_an_operator_that_onnxruntime_has_not_either_is_illegal(optimized):
    before = optimized.SerializeToString()
    assert all(check.passed for check in legal.checks(Deployed(optimized)))
    assert optimized.SerializeToString() == before
    optimized.graph.node[0].op_type = "NoSuchOperator"
    found = legal.checks(Deployed(optimized))
    assert not found[0].passed
    assert "NoSuchOperator" in found[0].detail
