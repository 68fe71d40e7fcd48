"""Simplifying changes the size, never the answers; where it would, the original stays and the reason is said."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from deploykit import simplifier
from deploykit.errors import InputError, ModelFileError
from deploykit.onnx_file import inputs
from deploykit.runtime import contract as contracts
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput, Output
from deploykit.simplifier import simplified, simplify


def batches_of(model):
    return [inputs.random_feeds(model, batch) for batch in (1, 3)]


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
    result = simplified(model, batches_of(model))
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
    smaller(model)
    model.graph.node.append(helper.make_node("Reshape", ["y0", "shape"], ["y"], "freeze"))
    model.graph.node[1].output[0] = "y0"
    model.graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [2], [1, 3]))


def add_nan(model):
    """0 / 0 at one place, which a comparison of differences does not see."""
    model.graph.initializer.append(helper.make_tensor("gap", TensorProto.FLOAT, [3], [0.0, float("nan"), 0.0]))
    model.graph.node[3].output[0] = "y0"
    model.graph.node.append(helper.make_node("Add", ["y0", "gap"], ["y"], "spoil"))
    smaller(model)


def change_by(relative):
    def change(model):
        model.graph.initializer[0].float_data[0] += relative
        smaller(model)

    return change


def smaller(model):
    """Without its Identity and with two constants added beforehand: three nodes fewer, so that the answers are looked at."""
    two = 2 * model.graph.initializer[0].float_data[0]
    model.graph.initializer.append(helper.make_tensor("two", TensorProto.FLOAT, [1], [two]))
    kept = [node for node in model.graph.node if node.name not in ("id", "fold")]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.graph.node[0].input[0] = "x"


def add_a_node(model):
    model.graph.node[3].output[0] = "y0"
    model.graph.node.append(helper.make_node("Identity", ["y0"], ["y"], "more"))


def store_much(model):
    smaller(model)
    model.graph.initializer.append(helper.make_tensor("unused", TensorProto.FLOAT, [100_000], bytes(400_000), raw=True))


def freeze_the_input(model):
    smaller(model)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def change_the_opset(model):
    smaller(model)
    model.opset_import[0].version = 21


def rename_output(model):
    smaller(model)
    model.graph.node[-1].output[0] = "z"
    model.graph.output[0].name = "z"


def fail(model):
    raise RuntimeError("segfault in disguise\nwith two lines")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_relu, "changed by"),
        (freeze_batch, "could not be compared"),
        (change_by(1e-4), "y changed by"),
        (add_nan, "y became nan"),
        (rename_output, "outputs' names"),
        (freeze_the_input, "changed the inputs"),
        (change_the_opset, "changed the opset from 20 to 21"),
        (add_a_node, "no smaller: 4 nodes before, 5 after"),
        (store_much, "made it larger: "),
        (lambda model: None, "nothing to simplify"),
        (fail, "onnxsim failed: RuntimeError"),
    ],
)
def test_a_simplifier_that_breaks_the_model_is_found_out_and_the_original_stays(monkeypatch, change, reason):
    monkeypatch.setattr(simplifier, "_onnxsim", sabotage(change))
    model = wasteful()
    result = simplified(model, batches_of(model))
    assert not result.applied
    assert reason in result.reason
    assert "\n" not in result.reason
    assert result.model is model


def test_rounding_is_no_change(monkeypatch):
    monkeypatch.setattr(simplifier, "_onnxsim", sabotage(change_by(1e-7)))
    model = wasteful()
    assert simplified(model, batches_of(model)).applied


def test_a_number_in_a_constant_is_stored_as_an_initializer_is(monkeypatch):
    """Moving it from one to the other makes nothing smaller."""

    def move(model):
        del model.graph.node[0]

    model = wasteful()
    del model.graph.initializer[:]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["one"], "one", value_floats=[1.0]))
    monkeypatch.setattr(simplifier, "_onnxsim", sabotage(move))
    assert "no smaller: 4 nodes before, 4 after" in simplified(model, batches_of(model)).reason


def test_an_optional_batch_counts_where_the_original_takes_it(monkeypatch):
    """A file that is right at one length only, and one that is right at any."""
    model = wasteful()
    monkeypatch.setattr(simplifier, "_onnxsim", sabotage(smaller))
    wide, good = {"x": np.ones((1, 4), np.float32)}, {"x": np.ones((7, 3), np.float32)}
    assert simplified(model, batches_of(model), optional=[wide]).reason == "same answers on 2 batches"
    assert simplified(model, batches_of(model), optional=[wide, good]).compared == 3


def test_onnxsim_is_imported_before_the_time_of_the_child_begins(monkeypatch, tmp_path):
    """Importing it takes seconds, on a busy machine many."""
    order = []
    monkeypatch.setattr(simplifier, "_require_onnxsim", lambda: order.append("import"))
    monkeypatch.setattr(simplifier, "isolated", lambda work, name, size: order.append("child"))
    model = wasteful()
    result = simplified(model, batches_of(model), tmp_path / "m.onnx")
    assert order == ["import", "child"]
    assert "onnxsim failed" in result.reason


def saved(folder, nodes, values, initializers=(), contract=None, outputs=None):
    """A file with these nodes; `values`: (name, type, shape) of its inputs. Its output is y, unless `outputs` are given."""
    made = [helper.make_tensor_value_info(*value) if isinstance(value, tuple) else value for value in values]
    outputs = outputs or [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(values[0][2]))]
    graph = helper.make_graph(list(nodes), "g", made, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if contract is not None:
        helper.set_model_props(model, {contracts.KEY: contract.dumps(), "author": "somebody"})
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def weights(name, *shape):
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return onnx.numpy_helper.from_array(values, name)


def test_open_height_and_width_have_the_sizes_of_the_contract(tmp_path):
    """A window of 101 x 101 pixels does not fit into what is usual."""
    nodes = [helper.make_node("Identity", ["x"], ["i"], "i"), helper.make_node("Conv", ["i", "w"], ["y"], "c")]
    contract = Contract(ImageInput(3, 112, 104), Output())
    path = saved(tmp_path, nodes, [("x", FLOAT, ["n", 3, "h", "w"])], [weights("w", 2, 3, 101, 101)], contract)
    result = simplify(path)
    assert (result.applied, result.reason) == (True, "same answers on 3 batches")  # the third one half as large again
    found = {entry.key: entry.value for entry in onnx.load(tmp_path / "m.simplified.onnx").metadata_props}
    assert found == {contracts.KEY: contract.dumps(), "author": "somebody"}  # and nothing of what onnxsim notes


def test_open_height_and_width_without_a_contract_are_those_of_a_small_image(tmp_path):
    nodes = [helper.make_node("Identity", ["x"], ["i"], "i"), helper.make_node("Conv", ["i", "w"], ["y"], "c")]
    path = saved(tmp_path, nodes, [("x", FLOAT, ["n", 3, "h", "w"])], [weights("w", 2, 3, 11, 11)])
    assert simplify(path).applied


def test_axes_of_one_name_are_of_one_size(tmp_path):
    """An image and a vector, of which each has its own usual size."""
    nodes = [
        helper.make_node("Identity", ["a"], ["i"], "i"),
        helper.make_node("Add", ["i", "b"], ["y"], "add"),
    ]
    path = saved(
        tmp_path, nodes, [("a", FLOAT, ["n", 1, "t", "t"]), ("b", FLOAT, ["t"])], contract=Contract(ArrayInput((1, 5, 5)), Output())
    )
    assert simplify(path).applied


def test_a_scalar_input_is_an_array_without_axes(tmp_path):
    nodes = [
        helper.make_node("Identity", ["x"], ["i"], "i1"),
        helper.make_node("Identity", ["rate"], ["j"], "i2"),
        helper.make_node("Cast", ["j"], ["r"], "cast", to=FLOAT),
        helper.make_node("Add", ["i", "r"], ["y"], "add"),
    ]
    result = simplify(saved(tmp_path, nodes, [("x", FLOAT, [2, 3]), ("rate", INT64, [])]))
    assert (result.applied, result.after) == (True, {"Add": 1, "Cast": 1})


def test_a_size_of_minus_one_is_open(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Identity", ["c"], ["i"], "i"),
        helper.make_node("Relu", ["i"], ["y"], "relu"),
    ]
    path = saved(tmp_path, nodes, [("x", FLOAT, [-1, 3, -1, -1])], [weights("w", 4, 3, 3, 3)])
    result = simplify(path)
    assert (result.applied, result.reason) == (True, "same answers on 3 batches")


def test_first_axes_that_differ_are_left_as_they_are(tmp_path):
    nodes = [
        helper.make_node("Identity", ["a"], ["i"], "i"),
        helper.make_node("MatMul", ["b", "i"], ["y"], "m"),
    ]
    assert simplify(saved(tmp_path, nodes, [("a", FLOAT, [2, 3]), ("b", FLOAT, [4, 2])])).applied


def test_batch_normalization_is_folded(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"], "bn"),
    ]
    numbers = [onnx.numpy_helper.from_array(np.array(value, np.float32), name) for name, value in
               (("s", [2, 3]), ("b", [1, 0]), ("m", [0.5, 1]), ("v", [1, 4]))]  # fmt: skip
    result = simplify(saved(tmp_path, nodes, [("x", FLOAT, ["n", 1, 8, 8])], [weights("w", 2, 1, 3, 3), *numbers]))
    assert (result.applied, result.after) == (True, {"Conv": 1})


def test_a_branch_that_the_shape_decides_is_resolved(tmp_path):
    def branch(name, operator):
        return helper.make_graph(
            [helper.make_node(operator, ["x"], [name], name)], name, [], [helper.make_tensor_value_info(name, FLOAT, [2, 3])]
        )

    nodes = [
        helper.make_node("Size", ["x"], ["size"], "size"),
        helper.make_node("Equal", ["size", "six"], ["is"], "is"),
        helper.make_node("If", ["is"], ["y"], "if", then_branch=branch("t", "Relu"), else_branch=branch("e", "Neg")),
    ]
    six = helper.make_tensor("six", INT64, [], [6])
    result = simplify(saved(tmp_path, nodes, [("x", FLOAT, [2, 3])], [six]))
    assert (result.applied, result.after) == (True, {"Relu": 1})


def test_texts_as_output_are_compared(tmp_path):
    nodes = [
        helper.make_node("Identity", ["x"], ["i"], "i"),
        helper.make_node("Cast", ["i"], ["y"], "text", to=TensorProto.STRING),
    ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.STRING, ["n"])]
    assert simplify(saved(tmp_path, nodes, [("x", INT64, ["n"])], outputs=outputs)).applied


def test_a_sequence_as_output_is_compared(tmp_path):
    """Of parts of different lengths, which are no array."""
    nodes = [
        helper.make_node("Identity", ["x"], ["i"], "i"),
        helper.make_node("SplitToSequence", ["i", "parts"], ["y"], "split"),
    ]
    parts = helper.make_tensor("parts", INT64, [2], [2, 1])
    outputs = [helper.make_tensor_sequence_value_info("y", FLOAT, None)]
    assert simplify(saved(tmp_path, nodes, [("x", FLOAT, [3])], [parts], outputs=outputs)).applied


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (("x", TensorProto.STRING, ["n"]), "takes no numbers"),
        (("x", TensorProto.BFLOAT16, ["n"]), "takes no numbers"),
        (("x", FLOAT, None), "has no shape"),
        (("x", FLOAT, [1 << 13, (1 << 13) + 1]), "would be 8192x8193"),
        (helper.make_tensor_sequence_value_info("x", FLOAT, None), "is a sequence"),
    ],
)
def test_where_no_inputs_can_be_made_up_the_original_is_written_and_the_reason_is_said(tmp_path, value, reason):
    made = value if not isinstance(value, tuple) else helper.make_tensor_value_info(*value)
    output = onnx.ValueInfoProto(name="y", type=made.type)
    path = saved(
        tmp_path,
        [helper.make_node("Identity", ["x"], ["i"], "i"), helper.make_node("Identity", ["i"], ["y"], "j")],
        [made],
        outputs=[output],
    )
    result = simplify(path)
    assert not result.applied
    assert reason in result.reason
    assert onnx.load(tmp_path / "m.simplified.onnx") == onnx.load(path)


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


def test_given_values_are_what_both_are_compared_on(tmp_path):
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Identity", ["x"], ["a"]),
                helper.make_node("Identity", ["a"], ["b"]),
                helper.make_node("Relu", ["b"], ["y"]),
            ],
            "g",
            [helper.make_tensor_value_info("x", 1, ["n", 3])],
            [helper.make_tensor_value_info("y", 1, ["n", 3])],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, tmp_path / "m.onnx")
    np.savez(tmp_path / "v.npz", x=np.ones((2, 3), np.float32))
    found = simplify(tmp_path / "m.onnx", inputs=tmp_path / "v.npz")
    assert found.applied
    assert found.compared == 1
    for wrong in ({"z": np.ones((2, 3), np.float32)}, {"x": np.ones(3, np.float32)}, {"x": np.ones((2, 3))}, {}):
        with pytest.raises(InputError):
            simplify(tmp_path / "m.onnx", inputs=wrong)
