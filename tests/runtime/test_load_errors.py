"""A file that onnxruntime cannot load: what is wrong with it, and what helps."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from deploykit.errors import ModelFileError
from deploykit.onnx_file import sessions
from deploykit.runtime import Predictor
from deploykit.runtime.session import reason

WHOLE = "is it a whole ONNX file?"


def model(operator: str = "Identity", kind: int = TensorProto.FLOAT, opset: int = 20, ir: int = 9, domain: str = "") -> bytes:
    """One node, unchecked."""
    values = [helper.make_tensor_value_info(name, kind, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], "it", domain=domain)], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=ir).SerializeToString()
    return data


def mixed() -> bytes:
    """A graph whose only node takes a value that nobody makes."""
    found = onnx.load_from_string(model())
    found.graph.node[0].input[0] = "nothing"
    data: bytes = found.SerializeToString()
    return data


CASES = {
    "newer opset": (model(opset=99), "it has opset 99 of ai.onnx, onnxruntime .* runs at most", "export it with opset"),
    "newer IR": (model(ir=99), "it has IR version 99, onnxruntime .* reads at most", "update onnxruntime"),
    "no kernel": (model("Relu", TensorProto.BFLOAT16), r"has no kernel for Relu\(14\) \(node 'it'\)", "cast its inputs to float32"),
    "no operator": (model("Foo"), "does not know the operator Foo of opset 20", "without that operator, or update"),
    "own operator": (model("Foo", domain="my"), "does not know the operator my:Foo", "without that operator, or update"),
    "no graph": (onnx.ModelProto(ir_version=8).SerializeToString(), "No graph was found", WHOLE),
    "invalid": (mixed(), "'nothing' is not a graph input", "the graph is not valid ONNX"),
    "no protobuf": (b"hello world, this is no protobuf", "not a whole ONNX file", "export it again"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_and_what_helps(case: str) -> None:
    data, problem, hint = CASES[case]
    with pytest.raises(ModelFileError, match=problem) as error:
        Predictor(data, device="cpu")
    assert hint in error.value.hint
    assert (error.value.hint == WHOLE) == (hint == WHOLE)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_sessions_for_looking_into_models_say_the_same() -> None:
    with pytest.raises(ModelFileError, match="the model cannot be loaded: it has opset 99 of ai.onnx"):
        sessions.open_session(model(opset=99))
    with pytest.raises(ModelFileError, match=WHOLE.replace("?", r"\?")):
        sessions.open_session(b"no protobuf")


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("[ONNXRuntimeError] : 1 : FAIL : /src/core/graph/graph.cc:12 a::Graph::Graph(const a::Model&, b<c(int)>*, bool) const it is odd",
         "it is odd"),
        ("Non-zero status code returned. /src/x/reshape.h:7 a::Helper::Helper(const Shape&) n == m was false. 3 is not 4",
         "Non-zero status code returned. n == m was false. 3 is not 4"),
        ("/src/x.cc:7 f(int)", "/src/x.cc:7 f(int)"),
        ("model.onnx: 2 (of 3) fit", "model.onnx: 2 (of 3) fit"),
    ],
)  # fmt: skip
def test_a_message_says_what_is_wrong_and_not_where_in_the_source_of_onnxruntime(told: str, kept: str) -> None:
    assert reason(RuntimeError(told)) == kept
