"""Small networks with a contract, made with onnx itself: what the runtime sees without the exporter in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deploykit.runtime.contract import KEY, Contract, ImageInput

DIGITS = ImageInput(channels=1, height=8, width=8, mean=(0.5,), std=(0.5,))
LABELS = tuple("0123456789")


def with_contract(model: onnx.ModelProto, contract: Contract | str | None) -> onnx.ModelProto:
    if contract is not None:
        text = contract if isinstance(contract, str) else contract.dumps()
        helper.set_model_props(model, {KEY: text})
    return model


def build(
    nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], weights: dict[str, np.ndarray] | None = None
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def linear(rules: ImageInput = DIGITS, classes: int = 10, batch: Any = "batch", elem: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Flatten, then one random matrix: (batch, channels, height, width) -> (batch, classes)."""
    features = rules.channels * rules.height * rules.width
    dtype = np.float16 if elem == TensorProto.FLOAT16 else np.float32
    weight = np.random.default_rng(7).normal(size=(features, classes)).astype(dtype) / np.sqrt(features).astype(dtype)
    return build(
        [helper.make_node("Flatten", ["input"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])],
        [helper.make_tensor_value_info("input", elem, [batch, rules.channels, rules.height, rules.width])],
        [helper.make_tensor_value_info("logits", elem, [batch, classes])],
        {"w": weight},
    )


def counting() -> onnx.ModelProto:
    """`count` (n,): `counted` (n,), which it reaches one by one for the largest: as many steps as the caller asks for."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["more"], ["again"]),
            helper.make_node("Add", ["so_far", "one"], ["next"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("more", TensorProto.BOOL, []),
            helper.make_tensor_value_info("so_far", TensorProto.INT64, ["n"]),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.INT64, ["n"]),
        ],
    )
    return build(
        [
            helper.make_node("ReduceMax", ["count"], ["steps"], keepdims=0),
            helper.make_node("Sub", ["count", "count"], ["start"]),
            helper.make_node("Loop", ["steps", "", "start"], ["reached"], body=body),
            helper.make_node("Min", ["reached", "count"], ["counted"]),
        ],
        [helper.make_tensor_value_info("count", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("counted", TensorProto.INT64, ["n"])],
        {"one": np.array([1], np.int64)},
    )
