"""Files as others write them, from the report that `profile` makes: parameters, MACs, and sizes that are no sizes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploykit.errors import InputError
from deploykit.profiler import profile

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name, shape=None, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def array(name, values):
    return onnx.numpy_helper.from_array(np.asarray(values), name)


def ones(name, *shape, kind=np.float32):
    return array(name, np.ones(shape, kind))


def file_of(folder, nodes, inputs, weights=(), version=17, ir_version=8):
    graph = helper.make_graph(nodes, "g", inputs, [value("y")], weights)
    opsets = [helper.make_opsetid("", version), helper.make_opsetid("com.microsoft", 1)]
    path = folder / "foreign.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), path)
    return path


def branch(name):
    nodes = [helper.make_node("Constant", [], ["w"], value=ones("", 16, 16)), helper.make_node("MatMul", ["x", "w"], ["o"])]
    return helper.make_graph(nodes, name, [], [value("o")])


CHOICE = helper.make_node("If", ["c"], ["y"], then_branch=branch("a"), else_branch=branch("b"))


def lstm(folder):
    """One of int8 weights, 16 features and 32 hidden, over five steps: its scales are no parameters."""
    node = helper.make_node(
        "DynamicQuantizeLSTM", ["x", "w", "r", *[""] * 5, "s", "z", "s", "z"], ["y"], domain="com.microsoft", hidden_size=32
    )
    weights = [ones("w", 1, 16, 128, kind=np.int8), ones("r", 1, 32, 128, kind=np.int8), ones("s", 1), ones("z", 1, kind=np.int8)]
    return file_of(folder, [node], [value("x", (5, 1, 16))], weights)


def constants_in_branches(folder):
    return file_of(folder, [CHOICE], [value("x", (1, 16)), value("c", (), BOOL)])


def condition_on_a_shape(folder):
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Gather", ["s", "first"], ["rows"]),
        helper.make_node("Equal", ["rows", "one"], ["c"]), CHOICE,
    ]  # fmt: skip
    return file_of(folder, nodes, [value("x", (1, 16))], [array("first", 0), array("one", 1)])


def oldest_format_without_names(folder):
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[1] * 4), helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]  # fmt: skip
    weights = [ones("k", 8, 3, 3, 3), ones("w", 8, 10), ones("b", 10)]
    return file_of(folder, nodes, [value("x", (1, 3, 32, 32)), *(value(w.name, w.dims) for w in weights)], weights, 9, 3)


def free_size_as_paddle_writes_it(folder):
    return file_of(folder, [helper.make_node("Conv", ["x", "k"], ["y"])], [value("x", (-1, 3, 8, 8))], [ones("k", 2, 3, 3, 3)])


def axis_of_nothing(folder):
    return file_of(folder, [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", (1, 0, 4))], [ones("w", 4, 6)])


@pytest.mark.parametrize(
    ("made", "params", "macs"),
    [
        (lstm, 128 * 48, 5 * 128 * 48),
        (constants_in_branches, 512, 256),
        (condition_on_a_shape, 512, 256),
        (oldest_format_without_names, 216 + 90, 221_264),
        (free_size_as_paddle_writes_it, 54, 2 * 36 * 27),
        (axis_of_nothing, 24, 0),
    ],
)
def test_foreign_files_have_the_right_numbers_and_no_doubt_about_them(tmp_path, made, params, macs):
    totals = profile(made(tmp_path), latency=False).document()["totals"]
    assert (totals["params"], totals["ops"]) == (params, macs)
    assert not totals["params_at_least"]
    assert not totals["ops_at_least"]


def test_the_batch_of_a_report_is_on_the_axis_that_is_the_batch(tmp_path):
    file = file_of(tmp_path, [helper.make_node("MatMul", ["w", "x"], ["y"])], [value("x", (4, "batch"))], [ones("w", 8, 4)])
    for found in (profile(file, batch=5, latency=False), profile(file, inputs={"x": np.ones((4, 5), np.float32)}, latency=False)):
        assert (found.table.batch, found.table.totals.ops) == (5, 5 * 32)
    assert profile(file, latency=False).table.batch == 1


def test_what_cannot_be_meant_beside_given_values_is_refused(tmp_path):
    file = file_of(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", ("batch", 4))], [ones("w", 4, 8)])
    given = np.ones((2, 4), np.float32)
    for option, keywords in (("--batch", {"batch": 2}), ("--input-shape", {"input_shapes": [(4,)]})):
        with pytest.raises(InputError, match=f"{option} does not go with them; leave out {option}"):
            profile(file, inputs={"x": given}, latency=False, **keywords)
    with pytest.raises(InputError, match="--input-dtype does not go with it"):
        profile(file, input_dtypes=["float32"], latency=False)


def test_a_batch_of_nothing_is_not_advised(tmp_path):
    file = file_of(tmp_path, [helper.make_node("MatMul", ["x", "w"], ["y"])], [value("x", (0, 4))], [ones("w", 4, 8)])
    with pytest.raises(InputError, match="is 0 in the file, not 2; leave out --batch, or export"):
        profile(file, batch=2, latency=False)


def test_values_that_only_the_timing_made_up_are_made_up(tmp_path):
    """With latency the report has arrays for its inputs, which are no more the user's than without."""
    body = helper.make_graph(
        [helper.make_node("MatMul", ["h", "w"], ["o"]), helper.make_node("Identity", ["go"], ["on"])], "body",
        [value("i", (), INT), value("go", (), BOOL), value("h", (2, 4))], [value("on", (), BOOL), value("o", (2, 4))],
    )  # fmt: skip
    loop = helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)
    file = file_of(tmp_path, [loop], [value("x", (2, 4)), value("n", (), INT)], [ones("w", 4, 4)])
    assert profile(file, backends=["onnxruntime"], seconds=0.01).table.ops_at_least
    exact = profile(file, inputs={"x": np.ones((2, 4), np.float32), "n": np.array(5)}, latency=False)
    assert (exact.table.totals.ops, exact.table.ops_at_least) == (5 * 32, False)
