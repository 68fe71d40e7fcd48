"""Decisions on labelled samples, task by task: agreement, and how well network and file do on them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from deploykit import onnx_file, validate
from deploykit.datasets import IGNORED, Split
from deploykit.errors import DatasetError
from deploykit.runtime.contract import (
    ArrayInput,
    Contract,
    DetectionOutput,
    ImageInput,
    MultiLabelOutput,
    Output,
    RegressionOutput,
    SegmentationOutput,
)
from deploykit.verdict import judgement
from deploykit.verdict.decisions import decide, kind_of
from deploykit.verdict.deployed import Deployed

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

import schemas

RULES = ImageInput(3, 8, 12, fit="letterbox")
RULES_SHAPE = (3, RULES.height, RULES.width)
PIXELS = SegmentationOutput(labels=("red", "green", "blue"))
LABELS = MultiLabelOutput(labels=("a", "b", "c"), threshold=(0.5, 0.6, 0.7))


def scaled(shape, factors, contract=None):
    """A file that multiplies its input (batch, 3, ...) by a factor for each of three channels."""
    info = helper.make_tensor_value_info
    sizes = ["batch", *shape]
    weight = numpy_helper.from_array(np.asarray(factors, np.float32).reshape(3, *[1] * (len(shape) - 1)), "by")
    node = helper.make_node("Mul", ["input", "by"], ["logits"])
    ends = [info("input", TensorProto.FLOAT, sizes)], [info("logits", TensorProto.FLOAT, sizes)]
    model = helper.make_model(
        helper.make_graph([node], "scaled", *ends, [weight]), opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    )
    if contract is not None:
        onnx_file.set_contract(model, contract)
    return model


def network(inputs):
    return inputs


@pytest.fixture
def shapes():
    """Three images in thirds of red, green and blue, some of which count as blue in their masks, and a column that does not count."""
    mask = np.repeat(np.arange(3, dtype=np.uint8), 10)[None].repeat(20, 0)
    pixels = np.eye(3, dtype=np.uint8)[mask] * 200
    truth = mask.copy()
    truth[:, :5], truth[:, -1] = 2, IGNORED
    return Split([Image.fromarray(pixels)] * 3, np.zeros((3, 0), np.int64), [truth] * 3)


def test_masks_are_compared_pixel_by_pixel_at_the_size_of_the_images(shapes):
    asked = ("cpu", network, RULES, shapes, "segmentation", PIXELS)
    alike = decide(Deployed(scaled(RULES_SHAPE, (1, 1, 1))), *asked)
    assert (alike.task, alike.samples, alike.agreement) == ("segmentation", 3, 1.0)
    assert alike.torch_accuracy == alike.onnx_accuracy
    # Half of the red is blue in truth: IoU of red 5/10, of green 10/10, of blue 9/14.
    assert alike.torch_accuracy == pytest.approx((1 / 2 + 1 + 9 / 14) / 3, abs=0.04)
    blind = decide(Deployed(scaled(RULES_SHAPE, (-1, 1, 1))), *asked)
    assert blind.agreement == pytest.approx(2 / 3, abs=0.04)
    assert blind.onnx_accuracy < 0.5 < blind.torch_accuracy
    assert not judgement._decisions(blind).passed
    assert "66" in judgement._decisions(blind).detail or "67" in judgement._decisions(blind).detail
    broken = decide(Deployed(scaled(RULES_SHAPE, (np.nan, 1, 1))), *asked)
    assert (broken.agreement, broken.onnx_accuracy) == (0.0, None)
    assert "mean IoU unknown in PyTorch, unknown in onnxruntime" in judgement._decisions(broken).detail


def values(targets):
    samples = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    return Split(list(samples), targets(samples).astype(np.float32))


def test_every_label_of_a_sample_is_a_decision():
    split = values(lambda x: x > 0)
    found = decide(Deployed(scaled((3,), (1, 1, -1))), "cpu", network, ArrayInput((3,)), split, "multilabel", LABELS)
    x = np.stack(split.samples)
    own, of_file = (x > np.log([1, 1.5, 7 / 3])), (x * (1, 1, -1) > np.log([1, 1.5, 7 / 3]))
    assert found.agreement == pytest.approx(np.mean(own == of_file))
    assert found.torch_accuracy == pytest.approx(np.mean(own == (x > 0)))
    assert found.onnx_accuracy == pytest.approx(np.mean(of_file == (x > 0)))
    place, margin = found.flipped[0]
    assert margin == pytest.approx(abs(1 / (1 + np.exp(-x[place, 2])) - 0.7))
    assert judgement._decisions(found).detail.startswith(f"{found.agreement:.1%} of the labels alike on 60 test samples; accuracy")


@pytest.mark.parametrize(("factor", "agreement"), [(1, 1.0), (1.0001, 1.0), (2, 0.0), (np.nan, 0.0)])
def test_values_agree_within_a_hundredth_of_their_spread(factor, agreement):
    split = values(lambda x: x + 1)
    file = Deployed(scaled((3,), (factor, 1, 1)))
    found = decide(file, "cpu", network, ArrayInput((3,)), split, "regression", RegressionOutput())
    assert found.agreement == pytest.approx(agreement, abs=0.05)
    assert (found.torch_accuracy, found.torch_error) == (None, pytest.approx(1))
    assert (found.onnx_error is None) == np.isnan(factor)
    assert "mean absolute error 1 in PyTorch" in judgement._decisions(found).detail


def test_targets_that_are_not_as_many_as_the_numbers_are_one_line():
    split = values(lambda x: x[:, :2])
    with pytest.raises(DatasetError, match="2 targets for each sample, the network gives 3"):
        decide(Deployed(scaled((3,), (1, 1, 1))), "cpu", network, ArrayInput((3,)), split, "regression", RegressionOutput())


def test_what_is_asked(shapes):
    classes, real, both = values(lambda x: x[:, 0]), values(lambda x: x), values(lambda x: x > 0)
    boxes = DetectionOutput(boxes="b", scores="s")
    expected = [
        (None, classes, True, "classification"),
        (Output("softmax"), classes, True, "classification"),
        (Output("softmax", name="second"), classes, True, None),
        (PIXELS, classes, True, None),
        (PIXELS, shapes, False, "segmentation"),
        (Output("softmax"), shapes, False, None),
        (RegressionOutput(), real, False, "regression"),
        (LABELS, both, False, "multilabel"),
        (LABELS, real, False, None),
        (Output(), real, False, None),
        (boxes, real, False, None),
    ]
    for output, split, has_classes, kind in expected:
        assert kind_of(output, split, has_classes) == kind, (output, kind)


def test_validate_asks_for_them(tmp_path):
    right, wrong = tmp_path / "right.onnx", tmp_path / "wrong.onnx"
    onnx.save(scaled((3,), (1, 1, 1), Contract(ArrayInput((3,)), RegressionOutput())), right)
    onnx.save(scaled((3,), (1, 1, 1.5), Contract(ArrayInput((3,)), RegressionOutput())), wrong)
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "values.npz", x=draw.normal(size=(50, 3)).astype(np.float32), y=draw.normal(size=(50, 3)))
    same = validate(right, right, data=tmp_path / "values.npz", batches=[1, 2])
    assert same.same, same
    assert (same.decisions.task, same.decisions.agreement) == ("regression", 1.0)
    schemas.validate_command("deploykit validate", json.loads(json.dumps(same.document())))
    apart = validate(wrong, right, data=tmp_path / "values.npz", batches=[1, 2])
    assert {"outputs", "decisions"} <= {check.name for check in apart.checks if not check.passed}
    np.savez(tmp_path / "classes.npz", x=draw.normal(size=(50, 3)).astype(np.float32), y=np.arange(50) % 3)
    unasked = validate(right, right, data=tmp_path / "classes.npz", batches=[1, 2])
    assert unasked.decisions is None
    assert any("so decisions were not compared" in note for note in unasked.notes)
