"""An ONNX file held against another ONNX file, with no PyTorch network in sight."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploykit.errors import InputError, ModelFileError
from deploykit.verdict import validate


def changed(file, folder, name, change):
    """A copy of the file with one tensor changed."""
    model = onnx.load(file)
    tensor = next(t for t in model.graph.initializer if t.name == name)
    values = numpy_helper.to_array(tensor).copy()
    change(values)
    tensor.CopyFrom(numpy_helper.from_array(values, name))
    path = folder / "changed.onnx"
    onnx.save(model, path)
    return path


def without_contract(file, folder):
    model = onnx.load(file)
    del model.metadata_props[:]
    path = folder / "bare.onnx"
    onnx.save(model, path)
    return path


def test_a_file_is_the_same_as_itself_and_as_its_bare_copy(exported, tmp_path):
    bare = without_contract(exported, tmp_path)
    for file, against in ((exported, exported), (bare, exported), (exported, bare)):
        verdict = validate(file, against=str(against))
        assert verdict.same, verdict.checks
        assert verdict.layers_compared >= 8
        assert any("two files were compared" in note for note in verdict.notes)
    assert validate(exported, against=str(exported)).decisions.agreement == 1.0


def test_a_wrong_weight_is_found_in_its_layer(exported, tmp_path):
    def nudge(values):
        values.reshape(-1)[3] += 1e-3 * np.abs(values).max()

    verdict = validate(changed(exported, tmp_path, "conv3.weight", nudge), against=str(exported))
    assert verdict.verdict == "different"
    assert verdict.first_divergent_layer == "conv3"


def test_nan_in_the_file_never_passes(exported, tmp_path):
    def spoil(values):
        values.reshape(-1)[0] = np.nan

    assert validate(changed(exported, tmp_path, "conv3.bias", spoil), against=str(exported)).verdict == "invalid"


def fixed(path, batch=3, gain=2.0, features=5):
    """x * gain + 1 for one batch size only."""
    value = helper.make_tensor_value_info
    tensors = [helper.make_tensor("gain", TensorProto.FLOAT, [1], [gain]), helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])]
    nodes = [helper.make_node("Mul", ["x", "gain"], ["scaled"]), helper.make_node("Add", ["scaled", "one"], ["y"])]
    shape = [batch, features]
    graph = helper.make_graph(nodes, "g", [value("x", 1, shape)], [value("y", 1, shape)], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_files_with_one_batch_size_are_compared_at_that_size(tmp_path):
    original = fixed(tmp_path / "a.onnx")
    assert validate(fixed(tmp_path / "b.onnx"), against=str(original)).same
    verdict = validate(fixed(tmp_path / "c.onnx", gain=2.001), against=str(original))
    assert verdict.verdict == "different"
    assert verdict.first_divergent_layer == "scaled"
    assert validate(fixed(tmp_path / "open.onnx", batch="n"), against=str(original)).same, "any size holds the one size"
    assert not validate(fixed(tmp_path / "open.onnx", batch="n", gain=2.001), against=str(original)).same


def test_files_with_other_inputs_are_different_or_refused(tmp_path):
    original = fixed(tmp_path / "a.onnx")
    assert validate(fixed(tmp_path / "b.onnx", features=6), against=str(original)).verdict == "different"
    with pytest.raises(ModelFileError, match="there is no file"):
        validate(original, against=str(tmp_path / "missing.onnx"))
    with pytest.raises(InputError, match="weights inside; --untrained does not go with it"):
        validate(original, against=str(original), untrained=True)


@pytest.mark.parametrize("kind", ["FLOAT8E5M2", "FLOAT8E4M3FN", "BFLOAT16", "INT4", "STRING"])
def test_an_input_of_numbers_that_numpy_does_not_have_is_one_line(tmp_path, kind):
    value = helper.make_tensor_value_info
    number = getattr(TensorProto, kind)
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    graph = helper.make_graph(nodes, "g", [value("x", number, ["n", 3])], [value("y", 1, ["n", 3])])
    file = tmp_path / "a.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), file)
    with pytest.raises(InputError, match="takes no numbers that numpy has"):
        validate(file, against=str(file))


@pytest.mark.parametrize("kind", ["UINT8", "UINT16", "UINT32", "UINT64"])
def test_given_values_may_be_of_any_whole_numbers(tmp_path, kind):
    value = helper.make_tensor_value_info
    number = getattr(TensorProto, kind)
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    graph = helper.make_graph(nodes, "g", [value("x", number, ["n", 3])], [value("y", number, ["n", 3])])
    file = tmp_path / "a.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), file)
    np.savez(tmp_path / "x.npz", x=np.array([[1, 2, 3], [40, 50, 60]], dtype=kind.lower()))
    assert validate(file, against=str(file), inputs=tmp_path / "x.npz").same


def sequences(file, at):
    """A file that puts tensors of different shapes into a sequence and takes one out again."""
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "twice"], ["both"]),
        helper.make_node("SequenceAt", ["both", "at"], ["y"]),
    ]
    nodes.insert(0, helper.make_node("Concat", ["x", "x"], ["twice"], axis=1))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", 1, ["n", 3])], [value("y", 1, ["n", "m"])], [numpy_helper.from_array(np.array(at), "at")]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def test_a_sequence_inside_of_a_file_is_no_layer(tmp_path):
    file = sequences(tmp_path / "a.onnx", 1)
    assert validate(file, against=str(file)).same
    assert validate(sequences(tmp_path / "b.onnx", 0), against=str(file)).verdict == "different"


def test_an_operator_over_which_the_checker_of_onnx_stumbles_is_legal(tmp_path):
    value = helper.make_tensor_value_info
    node = helper.make_node("MeanVarianceNormalization", ["x"], ["y"])
    graph = helper.make_graph([node], "g", [value("x", 1, [3, 3, 3, 1])], [value("y", 1, [3, 3, 3, 1])])
    file = tmp_path / "a.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), file)
    assert validate(file, against=str(file)).same
