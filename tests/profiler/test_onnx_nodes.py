"""The layer table of ONNX files, anybody's."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploykit import architectures, exporter, onnx_file
from deploykit.errors import InputError
from deploykit.network import target
from deploykit.profiler import profile, profiling
from deploykit.profiler.onnx import weight_type
from deploykit.profiler.onnx.inputs import fixed
from deploykit.profiler.onnx.nodes import count_nodes
from deploykit.profiler.pytorch.layers import count_layers


def model_of(nodes, inputs, outputs, weights=(), domains=(), functions=()):
    """A model from nodes; `inputs`: name -> shape; `weights`: name -> shape."""
    stored = [onnx.numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in dict(weights).items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        stored,
    )
    opsets = [helper.make_opsetid("", 21), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10)


def one(op, shapes, weights=(), domain="", outputs=1, **attributes):
    """A model of one node; inputs a, b, ... then weights."""
    names = [chr(97 + i) for i in range(len(shapes))]
    node = helper.make_node(op, [*names, *dict(weights)], [f"y{i}" for i in range(outputs)], name="n", domain=domain, **attributes)
    return model_of([node], dict(zip(names, shapes, strict=True)), ["y0"], weights, [domain] if domain else [])


@pytest.mark.parametrize(
    ("model", "macs"),
    [
        (one("Conv", [(2, 4, 8, 8)], {"w": (6, 2, 3, 3), "bias": (6,)}, group=2), 2 * 6 * 36 * 18),
        (one("ConvTranspose", [(1, 4, 5, 5)], {"w": (4, 6, 3, 3)}, strides=[2, 2]), 25 * 4 * 6 * 9),
        (one("MatMul", [(2, 3, 4, 5), (5, 6)]), 2 * 3 * 4 * 6 * 5),
        (one("Gemm", [(5, 3)], {"w": (5, 7)}, transA=1), 3 * 5 * 7),
        (one("Einsum", [(2, 3, 4), (2, 4, 5)], equation="bij,bjk->bik"), 2 * 3 * 4 * 5),
        (one("Einsum", [(2, 3)], equation="ij->ji"), 0),
        (one("Einsum", [(7, 1, 4, 5), (3, 5, 6)], equation="...ij,...jk->...ik"), 7 * 3 * 4 * 5 * 6),
        (one("Einsum", [(3, 4), (4, 5), (5, 6)], equation="ij,jk,kl->il"), 3 * 4 * 5 + 3 * 5 * 6),
        (one("Einsum", [(4, 4), (4, 5)], equation="ii,ik"), 4 * 5),
        (one("LSTM", [(7, 2, 3)], {"w": (1, 20, 3), "r": (1, 20, 5)}, hidden_size=5), 7 * 2 * 20 * 8),
        (one("Relu", [(2, 3)]), 0),
    ],
)
def test_formulas(model, macs):
    found = count_nodes(model)
    assert found.totals.ops == macs
    assert not found.uncounted
    assert count_nodes(model, "flops").totals.ops == 2 * macs


@pytest.mark.parametrize(
    ("model", "macs", "params"),
    [
        (
            one("Attention", [(2, 6, 16)], {"w": (16, 48), "b": (48,)}, "com.microsoft", num_heads=4),
            2 * 6 * (16 * 48 + 6 * 32),
            816,
        ),
        (one("MultiHeadAttention", [(2, 6, 16), (2, 7, 16), (2, 7, 8)], domain="com.microsoft", num_heads=4), 2 * 6 * 7 * 24, 0),
        (one("FusedMatMul", [(2, 8, 3), (2, 8, 5)], domain="com.microsoft", transA=1), 2 * 3 * 5 * 8, 0),
        (one("FusedMatMul", [(8, 2, 3), (2, 8, 5)], domain="com.microsoft", transA=1, transBatchA=1), 2 * 3 * 5 * 8, 0),
        (one("FusedMatMul", [(3, 2, 8), (2, 8, 5)], domain="com.microsoft", transBatchA=1), 2 * 3 * 5 * 8, 0),
        (one("FusedMatMul", [(8,), (8, 5)], domain="com.microsoft", transA=1), 5 * 8, 0),
        (one("SkipLayerNormalization", [(1, 2, 4), (1, 2, 4)], {"g": (4,)}, "com.microsoft"), 0, 4),
    ],
)
def test_operators_that_the_optimizer_of_onnxruntime_writes(tmp_path, model, macs, params):
    """Their shapes are unknown to onnx, and come from a run where the formula needs them."""
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    found = count_nodes(model, file=file)
    assert (found.totals.ops, found.totals.params, found.uncounted) == (macs, params, {})


def call(op, shapes, domain="com.microsoft", outputs=1, **attributes):
    """A model of one node whose inputs have these shapes; `None`: an optional input that is left out."""
    names = ["" if shape is None else chr(97 + i) for i, shape in enumerate(shapes)]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], name="n", domain=domain, **attributes)
    model = model_of([node], {n: s for n, s in zip(names, shapes, strict=True) if n}, ["y0"], domains=[domain] if domain else [])
    if not domain:
        model.opset_import[0].version = 23
    return model


HEADS = {"num_heads": 2}
PACKED = [(1, 3, 8), (8, 24), (24,)]  # 3 steps of 8; Q, K and V of 8 each
PROJECTION = 3 * 8 * 24
GROUPS = {"num_heads": 4, "kv_num_heads": 2}


@pytest.mark.parametrize(
    ("model", "macs"),
    [
        # the standard's: a past of 9 makes 7 keys 16, in 4 heads of 8 or in one row of 32; values of 6
        (call("Attention", [(2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 6), None, (2, 4, 9, 8), (2, 4, 9, 6)], ""), 2 * 4 * 5 * 16 * 14),
        (
            call("Attention", [(2, 5, 32), (2, 7, 16), (2, 7, 12), None, (2, 2, 9, 8), (2, 2, 9, 6)], "",
                 q_num_heads=4, kv_num_heads=2),
            2 * 5 * 16 * 4 * (8 + 6),
        ),
        # X by Q, K and V; then 3 queries by 3 keys, or 12 with a past of 9, and as many values
        (call("Attention", PACKED, **HEADS), PROJECTION + 3 * 3 * 16),
        (call("Attention", [*PACKED, None, (2, 1, 2, 9, 4)], outputs=2, **HEADS), PROJECTION + 3 * 12 * 16),
        (call("Attention", [(1, 3, 8), (8, 28), (28,)], qkv_hidden_sizes=[8, 8, 12], **HEADS), 3 * 8 * 28 + 3 * 3 * 20),
        (call("QAttention", [*PACKED, (1,), (24,)], **HEADS), PROJECTION + 3 * 3 * 16),
        (
            call("QAttention", [*PACKED, (1,), (24,), None, (1,), (24,), (2, 1, 2, 9, 4)], outputs=2, **HEADS),
            PROJECTION + 3 * 12 * 16,
        ),
        # one step after a past of 99 has 100 keys
        (
            call("MultiHeadAttention", [(1, 1, 16), (1, 1, 16), (1, 1, 16), None, None, None, (1, 2, 99, 8), (1, 2, 99, 8)],
                 outputs=3, **HEADS),
            100 * 32,
        ),
        # keys of the other side of cross attention, as (batch, heads, steps, size per head), alone and after a past
        (call("MultiHeadAttention", [(1, 3, 8), (1, 2, 7, 4), (1, 2, 7, 5)], **HEADS), 3 * 7 * (8 + 10)),
        (
            call("MultiHeadAttention", [(1, 3, 8), (1, 2, 7, 4), (1, 2, 7, 4), None, None, None, (1, 2, 9, 4), (1, 2, 9, 4)], **HEADS),
            3 * 16 * 16,
        ),
        (call("MultiHeadAttention", [(1, 3, 2, 3, 4)], **HEADS), 3 * 3 * 16),  # Q, K and V packed
        (call("MultiHeadAttention", [(1, 3, 8), (1, 7, 2, 2, 4)], **HEADS), 3 * 7 * 16),  # K and V packed
        (call("GroupQueryAttention", [(1, 3, 32), (1, 3, 16), (1, 3, 16), None, None, (1,), ()], **GROUPS), 3 * 3 * 64),
        (
            call("GroupQueryAttention", [(1, 1, 32), (1, 1, 16), (1, 1, 16), (1, 2, 9, 8), (1, 2, 9, 8), (1,), ()],
                 outputs=3, **GROUPS),
            10 * 64,
        ),
        (call("GroupQueryAttention", [(1, 3, 64), None, None, (1, 2, 9, 8), (1, 2, 9, 8), (1,), ()], **GROUPS), 3 * 12 * 64),
    ],
)  # fmt: skip
def test_attention_counts_every_key_the_past_ones_too(model, macs):
    """By hand: queries x keys x (size of a query + size of a value), over all heads. No weights, so no output shape is asked for."""
    found = count_nodes(model)
    assert (found.totals.ops, found.uncounted) == (macs, {})


@pytest.mark.parametrize(
    "model",
    [
        call("Attention", [*PACKED, None, (2, 1, 2, 99, 4), None, ()], past_present_share_buffer=1, **HEADS),
        call(
            "MultiHeadAttention",
            [(1, 1, 8), (1, 1, 8), (1, 1, 8), None, None, None, (1, 2, 99, 4), (1, 2, 99, 4), ()],
            **HEADS,
        ),
        call("GroupQueryAttention", [(1, 1, 32), (1, 1, 16), (1, 1, 16), (1, 2, 9, 8), (1, 2, 9, 8), (1,), ()],
             sliding_window_cache=1, **GROUPS),
    ],
)  # fmt: skip
def test_a_buffer_for_the_past_that_is_filled_by_and_by_is_not_counted_as_full(model):
    found = count_nodes(model)
    assert found.totals.ops == 0
    assert list(found.uncounted.values()) == [1]


def test_a_past_whose_shape_nobody_knows_is_not_taken_for_none():
    nodes = [
        helper.make_node("Strange", ["x"], ["past"], name="s", domain="my.domain"),
        helper.make_node("MultiHeadAttention", ["q", "q", "q", "", "", "", "past", "past"], ["y"], name="n", domain="com.microsoft",
                         **HEADS),
    ]  # fmt: skip
    found = count_nodes(model_of(nodes, {"x": (1,), "q": (1, 1, 8)}, ["y"], domains=["my.domain", "com.microsoft"]))
    assert found.uncounted == {"com.microsoft.MultiHeadAttention": 1, "my.domain.Strange": 1}


def test_a_bias_whose_shape_nobody_knows_is_a_bias_to_paddle():
    nodes = [
        helper.make_node("Strange", ["x"], ["bias"], name="s", domain="my.domain"),
        helper.make_node("Conv", ["x", "w", "bias"], ["y"], name="n"),
    ]
    found = count_nodes(model_of(nodes, {"x": (1, 4, 8, 8)}, ["y"], {"w": (6, 4, 3, 3)}, ["my.domain"]), "paddle")
    assert found.totals.ops == 6 * 36 * (36 + 1)


INTEGERS = {"w": np.ones((6, 3, 3, 3), np.int8), "b": np.ones(6, np.int32), "bs": np.ones(6, np.float32), "bz": np.zeros(6, np.int32),
            "xs": np.float32(0.1), "xz": np.uint8(3), "ws": np.ones(6, np.float32), "wz": np.zeros(6, np.int8)}  # fmt: skip
QUANTIZE = helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"], name="q")
QDQ = [
    QUANTIZE,
    helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["d"], name="d"),
    helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="wd", axis=0),
    helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], name="bd", axis=0),
    helper.make_node("Conv", ["d", "wd", "bd"], ["y"], name="conv"),
]
QLINEAR = [
    QUANTIZE,
    helper.make_node("QLinearConv", ["q", "xs", "xz", "w", "ws", "wz", "xs", "xz", "b"], ["c"], name="conv"),
    helper.make_node("DequantizeLinear", ["c", "xs", "xz"], ["y"], name="d"),
]


@pytest.mark.parametrize("nodes", [QDQ, QLINEAR], ids=["QDQ", "QLinear"])
def test_a_quantized_file_has_the_parameters_and_costs_of_its_network(nodes):
    """The integers are the weights; scales and zero points are not."""
    model = model_of(nodes, {"x": (1, 3, 8, 8)}, ["y"])
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in INTEGERS.items())
    found = count_nodes(model)
    assert (found.totals.params, found.totals.ops) == (6 * 27 + 6, 6 * 36 * 27)
    assert not found.uncounted
    assert weight_type.of(model) == "int8"


def test_the_weight_of_quantized_attention_is_a_parameter_and_its_scales_are_not():
    node = helper.make_node("QAttention", ["x", "w", "b", "xs", "ws"], ["y"], name="n", domain="com.microsoft", num_heads=2)
    model = model_of([node], {"x": (1, 3, 8)}, ["y"], {"b": (24,), "ws": (24,), "xs": ()}, ["com.microsoft"])
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((8, 24), np.int8), "w"))
    assert count_nodes(model).totals.params == 8 * 24 + 24


def test_a_dequantized_weight_is_a_weight_to_paddle():
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wd"], name="wd"),
        helper.make_node("MatMul", ["x", "wd"], ["y"], name="product"),
    ]
    model = model_of(nodes, {"x": (1, 4)}, ["y"])
    weights = {"w": np.ones((4, 5), np.int8), "s": np.float32(1)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items())
    found = count_nodes(model, "paddle")
    assert (found.totals.ops, found.uncounted) == (20, {})


def test_a_file_that_cannot_run_keeps_its_table_and_says_why_it_has_no_times(tmp_path):
    file = tmp_path / "strange.onnx"
    onnx.save(one("Strange", [(1, 4)], {"w": (4, 4)}, "my.domain"), file)
    found = profile(str(file), seconds=0.1)
    assert found.table.totals.params == 16
    assert not found.latencies
    assert "NOT TIMED" in found.notes[-1]
    assert "Strange" in found.notes[-1]


def test_attention_of_opset_23():
    node = helper.make_node("Attention", ["q", "k", "v"], ["y"], name="n")
    model = model_of([node], {"q": (2, 4, 5, 8), "k": (2, 4, 7, 8), "v": (2, 4, 7, 6)}, ["y"])
    model.opset_import[0].version = 23
    assert count_nodes(model).totals.ops == 2 * 4 * 5 * 7 * (8 + 6)


@pytest.mark.parametrize(
    ("model", "ops"),
    [
        (one("Conv", [(1, 4, 8, 8)], {"w": (6, 4, 3, 3), "bias": (6,)}), 6 * 36 * (36 + 1)),
        (one("Conv", [(1, 4, 8, 8)], {"w": (6, 4, 3, 3)}), 6 * 36 * 36),
        (one("Gemm", [(1, 5)], {"w": (5, 7), "bias": (7,)}), 35),
        (one("BatchNormalization", [(1, 3, 4, 4)], {"s": (3,), "b1": (3,), "m": (3,), "v": (3,)}), 2 * 48),
        (one("AveragePool", [(1, 3, 4, 4)], kernel_shape=[2, 2], strides=[2, 2]), 12),
        (one("GlobalAveragePool", [(1, 3, 4, 4)]), 3 * 17),
        (one("LeakyRelu", [(1, 6)]), 6),
        (one("Relu", [(1, 6)]), 0),
    ],
)
def test_paddle_convention(model, ops):
    assert count_nodes(model, "paddle").totals.ops == ops


def test_paddle_convention_says_that_it_leaves_out_products_of_activations():
    assert count_nodes(one("MatMul", [(3, 4), (4, 5)]), "paddle").uncounted == {"MatMul": 1}


def test_running_statistics_are_parameters_to_paddle_only():
    model = one("BatchNormalization", [(1, 3, 4, 4)], {"s": (3,), "b1": (3,), "m": (3,), "v": (3,)})
    assert count_nodes(model).totals.params == 6
    assert count_nodes(model, "paddle").totals.params == 12


def test_custom_operators_are_listed_and_what_follows_is_not_counted_in_silence():
    nodes = [
        helper.make_node("Strange", ["x"], ["s"], name="strange", domain="my.domain"),
        helper.make_node("MatMul", ["s", "w"], ["y"], name="product"),
    ]
    found = count_nodes(model_of(nodes, {"x": (1, 4)}, ["y"], {"w": (4, 4)}, ["my.domain"]))
    assert found.uncounted == {"MatMul": 1, "my.domain.Strange": 1}
    assert any("product" in note for note in found.notes)
    assert found.layers[0].output_shape is None


def test_what_the_file_says_of_a_custom_operators_output_is_believed():
    nodes = [
        helper.make_node("Strange", ["x"], ["s"], name="strange", domain="my.domain"),
        helper.make_node("MatMul", ["s", "w"], ["y"], name="product"),
    ]
    model = model_of(nodes, {"x": (1, 4)}, ["y"], {"w": (4, 4)}, ["my.domain"])
    model.graph.value_info.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, (1, 4)))
    found = count_nodes(model)
    assert (found.totals.ops, found.uncounted) == (16, {"my.domain.Strange": 1})


def loop(body_nodes, weights=()):
    body = helper.make_graph(
        body_nodes,
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, ()),
            helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, (4, 4)),
        ],
        [
            helper.make_tensor_value_info("go2", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("v2", TensorProto.FLOAT, (4, 4)),
        ],
    )
    node = helper.make_node("Loop", ["", "", "x"], ["y"], name="loop", body=body)
    return model_of([node], {"x": (4, 4)}, ["y"], weights)


def test_a_loop_with_products_is_reported_as_not_counted():
    go = helper.make_node("Identity", ["go"], ["go2"])
    found = count_nodes(loop([go, helper.make_node("MatMul", ["v", "w"], ["v2"])], {"w": (4, 4)}))
    assert found.totals.params == 16  # what only the body uses is a parameter, too
    assert found.uncounted == {"Loop": 1}
    assert any("how often it runs MatMul" in note for note in found.notes)


def test_a_loop_without_products_is_merely_free():
    go = helper.make_node("Identity", ["go"], ["go2"])
    found = count_nodes(loop([go, helper.make_node("Relu", ["v"], ["v2"])]))
    assert (found.uncounted, found.excluded) == ({}, {"Loop": 1})


def test_functions_of_the_file_are_counted_inside():
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"],
        [helper.make_node("MatMul", ["a", "a"], ["c"]), helper.make_node("MatMul", ["c", "a"], ["b"])],
        [helper.make_opsetid("", 21)],
    )  # fmt: skip
    model = model_of([helper.make_node("Twice", ["x"], ["y"], domain="local")], {"x": (3, 3)}, ["y"], (), ["local"], [function])
    assert count_nodes(model).totals.ops == 2 * 27


def test_a_free_batch_takes_the_batch_and_other_free_sizes_must_be_given():
    model = one("Conv", [("n", 3, "h", 8)], {"w": (2, 3, 3, 3)})
    with pytest.raises(InputError, match=r"axis 2 .*free \(h\).*--input-shape"):
        count_nodes(model)
    found = count_nodes(model, batch=4, shapes=[(3, 8, 8)])
    assert (found.batch, found.totals.ops) == (4, 4 * 2 * 36 * 27)
    with pytest.raises(InputError, match="axis 3 .* is 8 in the file, not 9"):
        count_nodes(model, shapes=[(3, 8, 9)])


def test_a_batch_that_the_file_fixes_cannot_be_another():
    model = one("Relu", [(2, 3)])
    assert count_nodes(model).batch == 2
    with pytest.raises(InputError, match="the batch of the input 'a' is 2"):
        count_nodes(model, batch=3)


def test_axes_of_one_name_have_one_size_and_the_batch_may_be_the_second_axis():
    model = one("MatMul", [("batch", "t", 4), (2, "batch", 4)], {})
    found = fixed(model, 3, [(7, 4), (2, 4)])
    assert [entry.shape for entry in found] == [(3, 7, 4), (2, 3, 4)]
    assert [entry.shape for entry in fixed(one("Add", [("n", "t"), ("n", "t")]), 3, [(7,), (7,)])] == [(3, 7), (3, 7)]


def test_every_input_keeps_its_own_first_axis_and_a_scalar_has_none():
    model = one("Sum", [("n", 3), (2, 3), ()])
    assert [entry.shape for entry in fixed(model, 5)] == [(5, 3), (2, 3), ()]


def test_a_fixed_size_of_zero_is_a_size_and_minus_one_is_none():
    assert fixed(one("Relu", [(1, 0)]), None)[0].shape == (1, 0)
    assert fixed(one("Relu", [(-1, 3)]), 4)[0].shape == (4, 3)
    with pytest.raises(InputError, match="axis 1 .* is free"):
        fixed(one("Relu", [(1, -1)]), None)


def test_inputs_without_any_shape():
    model = one("Relu", [None])
    with pytest.raises(InputError, match="no shape"):
        count_nodes(model)
    assert count_nodes(model, shapes=[(3,)]).layers[0].output_shape == (1, 3)


def test_sizes_that_are_computed_in_the_graph_are_followed():
    """A Reshape by the input's own Shape: without carrying values along, nothing behind it would have a size."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], start=0, end=1),
        helper.make_node("Concat", ["s", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"], name="product"),
    ]
    model = model_of(nodes, {"x": ("n", 2, 3)}, ["y"], {"w": (6, 5)})
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([6], np.int64), "rest"))
    found = count_nodes(model, batch=7)
    assert (found.totals.ops, found.uncounted) == (7 * 6 * 5, {})


def test_a_size_that_only_a_run_shows_is_taken_from_one(tmp_path):
    """The shape comes out of NonZero: how many zeros there are is known to no inference."""
    nodes = [
        helper.make_node("NonZero", ["w"], ["where"], name="where"),
        helper.make_node("Cast", ["where"], ["long"], name="long", to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["long", "v"], ["y"], name="product"),
    ]
    model = model_of(nodes, {"x": (1, 2)}, ["y"], {"w": (2, 3), "v": (6, 5)})
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    assert count_nodes(model).uncounted == {"MatMul": 1}
    found = count_nodes(model, file=file)
    assert (found.totals.ops, found.uncounted) == (2 * 6 * 5, {})


def test_a_graph_at_odds_with_itself_is_reported_not_crashed():
    found = count_nodes(one("MatMul", [(3,), (4,)]))
    assert found.uncounted or found.totals.ops >= 0
    found = count_nodes(one("Gemm", [()], {"w": (5, 7)}))
    assert found.uncounted == {"Gemm": 1}


def test_nodes_without_names_and_with_equal_names_keep_their_rows():
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Relu", ["a"], ["b"], name="r"),
             helper.make_node("Relu", ["b"], ["y"], name="r")]  # fmt: skip
    found = count_nodes(model_of(nodes, {"x": (1, 2)}, ["y"]))
    assert [row.path for row in found.layers] == ["a", "r", "r#2"]


def chain(length):
    nodes, weights, last = [], {}, "x"
    for i in range(length // 2):
        weights[f"w{i}"] = (8, 8, 1, 1)
        nodes += [
            helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], name=f"c{i}"),
            helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"r{i}"),
        ]
        last = f"r{i}"
    return model_of(nodes, {"x": ("n", 8, 4, 4)}, [last], weights)


def test_ten_thousand_nodes(tmp_path):
    """How the time grows is the business of benchmarks/layer_report.py."""
    file = tmp_path / "chain.onnx"
    onnx.save(chain(10_000), file)
    found = profile(str(file), latency=False).table
    assert (len(found.layers), found.totals.ops) == (10_000, 5000 * 8 * 8 * 16)


FAST = [n for n in architectures.names() if n not in ("vgg11", "alexnet", "nin", "googlenet", "resnet18-plain", "resnet18-cifar")]
SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in architectures.names() if n not in FAST]


@pytest.mark.parametrize("name", [*FAST, *SLOW])
def test_pytorch_and_the_exported_graph_cost_the_same(name):
    network = target.resolve(name, untrained=True)
    model = exporter.to_onnx(network)
    mine = count_layers(network.module, [spec.random(1) for spec in network.inputs])
    theirs = count_nodes(model, batch=1)
    assert theirs.totals.ops == mine.totals.ops
    assert not theirs.uncounted


def test_a_file_is_a_target(tmp_path):
    file = tmp_path / "model.onnx"
    onnx_file.write(exporter.to_onnx(target.resolve("lenet5", untrained=True)), file)
    found = profile(str(file), latency=False)
    assert (found.table.totals.ops, found.table.totals.params) == (416_520, 61_706)
    assert found.table.totals.trainable_params is None


@pytest.mark.parametrize(
    ("model", "macs"),
    [
        (call("FlexAttention", [(2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 6)], "ai.onnx.preview"), 2 * 4 * 5 * 7 * 14),
        (call("MatMulBnb4", [(3, 16), (64,), (1,)], K=16, N=8), 3 * 16 * 8),
        (call("MatMulNBitsMlp", [(3, 16), None, None, (8, 1, 8), (8,), None, (8, 1, 8), (8,)], K=16, N=8), 2 * 3 * 16 * 8),
        (
            call("MatMulNBitsQkv", [(3, 16), None, None, (8, 1, 8), (8,), None, (4, 1, 8), (4,), None, (4, 1, 8), (4,)],
                 K=16, Nq=8, Nkv=4),
            3 * 16 * (8 + 4 + 4),
        ),
    ],
)  # fmt: skip
def test_operators_of_other_domains(model, macs):
    found = count_nodes(model)
    assert (found.totals.ops, found.uncounted) == (macs, {})


def test_a_standard_operator_that_is_newer_than_the_formulas_is_not_called_free(monkeypatch):
    """Linear attention by a delta rule: a state of 8 x 6 written and read once per key head, and read once per query head."""
    model = call("LinearAttention", [(2, 5, 32), (2, 5, 16), (2, 5, 12)], "", q_num_heads=4, kv_num_heads=2, update_rule="delta")
    model.opset_import[0].version = 27
    assert count_nodes(model).totals.ops == 2 * 5 * 48 * (4 + 2 * 2)
    assert count_nodes(one("Relu", [(1, 2)])).uncounted == {}
    monkeypatch.setattr("deploykit.profiler.onnx.operators.NEWEST", 5)
    assert count_nodes(one("CumSum", [(1, 2), (1,)])).uncounted == {"CumSum": 1}


def test_a_sequence_input_is_counted_and_not_timed(tmp_path):
    """Nobody can make one up; a scalar, a text and an axis of no size are as good as any."""
    node = helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)
    model = model_of([node], {}, ["y"])
    model.graph.input.append(helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None))
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    found = profile(str(file), seconds=0.1)
    assert [row.type for row in found.table.layers] == ["ConcatFromSequence"]
    assert found.notes == ("NOT TIMED: the input 's' is a sequence, not a tensor, so no values can be made up for it",)
    entries = {"a": (), "b": (1, 0)}
    model = model_of([helper.make_node("Relu", ["b"], ["y"])], entries, ["y"])
    model.graph.input.append(helper.make_tensor_value_info("t", TensorProto.STRING, (2,)))
    model.graph.input.append(helper.make_tensor_value_info("f", TensorProto.FLOAT8E5M2, (2,)))
    shapes = [(entry.shape, entry.kind) for entry in fixed(model, None)]
    assert shapes == [((), "tensor"), ((1, 0), "tensor"), ((2,), "text"), ((2,), "tensor")]


def raise_input_error(*args, **kwargs):
    raise InputError("the model cannot take an input of 2", "choose another")


def test_made_up_values_that_a_file_does_not_take_lose_no_table(tmp_path, monkeypatch):
    """A size that is the value of an input: made-up ones are 0 or 1."""
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["y"])]
    model = model_of(nodes, {}, ["y"], {"w": (6, 5)})
    model.graph.input.append(helper.make_tensor_value_info("shape", TensorProto.INT64, (2,)))
    file = tmp_path / "model.onnx"
    onnx.save(model, file)
    monkeypatch.setattr(profiling, "measure_latency", raise_input_error)  # as the engine does, after seconds in another process
    found = profile(str(file), seconds=0.1)
    assert found.table.totals.params == 30
    assert found.notes[-1] == "NOT TIMED: the model cannot take an input of 2; choose another"
    assert found.table.ops_at_least
    given = profile(str(file), latency=False, inputs={"shape": np.array([1, 6])})
    assert (given.table.totals.ops, given.table.ops_at_least) == (30, False)
