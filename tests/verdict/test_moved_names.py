"""Two files in which one name means two values, as where a BatchNorm was folded into the convolution that keeps its name."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from deploykit.simplifier import simplify
from deploykit.verdict import validate

CHANNELS = 4


def weights(seed=0):
    """Two blocks of a convolution 3x3 and the BatchNorm behind it, and the last convolution."""
    g = np.random.default_rng(seed)
    found = {}
    for n in ("1", "2"):
        found[f"w{n}"] = g.standard_normal((CHANNELS, CHANNELS if n == "2" else 3, 3, 3)) / 4
        found[f"b{n}"] = g.standard_normal(CHANNELS)
        found[f"gain{n}"], found[f"var{n}"] = g.uniform(0.5, 2, CHANNELS), g.uniform(0.5, 2, CHANNELS)
        found[f"shift{n}"], found[f"mean{n}"] = g.standard_normal(CHANNELS), g.standard_normal(CHANNELS)
    found["last"] = g.standard_normal((2, CHANNELS, 1, 1))
    return {name: values.astype(np.float32) for name, values in found.items()}


def folded(w):
    """The convolutions' weights with the BatchNorms in them, under the old names."""
    found = {"last": w["last"]}
    for n in ("1", "2"):
        factor = w[f"gain{n}"] / np.sqrt(w[f"var{n}"] + np.float32(1e-5))
        found[f"w{n}"] = w[f"w{n}"] * factor[:, None, None, None]
        found[f"b{n}"] = (w[f"b{n}"] - w[f"mean{n}"]) * factor + w[f"shift{n}"]
    return found


def saved(path, tensors, *, norms, between="Relu", rename=None):
    """conv1 -> (norm1) -> act1 -> conv2 -> (norm2) -> act2 -> y; without `between` the blocks follow each other at once."""
    names = rename or {}
    nodes, value = [], "x"
    for n in ("1", "2"):
        nodes.append(
            helper.make_node("Conv", [value, *(names.get(t, t) for t in (f"w{n}", f"b{n}"))], [f"c{n}"], pads=[1, 1, 1, 1])
        )
        value = f"c{n}"
        if norms:
            inputs = [value, *(f"{t}{n}" for t in ("gain", "shift", "mean", "var"))]
            nodes.append(helper.make_node("BatchNormalization", inputs, [f"n{n}"]))
            value = f"n{n}"
        if between:
            nodes.append(helper.make_node(between, [value], [f"a{n}"]))
            value = f"a{n}"
    nodes.append(helper.make_node("Conv", [value, "last"], ["y"]))
    stored = [numpy_helper.from_array(values, names.get(name, name)) for name, values in tensors.items()]
    shape = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [shape("x", 1, ["n", 3, 8, 8])], [shape("y", 1, ["n", 2, 8, 8])], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


RENAMED = {"w1": "v1", "b1": "v2", "w2": "v3", "b2": "v4"}


@pytest.mark.parametrize("rename", [RENAMED, None], ids=["new names", "old names"])
@pytest.mark.parametrize("between", ["Relu", None])
def test_a_batch_norm_folded_under_the_convolutions_name_is_no_difference(tmp_path, rename, between):
    w = weights()
    original = saved(tmp_path / "a.onnx", w, norms=True, between=between)
    verdict = validate(saved(tmp_path / "b.onnx", folded(w), norms=False, between=between, rename=rename), against=str(original))
    assert verdict.same, verdict.checks
    assert verdict.layers_compared == (2 if between else 0), "the activations"
    assert validate(original, against=str(tmp_path / "b.onnx")).same


def test_what_simplify_makes_of_it_is_the_same(tmp_path):
    original = saved(tmp_path / "a.onnx", weights(), norms=True)
    simplify(original, out=tmp_path / "b.onnx")
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(tmp_path / "b.onnx").graph.node}
    assert validate(tmp_path / "b.onnx", against=str(original)).same


@pytest.mark.parametrize("rename", [RENAMED, None], ids=["new names", "old names"])
@pytest.mark.parametrize("name", ["w1", "b1", "w2", "b2"])
def test_a_fault_in_what_was_folded_is_found(tmp_path, name, rename):
    w = weights()
    original = saved(tmp_path / "a.onnx", w, norms=True)
    faulty = folded(w)
    faulty[name].reshape(-1)[1] += 1e-3
    found = validate(saved(tmp_path / "b.onnx", faulty, norms=False, rename=rename), against=str(original))
    assert found.verdict == "different"
    assert found.first_divergent_layer == f"c{name[1]}"


def test_a_fault_that_the_next_layer_hides_is_found_where_the_files_are_built_alike(tmp_path):
    w = folded(weights())
    w["b1"][0] = -1000  # the activation behind is zero on every input
    original = saved(tmp_path / "a.onnx", w, norms=False)
    faulty = {name: values.copy() for name, values in w.items()}
    faulty["w1"][0, 0, 0, 0] += 1
    found = validate(saved(tmp_path / "b.onnx", faulty, norms=False, rename=RENAMED), against=str(original))
    assert found.verdict == "different"
    assert found.first_divergent_layer == "c1"
    assert [check.name for check in found.checks if not check.passed] == ["layers", "weights"]
