"""A precision that the CPU has no instructions for is not imitated, and a file that is compiled for some rows takes any others."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest

from deploykit.runtime.openvino import CAPABILITIES, OpenVinoModel

openvino = pytest.importorskip("openvino")


class Core(openvino.Core):
    """One that says that the CPU can do nothing but float32."""

    def get_property(self, device, name):
        return ["FP32", "INT8"] if name == "OPTIMIZATION_CAPABILITIES" else super().get_property(device, name)


def model():
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", 1, ["n", 3])], [value("y", 1, ["n", 3])]
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.mark.parametrize("precision", ["bf16", "f16"])
def test_what_the_cpu_cannot_is_float32(precision, monkeypatch):
    assert CAPABILITIES[precision] in ("BF16", "FP16")
    monkeypatch.setattr(openvino, "Core", Core)
    assert OpenVinoModel(model(), "the model", 1, precision).precision == "f32"


@pytest.mark.parametrize("precision", ["f32", "bf16", "f16"])
def test_what_the_cpu_can_is_done(precision):
    able = CAPABILITIES[precision] in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert OpenVinoModel(model(), "the model", 1, precision).precision == (precision if able else "f32")


@pytest.fixture
def compiled(monkeypatch):
    """The input shapes that OpenVINO was asked to compile, as texts."""
    found = []

    class Counting(openvino.Core):
        def compile_model(self, read, *args):
            found.append(str(read.inputs[0].get_partial_shape()))
            return super().compile_model(read, *args)

    monkeypatch.setattr(openvino, "Core", Counting)
    return found


def relu(rows):
    values = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3) - 4
    return {"x": values}, [np.maximum(values, 0)]


def test_a_file_that_is_compiled_for_some_rows_takes_any(compiled):
    both = OpenVinoModel(model(), "the model", 1, fixed_batch=2)
    assert compiled == ["[2,3]"], "once, as long as nothing else is asked"
    for rows in (2, 5, 1, 2, 5):
        feeds, expected = relu(rows)
        np.testing.assert_array_equal(both.run(None, feeds), expected)
        np.testing.assert_array_equal(both.run(["y"], feeds), expected)
    assert compiled == ["[2,3]", "[?,3]"]
    assert both.inputs == (("x", (None, 3), np.dtype(np.float32)),)


def test_without_rows_it_is_compiled_for_any(compiled):
    OpenVinoModel(model(), "the model", 1).run(None, relu(2)[0])
    assert compiled == ["[?,3]"]


def test_where_the_first_axis_is_something_else_it_is_compiled_for_any(compiled):
    """Here it must be a multiple of 2: it is said of no number of rows."""
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    shape = onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [2, -1])
    graph = onnx.helper.make_graph(
        [node("Reshape", ["x", "shape"], ["y"])], "g", [value("x", 1, ["n", 3])], [value("y", 1, [2, "m"])], [shape]
    )
    data = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    odd = OpenVinoModel(data, "the model", 1, fixed_batch=1)
    assert compiled[-1] == "[?,3]"
    feeds, _ = relu(4)
    np.testing.assert_array_equal(odd.run(None, feeds)[0], feeds["x"].reshape(2, 6))


def test_callers_in_threads_compile_it_once_more_once(compiled):
    both = OpenVinoModel(model(), "the model", 1, fixed_batch=1)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda rows: both.run(None, relu(rows)[0]), [2, 3, 4, 1] * 8))
    for rows, answer in zip([2, 3, 4, 1] * 8, answers, strict=True):
        np.testing.assert_array_equal(answer, relu(rows)[1])
    assert sorted(compiled) == ["[1,3]", "[?,3]"]
