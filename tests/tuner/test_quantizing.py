"""Any set of layers can be taken back to float32, and nothing else changes."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from deploykit import exporter, onnx_file
from deploykit.errors import InputError
from deploykit.network import target
from deploykit.network.request import Request
from deploykit.onnx_file import sessions
from deploykit.tuner import mixing, quantizing
from deploykit.tuner.quantizing import Scheme


class Branches(nn.Module):
    """A residual, a pool, a Relu after a sum, a matrix product, an output that is also used inside."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.third, self.last = nn.Conv2d(8, 8, 1), nn.Linear(8, 4)

    def forward(self, x):
        y = torch.relu(self.first(x))
        y = torch.relu(self.third(torch.relu(self.second(y))) + y)
        y = nn.functional.hardswish(nn.functional.max_pool2d(y, 2))
        return self.last(y.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """(file, model, whole in QDQ, samples)."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("q") / "branches.onnx"
    found = target.resolve(Request.of(Branches(), input_shapes=[(3, 8, 8)]))
    onnx_file.write(exporter.to_onnx(found), file)
    model = onnx_file.read(file)
    name = model.graph.input[0].name
    samples = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)
    ranges = quantizing.calibrate(file, [{name: samples[i : i + 4]} for i in range(0, 16, 4)], "minmax")
    return file, model, quantizing.quantized(onnx.load(file), ranges, Scheme(reduced=True)), {name: samples}


def run(model, feeds):
    onnx.checker.check_model(model, full_check=True)
    return sessions.run(sessions.open_session(model.SerializeToString()), feeds)[0]


def converted(model):
    return sum(node.op_type == "QuantizeLinear" for node in model.graph.node)


def test_every_set_of_layers_gives_a_legal_graph_whose_answers_are_near(network):
    _, model, whole, feeds = network
    expected = run(model, feeds)
    names = quantizing.layers(model)
    assert names == ["first", "second", "third", "last"]
    errors = {}
    for size in range(len(names) + 1):
        for floats in itertools.combinations(names, size):
            found = run(mixing.taken_back(whole, model, set(floats)), feeds)
            errors[floats] = float(np.abs(found - expected).max() / np.abs(expected).max())
    assert errors[tuple(names)] == 0, "all taken back is the file that was given"
    assert all(0 < error < 0.1 for floats, error in errors.items() if len(floats) < len(names))


def test_all_taken_back_has_no_conversion_left_and_each_layer_at_most_its_own(network):
    _, model, whole, _ = network
    names = set(quantizing.layers(model))
    assert converted(mixing.taken_back(whole, model, names)) == 0
    assert converted(mixing.taken_back(whole, model, names - {"second"})) == 2, "one before it, one after it"
    assert converted(mixing.taken_back(whole, model, names - {"last"})) == 1, "a product of matrices gives float32"
    assert converted(mixing.taken_back(whole, model, set())) < converted(whole), "none between a layer and its Relu"


def test_weights_of_a_layer_that_stays_are_those_of_the_file(network):
    _, model, whole, _ = network
    mixed = mixing.taken_back(whole, model, {"second"})
    stored = {tensor.name: tensor for tensor in mixed.graph.initializer}
    original = {tensor.name: tensor for tensor in model.graph.initializer}
    (weight,) = (node.input[1] for node in mixed.graph.node if node.name == "second")
    assert stored[weight] == original[weight]
    assert not any(name.startswith("second") and "quantized" in name for name in stored)


def test_metadata_opset_and_the_contract_stay(network):
    _, model, whole, _ = network
    mixed = mixing.taken_back(whole, model, set())
    assert mixed.opset_import == model.opset_import
    assert mixed.metadata_props == model.metadata_props
    assert [value.name for value in mixed.graph.output] == [value.name for value in model.graph.output]


def small(nodes, weights, outputs, tmp_path):
    """A graph over images of 8 channels, everything in QDQ, and its answers to a few samples."""
    generator = np.random.default_rng(0)
    stored = [numpy_helper.from_array((generator.standard_normal(s) / 5).astype(np.float32), n) for n, s in weights.items()]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", 1, ["n", 8, 6, 6])], [value(n, 1, s) for n, s in outputs.items()], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, tmp_path / "small.onnx")
    feeds = {"x": generator.standard_normal((4, 8, 6, 6)).astype(np.float32)}
    ranges = quantizing.calibrate(tmp_path / "small.onnx", [feeds], "minmax")
    return model, quantizing.quantized(model, ranges, Scheme(reduced=True)), feeds


@pytest.mark.parametrize("floats", [{"first"}, {"second"}, set(), {"first", "second"}])
def test_a_bias_of_two_layers_stays_as_it_is_for_the_one_in_float(tmp_path, floats):
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b"], ["a"], name="first"),
        helper.make_node("Conv", ["x", "w2", "b"], ["c"], name="second"),
    ]
    weights = {"w1": (8, 8, 1, 1), "w2": (8, 8, 3, 3), "b": (8,)}
    model, whole, feeds = small(nodes, weights, {"a": ["n", 8, 6, 6], "c": ["n", 8, 4, 4]}, tmp_path)
    mixed = mixing.taken_back(whole, model, floats)
    onnx.checker.check_model(mixed, full_check=True)
    assert {name: "b" in node.input for name in floats for node in mixed.graph.node if node.name == name} == dict.fromkeys(
        floats, True
    )
    expected, found = (sessions.run(sessions.open_session(each.SerializeToString()), feeds) for each in (model, mixed))
    for name, before, after in zip(("first", "second"), expected, found, strict=True):
        np.testing.assert_allclose(after, before, atol=(1e-5 if name in floats else 0.05) * np.abs(before).max())


@pytest.mark.parametrize("moved", [["Transpose"], ["Transpose", "Flatten"], []])
@pytest.mark.parametrize("floats", [set(), {"second"}])
def test_no_conversion_stands_before_what_a_body_reads(tmp_path, moved, floats):
    """onnxruntime 1.31 ends the process where one does."""
    nodes = [helper.make_node("Conv", ["x", "w1"], ["a"], name="first")]
    last = "a"
    for op in moved:
        nodes.append(helper.make_node(op, [last], [f"{last}t"], name=op, **({"perm": [0, 1, 3, 2]} if op == "Transpose" else {})))
        last += "t"
    branches = [
        helper.make_graph([helper.make_node(op, [last], [op])], op, [], [helper.make_tensor_value_info(op, 1, None)])
        for op in ("Relu", "Neg")
    ]
    nodes += [
        helper.make_node("Conv", [("a" if len(moved) != 1 else last), "w2"], ["c"], name="second"),
        helper.make_node("ReduceSum", ["x"], ["s"], name="sum", keepdims=0),
        helper.make_node("Cast", ["s"], ["p"], name="truth", to=onnx.TensorProto.BOOL),
        helper.make_node("If", ["p"], ["q"], name="if", then_branch=branches[0], else_branch=branches[1]),
    ]
    sizes = {"q": ["n", 8, 6, 6] if moved != ["Transpose", "Flatten"] else ["n", 288], "c": ["n", 8, 4, 4]}
    model, whole, feeds = small(nodes, {"w1": (8, 8, 1, 1), "w2": (8, 8, 3, 3)}, sizes, tmp_path)
    mixed = mixing.taken_back(whole, model, floats)
    onnx.checker.check_model(mixed, full_check=True)
    back = {node.output[0] for node in mixed.graph.node if node.op_type == "DequantizeLinear"}
    assert not any(back & set(node.input) for node in mixed.graph.node if node.name in moved)
    expected, found = (sessions.run(sessions.open_session(each.SerializeToString()), feeds) for each in (model, mixed))
    for before, after in zip(expected, found, strict=True):
        np.testing.assert_allclose(after, before, atol=0.1 * np.abs(before).max())


def test_what_follows_a_layer_belongs_to_it(network):
    _, model, _, _ = network
    found = quantizing.following(model)
    assert {found[name] for name in quantizing.layers(model)} == {"first", "second", "third", "last"}
    pool = next(node.name for node in model.graph.node if node.op_type == "MaxPool")
    assert found[pool] == "third"


@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_other_calibrations_give_ranges_too_and_say_nothing(network, method, capfd):
    file, model, _, feeds = network
    ranges = quantizing.calibrate(file, [feeds], method)
    assert "".join(capfd.readouterr()) == "", "onnxruntime tells of its histograms on stdout"
    found = run(mixing.taken_back(quantizing.quantized(onnx.load(file), ranges, Scheme(reduced=True)), model, set()), feeds)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_several_batches_are_calibrated_with_one_after_the_other(network, method):
    file, _, _, feeds = network
    halves = [{name: part for name in feeds for part in [array]} for array in np.array_split(next(iter(feeds.values())), 2)]
    ends = []
    for given in ([feeds], halves, halves[:1]):
        ranges = quantizing.calibrate(file, given, method)
        ends.append(
            {name: tuple(float(np.max(end)) for end in (-range_.lowest, range_.highest)) for name, range_ in ranges.items()}
        )
    together, apart, half = ends
    assert apart.keys() == together.keys()
    for name in together:
        np.testing.assert_allclose(apart[name], together[name], rtol=0.05, atol=0.02)
    assert half != apart, "the second batch counts"


@pytest.mark.parametrize("scheme", [Scheme(signed=True), Scheme(reduced=True), Scheme(coarse=True)])
def test_the_other_schemes_are_legal_too(network, scheme):
    file, model, _, feeds = network
    ranges = quantizing.calibrate(file, [feeds], "minmax")
    found = run(mixing.taken_back(quantizing.quantized(onnx.load(file), ranges, scheme), model, set()), feeds)
    assert np.isfinite(found).all()


def scales(model):
    """By value, the scale and the shape of the scale of its conversion to int8."""
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return {node.input[0]: stored[node.input[1]] for node in model.graph.node if node.op_type == "QuantizeLinear"}


def test_coarse_is_one_scale_for_all_that_is_joined_and_for_every_weight(tmp_path):
    generator = np.random.default_rng(0)
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    weights = {"wa": 1.0, "wb": 5.0, "wc": 0.2}
    stored = [
        onnx.numpy_helper.from_array((size * generator.standard_normal((4, 3, 1, 1))).astype(np.float32), name)
        for name, size in weights.items()
    ]
    nodes = [
        *(node("Conv", ["x", f"w{name}"], [name], name=f"conv{name}") for name in "abc"),
        node("Relu", ["c"], ["d"], name="relu"),
        node("Concat", ["a", "b"], ["ab"], name="inner", axis=1),
        node("Concat", ["ab", "d"], ["y"], name="outer", axis=1),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, ["n", 3, 4, 4])], [value("y", 1, ["n", 12, 4, 4])], stored)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    file = tmp_path / "joins.onnx"
    onnx_file.write(model, file)
    feeds = {"x": generator.standard_normal((8, 3, 4, 4)).astype(np.float32)}
    ranges = quantizing.calibrate(file, [feeds], "minmax")
    before = {name: ranges[name].range_value for name in ("a", "b", "ab", "y")}
    fine, coarse = (
        mixing.taken_back(quantizing.quantized(onnx.load(file), ranges, Scheme(coarse=c)), model, set()) for c in (False, True)
    )
    assert {name: ranges[name].range_value for name in before} == before, "they are found once, for all schemes"
    names = [name for name in scales(fine) if name != "x"]
    assert len(names) >= 4
    assert len({float(scales(fine)[name]) for name in names}) > 1
    assert len({float(scales(coarse)[name]) for name in names}) == 1
    assert scales(coarse)["x"] == scales(fine)["x"]
    shapes = [
        {tensor.dims[0] if tensor.dims else 1 for tensor in each.graph.initializer if tensor.name.endswith("_scale") and tensor.name[:1] == "w"}
        for each in (fine, coarse)
    ]  # fmt: skip
    assert shapes == [{4}, {1}]
    np.testing.assert_allclose(run(coarse, feeds), run(model, feeds), atol=0.05 * np.abs(run(model, feeds)).max())


def test_a_graph_that_the_quantizer_cannot_read_is_one_line(tmp_path):
    file = tmp_path / "strange.onnx"
    value = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node("Unheard", ["x"], ["y"], domain="nowhere")
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, [1, 2])], [value("y", 1, [1, 2])])
    imports = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("nowhere", 1)]
    onnx_file.write(onnx.helper.make_model(graph, opset_imports=imports), file)
    with pytest.raises(InputError, match=r"^onnxruntime's quantizer cannot read strange.onnx: .*; tune with --precisions fp32$"):
        quantizing.calibrate(file, [{"x": np.zeros((1, 2), np.float32)}], "minmax")


def test_nncf_quantizes_in_its_own_way(network):
    """Where it is installed: its file is legal, and its answers are near."""
    pytest.importorskip("nncf", reason="NNCF is not installed")
    from types import SimpleNamespace

    from deploykit.tuner.candidates import int8_nncf
    from deploykit.tuner.samples import Part

    file, model, _, feeds = network
    task = SimpleNamespace(file=file, model=model, parts=SimpleNamespace(calibration=Part(feeds)))
    expected, found = (
        sessions.run(sessions.open_session(each.SerializeToString()), feeds)[0] for each in (model, int8_nncf.quantized(task))
    )
    assert 0 < float(np.abs(found - expected).max() / np.abs(expected).max()) < 0.5


def test_what_was_quantized_before_changes_nothing(tmp_path):
    """The quantizer gives a Concat the range of the Relu behind it, in the ranges that it is handed."""
    random, value = np.random.default_rng(0), onnx.helper.make_tensor_value_info
    shapes = {"wa": (4, 4), "wb": (4, 4), "wr": (4, 8), "wq": (4, 4)}
    stored = [onnx.numpy_helper.from_array(random.standard_normal((*s, 1, 1)).astype(np.float32), n) for n, s in shapes.items()]
    stored.append(onnx.numpy_helper.from_array(np.full(4, -8, np.float32), "ba"))
    nodes = [
        onnx.helper.make_node(kind, inputs, [output], name=output, **attributes)
        for kind, inputs, output, attributes in (
            ("Conv", ["x", "wa", "ba"], "a", {}), ("Conv", ["x", "wb"], "b", {}), ("Concat", ["a", "b"], "ab", {"axis": 1}),
            ("Relu", ["ab"], "r", {}), ("Conv", ["r", "wr"], "p", {}), ("Conv", ["a", "wq"], "q", {}), ("Add", ["p", "q"], "y", {}),
        )
    ]  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, ["n", 4, 8, 8])], [value("y", 1, ["n", 4, 8, 8])], stored)
    onnx_file.write(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx"
    )
    feeds = [{"x": random.standard_normal((16, 4, 8, 8)).astype(np.float32)}]
    found = []
    for fine_first in (False, True):
        ranges = quantizing.calibrate(tmp_path / "net.onnx", feeds, "minmax")
        if fine_first:
            quantizing.quantized(onnx.load(tmp_path / "net.onnx"), ranges, Scheme())
        found.append(quantizing.quantized(onnx.load(tmp_path / "net.onnx"), ranges, Scheme(coarse=True)).SerializeToString())
    assert found[0] == found[1]
