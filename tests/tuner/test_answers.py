"""Answers have a row per sample, whatever the outputs of a file are like; what cannot be compared is refused in one line."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from deploykit import backends, onnx_file
from deploykit.errors import InputError
from deploykit.tuner.answers import CHUNK, answers_of
from deploykit.tuner.samples import Part
from deploykit.verdict.same_decisions import Answers, Budget, judge

value = helper.make_tensor_value_info
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.standard_normal((4, 10)).astype(np.float32)
PART = Part({"x": RANDOM.standard_normal((CHUNK + 5, 4)).astype(np.float32)})
OTHERS = {  # like CLIP's scale, SSD's priors, a detector's list of hits, scikit-learn's labels and maps
    "scalar": ([helper.make_node("Exp", ["scale"], ["z"])], value("z", 1, [])),
    "constant": ([helper.make_node("Neg", ["priors"], ["z"])], value("z", 1, [1, 7])),
    "a mean over the batch": ([helper.make_node("ReduceMean", ["y"], ["z"], keepdims=0)], value("z", 1, [])),
    "hits": ([helper.make_node("Relu", ["y"], ["r"]), helper.make_node("NonZero", ["r"], ["z"])], value("z", 7, [2, None])),
    "texts": ([helper.make_node("Identity", ["word"], ["z"])], value("z", 8, [1])),
    "map": (
        [helper.make_node("ZipMap", ["y"], ["z"], domain="ai.onnx.ml", classlabels_int64s=range(10))],
        helper.make_value_info("z", helper.make_sequence_type_proto(helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, [])))),
    ),
}  # fmt: skip


def answered(folder, weights=WEIGHTS, batch="n", squeezed=False, other=None):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    end = value("y", 1, [batch, 10])
    if squeezed:
        nodes.append(helper.make_node("Squeeze", ["y", "axes"], ["y_"]))
        end = value("y_", 1, [10])
    more, ends = ([], []) if other is None else (OTHERS[other][0], [OTHERS[other][1]])
    arrays = {
        "w": weights, "axes": np.array([0]), "scale": np.float32(2), "priors": np.ones((1, 7), np.float32), "word": np.array(["a"], object),
    }  # fmt: skip
    used = {name for node in (*nodes, *more) for name in node.input}
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items() if name in used]
    graph = helper.make_graph([*nodes, *more], "g", [value("x", 1, [batch, 4])], [end, *ends], tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx_file.write(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "network.onnx")
    with backends.start("onnxruntime", folder / "network.onnx", threads=1) as engine:
        return answers_of(engine, PART)


def test_a_file_of_one_sample_whose_output_has_no_axis_for_it_is_judged_by_all_of_it(tmp_path):
    wrong = WEIGHTS.copy()
    wrong[:, 1:] *= -3
    given, other = (answered(tmp_path, weights, 1, squeezed=True) for weights in (WEIGHTS, wrong))
    np.testing.assert_allclose(given[0], PART.inputs["x"] @ WEIGHTS, rtol=1e-5)
    assert not judge(Answers(given), Answers(other), Budget()).kept


@pytest.mark.parametrize("other", ["scalar", "constant", "a mean over the batch"])
def test_an_output_that_is_not_of_samples_is_asked_for_with_each_of_them(other, tmp_path):
    first, second = answered(tmp_path, other=other)
    assert (first.shape, len(second)) == ((CHUNK + 5, 10), CHUNK + 5)
    np.testing.assert_allclose(first, PART.inputs["x"] @ WEIGHTS, rtol=1e-5, atol=1e-6)
    if other == "a mean over the batch":
        np.testing.assert_allclose(second, first.mean(axis=1), atol=1e-6)
    assert judge(Answers((first, second)), Answers((first, second)), Budget()).same


@pytest.mark.parametrize(
    ("other", "words"), [("hits", "another size for every sample"), ("texts", "no numbers"), ("map", "no numbers")]
)
def test_what_cannot_be_compared_is_refused_in_one_line(other, words, tmp_path):
    with pytest.raises(InputError, match=rf"{words}.*; tune the file without that output"):
        answered(tmp_path, other=other)


def test_of_a_batch_that_is_fixed_every_output_must_have_a_row_per_sample(tmp_path):
    assert len(answered(tmp_path, batch=8)[0]) == CHUNK + 5
    with pytest.raises(InputError, match="a row for each of the 8 samples"):
        answered(tmp_path, batch=8, other="scalar")
