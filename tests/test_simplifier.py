"""Simplifying changes the size, never the answers; where it would, the original stays and the reason is said."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from deploykit import simplifier
from deploykit.errors import ModelFileError
from deploykit.simplifier import random_batches, simplified, simplify


def wasteful():
    """Identity and a constant that can be folded: relu(x) + (1 + 1)."""
    nodes = [
        helper.make_node("Identity", ["x"], ["a"], "id"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Add", ["one", "one"], ["two"], "fold"),
        helper.make_node("Add", ["b", "two"], ["y"], "add"),
    ]
    value = helper.make_tensor_value_info
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n", 3])], [value("y", 1, ["n", 3])], [one])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_smaller_graph_with_the_same_answers_is_taken():
    model = wasteful()
    result = simplified(model, random_batches(model))
    assert result.applied
    assert sum(result.after.values()) < sum(result.before.values()) == 4
    assert result.compared == 2
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    answers = [
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
        for m in (model, result.model)
    ]
    np.testing.assert_array_equal(*answers)


def sabotage(change):
    def onnxsim(model):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        change(copy)
        return copy

    return onnxsim


def drop_relu(model):
    model.graph.node[3].input[0] = "a"
    del model.graph.node[1]


def freeze_batch(model):
    model.graph.node.append(helper.make_node("Reshape", ["y0", "shape"], ["y"], "freeze"))
    model.graph.node[3].output[0] = "y0"
    model.graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [2], [1, 3]))


def rename_output(model):
    model.graph.node[3].output[0] = "z"
    model.graph.output[0].name = "z"


def fail(model):
    raise RuntimeError("segfault in disguise\nwith two lines")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_relu, "changed by"),
        (freeze_batch, "could not be compared"),
        (rename_output, "outputs' names"),
        (fail, "onnxsim failed: RuntimeError"),
    ],
)
def test_a_simplifier_that_breaks_the_model_is_found_out_and_the_original_stays(monkeypatch, change, reason):
    monkeypatch.setattr(simplifier, "_onnxsim", sabotage(change))
    model = wasteful()
    result = simplified(model, random_batches(model))
    assert not result.applied
    assert reason in result.reason
    assert "\n" not in result.reason
    assert result.model is model


def test_the_file_is_written_beside_and_the_original_is_left(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(wasteful().SerializeToString())
    before = path.read_bytes()
    simplify(path)
    assert path.read_bytes() == before
    onnx.checker.check_model(onnx.load(tmp_path / "m.simplified.onnx"), full_check=True)


@pytest.mark.parametrize("content", [b"", b"no onnx at all", b"\x08"])
def test_what_is_no_onnx_file_is_one_line(tmp_path, content):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelFileError, match="not a whole ONNX file|is empty"):
        simplify(tmp_path / "m.onnx")
    assert len(list(tmp_path.iterdir())) == 1
