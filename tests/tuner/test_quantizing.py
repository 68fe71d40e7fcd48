"""Calibration and quantization of a whole graph: every method and scheme gives a legal one, and what cannot be read is one line."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from deploykit import onnx_file
from deploykit.errors import InputError
from deploykit.onnx_file import sessions
from deploykit.tuner import mixing, quantizing
from deploykit.tuner.quantizing import Scheme


def run(model, feeds):
    onnx.checker.check_model(model, full_check=True)
    return sessions.run(sessions.open_session(model.SerializeToString()), feeds)[0]


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
