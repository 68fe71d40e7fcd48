"""The three parts of the data have no sample in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from deploykit import onnx_file
from deploykit.errors import InputError
from deploykit.tuner import samples


@pytest.fixture(scope="module")
def model():
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", 1, ["n", 3])], [value("y", 1, ["n", 3])]
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)])


def keys(part):
    return set(samples._keys(part))


def test_equal_samples_all_lie_in_one_part(model):
    rows = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    twice = np.concatenate([rows, rows[::2], rows[:7]])
    parts = samples.read(Path("m.onnx"), model, None, {"x": twice, "labels": np.arange(len(twice))})
    found = [keys(parts.calibration), keys(parts.selection), keys(parts.proof)]
    assert not any((found[0] & found[1], found[0] & found[2], found[1] & found[2]))
    assert [len(k) for k in found] == [15, 15, 30]
    assert sum(len(part) for part in (parts.calibration, parts.selection, parts.proof)) == len(twice)
    for part in (parts.calibration, parts.selection, parts.proof):
        np.testing.assert_array_equal(part.inputs["x"], twice[part.labels])


def test_the_seed_decides_which_and_the_digest_tells(model):
    rows = {"x": np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)}
    first, again, other = (samples.read(Path("m.onnx"), model, None, rows, seed) for seed in (0, 0, 1))
    assert first.digest() == again.digest() != other.digest()
    assert not first.labelled


def test_splits_of_a_dataset_lose_what_was_seen_before(exported):
    model = onnx_file.read(exported)
    parts = samples.read(exported, model, "digits")
    assert parts.labelled
    assert not keys(parts.calibration) & (keys(parts.selection) | keys(parts.proof))
    assert not keys(parts.selection) & keys(parts.proof)
    assert "the dataset digits" in parts.words()
    assert len(parts.calibration.cycled(1000)[0]) == 1000


def test_noise_has_the_shape_that_is_given_where_the_file_leaves_it_open():
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value("x", 1, ["n", 3, "h", "w"])], [value("y", 1, ["n", 3, "h", "w"])]
    )
    open_sides = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    found = samples.read(Path("x.onnx"), open_sides, "noise", shapes=[(3, 6, 5)])
    assert found.proof.inputs["x"].shape[1:] == (3, 6, 5)
    with pytest.raises(InputError, match="--input-shape"):
        samples.read(Path("x.onnx"), open_sides, "noise")
