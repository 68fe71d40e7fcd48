"""Rows of several callers share a run only where none of them changes the answer of another."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.runtime import Batcher, Predictor
from deploykit.runtime.rows import are_independent, in_rows, together

node = helper.make_node
FLOAT, HALF, BYTE, LONG, TEXT, BFLOAT = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT64, TensorProto.STRING, TensorProto.BFLOAT16,
)  # fmt: skip
WHOLE = {"keepdims": 0}


def opened(nodes, takes=FLOAT, gives=FLOAT, sizes=("n", 16), out=("n", 16), **weights):
    """A network from `x` to `y` of these types and shapes."""
    kinds = takes if isinstance(takes, dict) else {"x": (takes, sizes)}
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in kinds.items()]
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("y", gives, out)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    return Predictor(model.SerializeToString(), device="cpu", threads=1)


def single(number):
    return np.array(number, np.float32)


LARGEST = [node("ReduceMax", ["f"], ["m"], **WHOLE), node("Div", ["f", "m"], ["y"])]
MIXING = {
    "divided by the largest of all": ([node("Identity", ["x"], ["f"]), *LARGEST], {}),
    "bytes divided by the largest of all": ([node("Cast", ["x"], ["f"], to=FLOAT), *LARGEST], {"takes": BYTE}),
    "longs divided by the largest of all": ([node("Cast", ["x"], ["f"], to=FLOAT), *LARGEST], {"takes": LONG}),
    "longs less the smallest of all": (
        [node("ReduceMin", ["x"], ["m"], **WHOLE), node("Sub", ["x", "m"], ["y"])], {"takes": LONG, "gives": LONG},
    ),
    "to 0..1 where one is above 1": (
        [node("ReduceMax", ["x"], ["m"], **WHOLE), node("Greater", ["m", "limit"], ["c"]), node("Div", ["x", "full"], ["d"]),
         node("Where", ["c", "d", "x"], ["y"])], {"limit": single(1.5), "full": single(255)},
    ),
    "shifted where one is below 0": (
        [node("ReduceMin", ["x"], ["m"], **WHOLE), node("Less", ["m", "limit"], ["c"]), node("Add", ["x", "one"], ["d"]),
         node("Where", ["c", "d", "x"], ["y"])], {"limit": single(0), "one": single(1)},
    ),
    "normalised by the spread of all": (
        [node("ReduceL2", ["x"], ["m"], **WHOLE), node("Div", ["x", "m"], ["y"])], {},
    ),
    "quantized by the range of all": (
        [node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])], {},
    ),
    "sums of the rows before": ([node("CumSum", ["x", "along"], ["y"])], {"along": np.array(0, np.int64)}),
    "half precision": ([node("ReduceMax", ["x"], ["m"], **WHOLE), node("Div", ["x", "m"], ["y"])], {"takes": HALF, "gives": HALF}),
    "whether any is true": (
        [node("ReduceMax", ["x"], ["m"], **WHOLE), node("Or", ["x", "m"], ["y"])],
        {"takes": TensorProto.BOOL, "gives": TensorProto.BOOL},
    ),
    "texts in order": (
        [node("Unique", ["x"], ["y"], sorted=1)], {"takes": TEXT, "gives": TEXT, "sizes": ["n"], "out": ["m"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXING)
def test_a_network_in_which_one_row_changes_another(name):
    nodes, more = MIXING[name]
    with opened(nodes, **more) as model:
        assert in_rows(model), "as far as its graph tells"
        assert together(model) == (False, "on trial, rows did not get the same answers together as alone")


RANDOM = np.random.default_rng(5)
WEIGHT = RANDOM.normal(size=(16, 16)).astype(np.float32)
TABLE = RANDOM.normal(size=(10, 4)).astype(np.float32)
ALONE = {
    "sigmoids of large numbers": ([node("MatMul", ["x", "w"], ["z"]), node("Sigmoid", ["z"], ["y"])], {"w": WEIGHT}),
    "a softmax within the row": ([node("MatMul", ["x", "w"], ["z"]), node("Softmax", ["z"], ["y"], axis=1)], {"w": WEIGHT}),
    "one number that is near 0": (
        [node("MatMul", ["x", "w"], ["z"]), node("MatMul", ["z", "v"], ["y"])],
        {"w": WEIGHT, "v": RANDOM.normal(size=(16, 1)).astype(np.float32), "out": ["n", 1]},
    ),
    "a large number beside small ones": ([node("Mul", ["x", "w"], ["y"])], {"w": np.logspace(-6, 6, 16).astype(np.float32)}),
    "the largest of the row": ([node("ReduceMax", ["x", "along"], ["m"]), node("Div", ["x", "m"], ["y"])], {"along": np.array([1])}),
    "the place of the largest": ([node("ArgMax", ["x"], ["y"], axis=1)], {"gives": LONG, "out": ["n", 1]}),
    "bytes": ([node("Cast", ["x"], ["f"], to=FLOAT), node("MatMul", ["f", "w"], ["y"])], {"takes": BYTE, "w": WEIGHT}),
    "places in a table": (
        [node("Gather", ["w", "x"], ["y"])], {"takes": LONG, "sizes": ["n", 3], "out": ["n", 3, 4], "w": TABLE},
    ),
    "half precision that overflows": ([node("Mul", ["x", "x"], ["y"])], {"takes": HALF, "gives": HALF}),
    "bfloat16": ([node("Identity", ["x"], ["y"])], {"takes": BFLOAT, "gives": BFLOAT}),
    "numbers in texts": ([node("Cast", ["x"], ["y"], to=FLOAT)], {"takes": TEXT}),
    "texts": ([node("Identity", ["x"], ["y"])], {"takes": TEXT, "gives": TEXT}),
    "texts and numbers": (
        [node("Cast", ["t"], ["f"], to=FLOAT), node("Add", ["f", "x"], ["y"])],
        {"takes": {"t": (TEXT, ["n", 1]), "x": (FLOAT, ["n", 16])}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_an_ordinary_network_raises_no_alarm(name):
    nodes, more = ALONE[name]
    with opened(nodes, **more) as model:
        assert together(model) == (True, "")


def test_a_table_is_tried_as_far_as_it_goes():
    """Divided by the largest place, of 0 and 1 alone nothing would show."""
    nodes = [
        node("Gather", ["w", "x"], ["z"]), node("Cast", ["x"], ["f"], to=FLOAT), node("ReduceMax", ["f"], ["m"], **WHOLE),
        node("Div", ["z", "m"], ["y"]),
    ]  # fmt: skip
    with opened(nodes, LONG, sizes=["n", 3], out=["n", 3], w=np.arange(1, 6, dtype=np.float32)) as model:
        assert not are_independent(model)


def test_a_network_that_takes_nothing_is_not_shared():
    with opened([node("Gather", ["w", "x"], ["y"])], LONG, sizes=["n", 3], out=["n", 3], w=np.ones(1, np.float32)) as model:
        assert in_rows(model)
        assert not are_independent(model)


def test_a_batcher_of_a_predictor_tries_it_too():
    nodes, more = MIXING["divided by the largest of all"]
    with opened(nodes, **more) as model, Batcher.of(model) as batcher:
        assert not batcher.together
    nodes, more = ALONE["texts"]
    with opened(nodes, **more) as model, Batcher.of(model) as batcher:
        assert batcher.together
