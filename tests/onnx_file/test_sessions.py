"""The newest opset that the installed onnxruntime runs; runs whose outputs are chosen, and those that fail."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploykit.errors import ModelFileError
from deploykit.onnx_file import sessions


@pytest.mark.parametrize("newest", [1000, 17, 2])
def test_the_newest_opset_is_the_first_from_above_that_gives_a_session(monkeypatch, newest):
    asked = []

    def open_session(data):
        version = onnx.ModelProto.FromString(data).opset_import[0].version
        asked.append(version)
        if version > newest:
            raise ModelFileError("too new", "")

    monkeypatch.setattr(sessions, "open_session", open_session)
    known = onnx.defs.onnx_opset_version()
    assert sessions.newest_opset.__wrapped__() == min(newest, known)
    assert asked == list(range(known, min(newest, known) - 1, -1))


def test_where_none_gives_a_session_it_is_the_first_one(monkeypatch):
    def open_session(_data):
        raise ModelFileError("too new", "")

    monkeypatch.setattr(sessions, "open_session", open_session)
    assert sessions.newest_opset.__wrapped__() == 1


def two_outputs():
    value = helper.make_tensor_value_info
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Abs", ["x"], ["b"])]
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["n"])], [value(n, TensorProto.FLOAT, ["n"]) for n in "ab"]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def test_outputs_are_all_or_those_that_were_named():
    session = sessions.open_session(two_outputs())
    feeds = {"x": np.array([-1.0, 2.0], np.float32)}
    assert [value.tolist() for value in sessions.run(session, feeds)] == [[1.0, -2.0], [1.0, 2.0]]
    assert [value.tolist() for value in sessions.run(session, feeds, ["b"])] == [[1.0, 2.0]]
    with pytest.raises(ModelFileError, match="onnxruntime cannot run the model: "):
        sessions.run(session, {})
    with pytest.raises(ModelFileError, match="cannot run"):
        sessions.answers(session, {"x": np.zeros((1, 1), np.float32)})
