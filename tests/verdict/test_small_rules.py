"""Small rules of the verdict: the farthest answer, moved names, weights of two files, sizes by kind, the file that is asked."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from deploykit import onnx_file
from deploykit.runtime.contract import ArrayInput, Contract, Output
from deploykit.verdict import judgement, moved_names, originals, reference, sizes, validate
from deploykit.verdict import rounding as rounding_of
from deploykit.verdict.batches import Batch
from deploykit.verdict.case import Case
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.reference import Answers, Reference
from deploykit.verdict.values import Values


def answers(output, **layers):
    found = Values()
    for path, value in layers.items():
        found[path] = np.array([value])
    return Answers([np.array([output])], found)


def test_of_several_answers_the_farthest_counts_value_by_value():
    found = reference._farthest(answers(1.0, a=1.0, b=1.0, c=1.0), [answers(1.1, a=1.1, b=3.0), answers(0.5, a=1.05)])
    assert found.outputs[0].tolist() == [0.5]
    assert {path: value.tolist() for path, value in found.layers.items()} == {"a": [1.1], "b": [3.0]}


class Insists(nn.Module):
    """Cannot be run in float64."""

    def forward(self, x):
        if x.dtype == torch.float64:
            raise TypeError("float32 alone")
        return x


def test_a_network_that_insists_on_float32_gets_a_note():
    batch = Batch("noise", (torch.ones(2, 3),))
    asked = Reference(Insists())
    (found,) = asked.observe([batch], ())
    assert asked.note.startswith("no float64 reference: ")
    assert asked.note.endswith("; PyTorch in float32 stands in for it")
    assert found.float64.outputs[0].dtype == np.float32
    plain = Reference(nn.Linear(3, 2))
    (found,) = plain.observe([batch], ("noise",))
    assert plain.note == ""
    assert found.float64.outputs[0].dtype == np.float64


def test_layers_are_kept_by_path_and_call():
    shared = nn.Linear(2, 2)
    network = nn.Sequential(shared, nn.ReLU(), shared)
    (found,) = Reference(network).observe([Batch("noise", (torch.ones(1, 2),))], ("noise",))
    assert sorted(found.layers) == ["0", "0@1", "1"]
    (without,) = Reference(network).observe([Batch("noise", (torch.ones(1, 2),))], ())
    assert without.layers == []


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])


def test_the_users_of_a_value_are_nodes_bodies_and_outputs():
    body = helper.make_graph([helper.make_node("Neg", ["a"], ["inner"])], "body", [], [value("inner")])
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("Add", ["a", "x"], ["b"]),
        helper.make_node("If", ["b"], ["c"], then_branch=body, else_branch=body),
        helper.make_node("Neg", ["c"], ["d", ""]),
    ]
    graph = helper.make_graph(nodes, "g", [value("x")], [value("c"), value("x")])
    assert moved_names._users(graph) == {
        "a": {("Add", ("b",)), ("If", ("c",))},
        "b": {("If", ("c",))},
        "c": {("Neg", ("d", "")), moved_names.OUTPUT},
        "d": set(),
    }


def file_of(weights, contract=None, operator="Mul"):
    nodes, last = [], "x"
    for name in weights:
        nodes.append(helper.make_node(operator, [last, name], [f"{name}_out"]))
        last = f"{name}_out"
    stored = [numpy_helper.from_array(np.array(numbers, np.float32), name) for name, numbers in weights.items()]
    graph = helper.make_graph(nodes, "g", [value("x")], [value(last)], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if contract is not None:
        onnx_file.set_contract(model, contract)
    return Deployed(model)


def original_of(weights, contract=None):
    file = file_of(weights, contract)
    return originals.OnnxOriginal("a.onnx", file, file)


@pytest.mark.parametrize(
    ("ours", "theirs", "passed", "detail", "owner"),
    [
        ({"fc.w": [1, 2]}, {"fc.w": [1, 2]}, True, "1 of 1 tensors compared", None),
        ({"block.fc.w": [1, 2]}, {"block.fc.w": [1, 3]}, False, "block.fc.w differs between the files", "block.fc"),
        ({"w": [1, 2]}, {"w": [1, 3]}, False, "w differs", "w"),
        ({"w": [1, 2]}, {"w": [[1, 3]]}, True, "0 of 1 tensors compared", None),
        ({"w": [1, 2], "v": [1, 1]}, {"v": [1, 1]}, True, "1 of 2 tensors compared", None),
        ({"proven.w": [1, 2]}, {"proven.w": [1, 3]}, True, "1 of 1 tensors compared", None),
    ],
)
def test_weights_of_two_files(ours, theirs, passed, detail, owner):
    check, found = original_of(ours).weights(file_of(theirs), {"proven"}, set())
    assert (check.name, check.passed, found) == ("weights", passed, owner)
    assert detail in check.detail


def test_a_weight_that_makes_nothing_but_moved_values_may_differ():
    original = original_of({"w": [1, 2]})
    assert original.weights(file_of({"w": [1, 3]}), (), {"w_out"})[0].passed
    assert not original.weights(file_of({"w": [1, 3]}), (), {"another"})[0].passed


@pytest.mark.parametrize(
    ("contract", "dataset", "trained", "has_rules"),
    [
        (None, None, False, False),
        (Contract(ArrayInput((2,)), Output()), None, False, True),
        (Contract(ArrayInput((2,)), Output(), provenance={"dataset": "digits", "checkpoint_sha256": "x"}), "digits", True, True),
        (Contract(ArrayInput((2,)), Output(), provenance={"dataset": 3}), None, False, True),
    ],
)
def test_what_a_file_says_of_itself(contract, dataset, trained, has_rules):
    found = original_of({"w": [1, 2]}, contract)
    assert (found.dataset, found.trained, found.rules is not None, found.output is not None) == (
        dataset,
        trained,
        has_rules,
        has_rules,
    )
    assert [spec.name for spec in found.inputs] == ["x"]
    assert found.logits(np.ones((1, 2), np.float32)).tolist() == [[1.0, 2.0]]
    assert found.culprit(file_of({"w": [1, 2]}), "w_out") == "w_out"
    assert found.guards((), {}) == ()
    assert found.line_of(None, (), {}) == ""


def test_another_file_than_the_one_of_the_case_can_be_asked():
    original = original_of({"w": [1, 2]})
    batch = Batch("noise, batch 1", (torch.ones(1, 2),))
    case = Case(file_of({"w": [1, 2]}), original, [batch], None, None, "cpu")
    assert case.outputs().check.passed
    assert not case.outputs(file_of({"w": [1, 3]})).check.passed
    assert case.agrees(file_of({"w": [1, 2]}), "all", "cpu")
    assert not case.agrees(file_of({"w": [1, 3]}), "disabled", "cpu")
    assert case.differs_on(batch) is None
    other = Case(file_of({"w": [1, 3]}), original, [batch], None, None, "cpu")
    assert "error" in other.differs_on(batch).detail
    assert {name: array.tolist() for name, array in other.witness(batch).items()} == {
        "x": [[1.0, 1.0]],
        "network/w_out": [[1.0, 2.0]],
        "file/w_out": [[1.0, 3.0]],
    }


def test_the_sizes_that_differ_in_kind():
    """The growth by a half, to the double and to the half, and the multiples of the even part, for one axis and for two."""
    found = [each["length"] for each in sizes._kinds({"batch": 2, "length": 12})]
    assert found == [13, 9, 17, 7, 18, 24, 6, 16, 1, 2, 3, 11, 13, 16]
    two = [(each["h"], each["w"]) for each in sizes._kinds({"h": 16, "w": 24})]
    assert two[:8] == [(17, 27), (13, 23), (23, 31), (7, 17), (24, 36), (32, 48), (8, 12), (32, 40)]
    assert two[-1] == (1, 1)
    assert list(sizes._kinds({"batch": 2})) == []
    assert [sizes._even_part(size) for size in (1, 2, 6, 12, 16, 48)] == [2, 2, 2, 4, 16, 16]


def test_rounding_takes_operators_with_and_without_keywords():
    value = torch.tensor([1.0, 1.0001])
    rounding = rounding_of._Rounding()
    assert rounding.__torch_dispatch__(torch.ops.aten.neg.default, (), (value,)).tolist() == [-1.0, -1.0]
    assert rounding.__torch_dispatch__(torch.ops.aten.add.Tensor, (), (value, value), {"alpha": 2}).tolist() == [3.0, 3.0]


@pytest.mark.parametrize(("errors", "asked"), [(None, ()), ("some", ("x",))])
def test_outputs_tell_something_only_where_they_were_compared(monkeypatch, errors, asked):
    seen = []
    monkeypatch.setattr(judgement.evidence, "check", lambda comparable, layers, **rest: seen.append(comparable))
    outputs = SimpleNamespace(errors=errors, tolerance=1e-6)
    case = SimpleNamespace(
        comparable=("x",), repeatable=True, original=SimpleNamespace(changed=()), tolerance_is_derived=True, precision="fp32"
    )
    judgement._evidence(outputs, [], case)
    assert seen == [asked]


class Labelled(nn.Module):
    """Scores, and the number of the best one."""

    def forward(self, x):
        return x * 2, x.argmax(1)


@pytest.mark.parametrize(
    ("kind", "word"), [(TensorProto.INT64, "same"), (TensorProto.INT32, "same"), (TensorProto.FLOAT, "different")]
)
def test_whole_numbers_are_whole_in_the_file_too_however_wide(tmp_path, kind, word):
    nodes = [
        helper.make_node("Add", ["x", "x"], ["scores"]),
        helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
        helper.make_node("Cast", ["best"], ["label"], to=kind),
    ]
    ends = [("x", TensorProto.FLOAT, ["n", 5]), ("scores", TensorProto.FLOAT, ["n", 5]), ("label", kind, ["n"])]
    x, *outputs = (helper.make_tensor_value_info(*end) for end in ends)
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], outputs), opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    )
    onnx.save(model, tmp_path / "m.onnx")
    verdict = validate(tmp_path / "m.onnx", Labelled(), input_shapes=[(5,)])
    assert verdict.verdict == word, verdict.checks
    told = " ".join(check.detail for check in verdict.checks if not check.passed)
    assert ("label holds float32, the network gives int64" in told) is (word == "different")
