"""Small networks to be served, made with onnx itself."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
from onnx import TensorProto, helper
from small_models import DIGITS, LABELS, build, linear, with_contract

from deploykit.runtime.contract import ArrayInput, Contract, Output
from deploykit.serving.models import Settings

CPU = Settings(device="cpu", threads=1, max_rows=8)

ONNX_TYPES = {
    "BOOL": TensorProto.BOOL, "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64, "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64, "FP16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16, "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE, "BYTES": TensorProto.STRING,
}  # fmt: skip


def value(name, elem, shape):
    return helper.make_tensor_value_info(name, elem, shape)


def identity(elem, shape=("n", 2)):
    """`x` as it is."""
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", [value("x", elem, shape)], [value("y", elem, shape)]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def two_by_two():
    """`a` + `b` and `a` - `b`: several inputs and outputs, no contract."""
    return build(
        [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Sub", ["a", "b"], ["difference"])],
        [value("a", TensorProto.FLOAT, ["n", 3]), value("b", TensorProto.FLOAT, ["n", 3])],
        [value("sum", TensorProto.FLOAT, ["n", 3]), value("difference", TensorProto.FLOAT, ["n", 3])],
    )


def digits(verdict="same"):
    contract = Contract(DIGITS, Output("softmax", LABELS), verdict=None if verdict is None else {"verdict": verdict})
    return with_contract(linear(), contract)


def doubling():
    model = build(
        [helper.make_node("MatMul", ["input", "w"], ["out"])],
        [value("input", TensorProto.FLOAT, ["n", 3])],
        [value("out", TensorProto.FLOAT, ["n", 2])],
        {"w": np.array([[2, 0], [0, 2], [0, 0]], np.float32)},
    )
    return with_contract(model, Contract(ArrayInput((3,)), Output("none")))


def own_certificate(folder):
    """A certificate for this machine's loopback, signed by itself, and its key, as PEM files; skips the test where openssl cannot."""
    certificate, key = folder / "c.pem", folder / "k.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate], capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl cannot make a certificate here")
    return certificate, key
