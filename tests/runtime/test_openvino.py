"""A precision that the CPU has no instructions for is not imitated: the file is computed in float32."""

from __future__ import annotations

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
