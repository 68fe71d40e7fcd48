"""Networks that answer with infinities on purpose, as behind a mask: equal ones are equal, and hide no fault beside them."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from deploykit.exporter import to_onnx
from deploykit.network import target as targets
from deploykit.network.input_specs import InputSpec
from deploykit.verdict import judge, validate


class Mask(nn.Module):
    """-inf above the diagonal of the scores, as a causal decoder has it, or in whole rows."""

    def __init__(self, rows=False):
        super().__init__()
        self.rows = rows

    def forward(self, scores):
        count = scores.shape[-1]
        hidden = torch.ones(count, count, dtype=torch.bool).triu(1)
        hidden = hidden | (torch.arange(count) == 0)[:, None] if self.rows else hidden
        return scores.masked_fill(hidden, float("-inf"))


class Attention(nn.Module):
    def __init__(self, rows=False):
        super().__init__()
        self.query, self.key, self.mask, self.head = nn.Linear(6, 8), nn.Linear(6, 8), Mask(rows), nn.Linear(6, 4)

    def forward(self, x):
        scores = self.mask(self.query(x) @ self.key(x).transpose(1, 2))
        return self.head(torch.softmax(scores, -1) @ x)


class Logits(nn.Module):
    """Logits of forbidden choices are -inf; `low` is what stands there instead."""

    def __init__(self, low=-np.inf):
        super().__init__()
        self.head, self.low = nn.Linear(6, 9), float(low)
        self.register_buffer("allowed", torch.tensor([1, 1, 0, 1, 1, 1, 0, 1, 1], dtype=torch.bool))

    def forward(self, x):
        return self.head(x).masked_fill(~self.allowed, self.low)


class NotNumbers(nn.Module):
    """NaN in one output, everywhere."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        y = self.head(x)
        return {"y": y, "z": torch.log(-1 - y.abs())}


class Undefined(nn.Module):
    """The root of what may be negative: NaN at about half of the places."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 40)

    def forward(self, x):
        return self.head(x).sqrt()


def network(module, shape=(6,)):
    spec = InputSpec("input", shape)
    return replace(targets.resolve("mlp", untrained=True), module=module.eval(), inputs=(spec,), rules=None, output=None)


def made(kind, *args):
    torch.manual_seed(0)
    return network(kind(*args), (5, 6) if kind is Attention else (6,))


def failed(verdict):
    return {check.name: check.detail for check in verdict.checks if not check.passed}


@pytest.mark.parametrize(("kind", "rows"), [(Attention, False), (Logits, None), (Undefined, None)])
def test_an_honest_export_is_the_same_and_a_fault_beside_infinities_is_found(kind, rows):
    asked = made(kind)
    verdict = judge(to_onnx(asked), asked)
    assert verdict.same, failed(verdict)
    if kind is Attention:
        assert verdict.layers_compared == 3, "the mask among them; the head is an output"
    faulty = copy.deepcopy(asked.module)
    with torch.no_grad():
        faulty.head.weight[0, 0] += 1e-3
    found = judge(to_onnx(replace(asked, module=faulty)), asked)
    assert found.verdict == "different"
    assert {"outputs", "weights"} & set(failed(found))


def test_rows_of_a_mask_that_hide_everything_are_nan_on_both_sides():
    asked = made(Attention, True)
    verdict = judge(to_onnx(asked), asked)
    assert verdict.same, failed(verdict)


@pytest.mark.parametrize("low", [np.inf, -3.4e38, -1e9, np.nan])
def test_something_else_at_the_place_of_an_infinity_is_a_difference(low):
    asked = made(Logits)
    faulty = Logits(low)
    faulty.load_state_dict(asked.module.state_dict())
    model = to_onnx(replace(asked, module=faulty.eval()))
    found = judge(model, asked)
    assert not found.same
    assert "outputs" in failed(found) or found.verdict == "invalid"


def test_an_infinity_where_the_network_is_finite_is_a_difference():
    finite = made(Logits, -7.0)
    faulty = Logits()
    faulty.load_state_dict(finite.module.state_dict())
    found = judge(to_onnx(replace(finite, module=faulty.eval())), finite)
    assert found.verdict == "different"
    assert "outputs" in failed(found)


def test_an_output_of_nan_alone_proves_nothing():
    asked = made(NotNumbers)
    found = judge(to_onnx(asked), asked)
    assert not found.same
    assert "not finite" in failed(found)["outputs"]


def masked(path, low=-np.inf):
    """Softmax over x where x is positive, and over `low` elsewhere; rows without a positive one are NaN."""
    value = helper.make_tensor_value_info
    tensors = [helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]), helper.make_tensor("low", TensorProto.FLOAT, [1], [low])]
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["above"]),
        helper.make_node("Where", ["above", "x", "low"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
        helper.make_node("IsNaN", ["shares"], ["nothing"]),
        helper.make_node("Where", ["nothing", "zero", "shares"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n", 3])], [value("y", 1, ["n", 3])], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_a_file_with_infinities_and_nan_inside_is_the_same_as_itself(tmp_path):
    file = masked(tmp_path / "a.onnx")
    verdict = validate(file, against=str(file))
    assert verdict.same, failed(verdict)
    assert not validate(masked(tmp_path / "b.onnx", low=-1e9), against=str(file)).same
