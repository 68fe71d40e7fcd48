"""Raw outputs -> results of each task; boxes and masks back in the image's own pixels."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from deploykit.errors import ModelFileError
from deploykit.runtime import Classification, Detections, Embedding, MultiLabel, Prediction, Regression, Segmentation
from deploykit.runtime.contract import (
    DetectionOutput,
    EmbeddingOutput,
    ImageInput,
    MultiLabelOutput,
    Output,
    RegressionOutput,
    SegmentationOutput,
)
from deploykit.runtime.geometry import Placed, placed
from deploykit.runtime.suppression import suppress
from deploykit.runtime.task_answers import corners, task_answers

LETTERBOX = ImageInput(3, 64, 64, fit="letterbox")
PHOTOGRAPH = placed((640, 427), LETTERBOX)
TWO = ("cat", "dog")


def one(raw: Any, output: Output, place: Placed | None = None, top: int = 1) -> Any:
    arrays = raw if isinstance(output, DetectionOutput) else [raw]
    return task_answers([np.asarray(array) for array in arrays], output, top, [place] * len(arrays[0]))[0]


@pytest.mark.parametrize(
    ("size", "resized", "first"),
    [((640, 427), (64, 43), (0, -10)), ((427, 640), (43, 64), (-10, 0)), ((1, 999), (1, 64), (-31, 0)), ((3, 3), (64, 64), (0, 0))],
)
def test_a_letterbox_keeps_the_ratio(size: Any, resized: Any, first: Any) -> None:
    assert placed(size, LETTERBOX) == Placed(size, resized, first, (64, 64))
    assert placed(size, replace(LETTERBOX, placement="top-left")).first == (0, 0)


def test_a_classifier_gives_what_it_gave_and_says_its_type() -> None:
    found = one([[1.0, 3.0]], Output("softmax", TWO), top=2)
    assert isinstance(found, Classification)
    assert (found.label, found.index, len(found.top)) == ("dog", 1, 2)
    assert repr(found).startswith("Prediction(label='dog'")
    assert "task" not in found.as_dict()
    assert found == Prediction("dog", found.score, 1, found.top)


def test_several_labels() -> None:
    output = MultiLabelOutput("none", ("a", "b", "c"), threshold=(0.5, 0.5, 0.95))
    found = one([[0.6, 0.5, 0.9]], output, top=1)
    assert isinstance(found, MultiLabel)
    assert [each.label for each in found.labels] == ["a", "b"]
    assert [each.label for each in found.top] == ["c"]
    assert found.scores.tolist() == [0.6, 0.5, 0.9]
    assert found.as_dict()["labels"] == [{"label": "a", "score": 0.6}, {"label": "b", "score": 0.5}]
    assert one([[0.0, 0.0, -9.0]], replace(output, activation="sigmoid")).scores.tolist()[:2] == [0.5, 0.5]
    with pytest.raises(ModelFileError, match="3"):
        one([[0.6, 0.5]], output)


def test_a_mask_has_the_size_of_the_image() -> None:
    scores = np.zeros((1, 3, 16, 16), np.float32)
    scores[:, 1, :, 8:] = 1  # the right half
    found = one(scores, SegmentationOutput(labels=("a", "b", "c")), PHOTOGRAPH)
    assert isinstance(found, Segmentation)
    assert (found.mask.shape, found.mask.dtype) == ((427, 640), np.uint8)
    assert (found.mask[:, :300] == 0).all()
    assert (found.mask[:, 340:] == 1).all()
    assert [area.label for area in found.areas] == ["a", "b"] or [area.label for area in found.areas] == ["b", "a"]
    assert sum(area.share for area in found.areas) == pytest.approx(1)
    document = json.loads(json.dumps(found.as_dict()))
    rebuilt = np.concatenate([np.full(count, index) for index, count in document["mask"]["runs"]]).reshape(427, 640)
    assert np.array_equal(rebuilt, found.mask)
    with pytest.raises(ValueError):
        found.mask[0, 0] = 1


def test_masks_are_those_of_torch_interpolation() -> None:
    """Of an image that is stretched: as bilinear interpolation of the scores without antialiasing, then the best."""
    torch = pytest.importorskip("torch")
    scores = np.random.default_rng(0).normal(size=(1, 5, 9, 7)).astype(np.float32)
    place = placed((50, 31), ImageInput(3, 18, 14))
    found = one(scores, SegmentationOutput(), place)
    expected = torch.nn.functional.interpolate(torch.from_numpy(scores), (31, 50), mode="bilinear").argmax(1)[0].numpy()
    assert (found.mask == expected).mean() > 0.999
    last = one(np.moveaxis(scores, 1, 3), SegmentationOutput(class_axis=3), place)
    assert last == found
    assert last != one(-scores, SegmentationOutput(), place)


def test_what_a_crop_cut_off_was_not_seen() -> None:
    place = placed((100, 50), ImageInput(3, 40, 40, fit="center-crop", resize=50))
    indices = np.ones((1, 40, 40), np.int64)
    indices[:, :20] = 7
    found = one(indices, SegmentationOutput("none", ("a", "b"), class_axis=None), place)
    assert (found.mask[25:45, 30:70] == 1).all()
    assert (found.mask[5:25, 30:70] == found.unseen).all()  # no label 7
    assert (found.mask[:, :30] == 255).all()
    assert (found.mask[:5] == 255).all()
    assert [area.share for area in found.areas] == [20 * 40 / 5000]


def test_more_labels_and_pixels_than_a_lifetime_are_refused() -> None:
    place = placed((10_000, 10_000), ImageInput(3, 8, 8))
    with pytest.raises(ModelFileError, match="a mask of 1,000 labels for 10000x10000 pixels"):
        one(np.zeros((1, 1000, 1, 1), np.float32), SegmentationOutput(), place)


def test_two_labels_of_one_number_and_more_labels_than_a_byte_has() -> None:
    scores = np.array([[[[2.0, -2.0]]]], np.float32)
    assert one(scores, SegmentationOutput("sigmoid", TWO)).mask.tolist() == [[1, 0]]
    assert one(scores, SegmentationOutput("none", threshold=3)).mask.tolist() == [[0, 0]]
    many = one(np.full((1, 2, 2), 300, np.int64), SegmentationOutput(class_axis=None))
    assert (many.mask.dtype, many.areas[0].label) == (np.uint16, "300")
    assert one(np.full((1, 1, 2, 2), 1, np.int64), SegmentationOutput(class_axis=None)).mask.shape == (2, 2)


@pytest.mark.parametrize(
    ("convention", "box"), [("xyxy", (8, 16, 24, 48)), ("xywh", (8, 16, 16, 32)), ("cxcywh", (16, 32, 16, 32))]
)
@pytest.mark.parametrize("units", ["pixels", "relative"])
def test_boxes_of_every_convention_are_in_pixels_of_the_image(convention: Any, box: Any, units: Any) -> None:
    output = DetectionOutput(labels=TWO, boxes="b", scores="s", convention=convention, units=units)
    boxes = np.array([[box]], np.float32) / (64 if units == "relative" else 1)
    found = one([boxes, [[[0.1, 0.9]]]], output, PHOTOGRAPH)
    assert isinstance(found, Detections)
    assert found.size == (640, 427)
    (only,) = found.detections
    assert (only.label, only.index) == ("dog", 1)
    # 64 pixels are 640 across; down 43 are 427, after 10 of padding.
    assert only.box == pytest.approx((80, 6 * 427 / 43, 240, 38 * 427 / 43), abs=1e-4)
    assert json.loads(json.dumps(found.as_dict()))["detections"][0]["box"] == list(only.box)


def test_boxes_end_at_the_edge_of_the_image() -> None:
    output = DetectionOutput(boxes="b", scores="s")
    (only,) = one([[[[-5.0, 0.0, 99.0, 64.0]]], [[[0.9]]]], output, PHOTOGRAPH).detections
    assert only.box == (0, 0, 640, 427)
    assert only.label == "0"


def test_which_boxes_are_given() -> None:
    boxes = np.array([[[0, 0, 10, 10], [1, 0, 11, 10], [40, 40, 50, 50], [0, 1, 10, 11]]], np.float32)
    scores = np.array([[[0.8, 0.1], [0.9, 0.2], [0.3, 0.4], [0.2, 0.7]]])
    output = DetectionOutput(labels=TWO, boxes="b", scores="s", threshold=0.4)

    def given(**changes: Any) -> list[tuple[str, float]]:
        return [(d.label, d.score) for d in one([boxes, scores], replace(output, **changes)).detections]

    assert given() == [("cat", 0.9), ("cat", 0.8), ("dog", 0.7), ("dog", 0.4)]
    assert given(iou_threshold=0.5) == [("cat", 0.9), ("dog", 0.7), ("dog", 0.4)]
    assert given(iou_threshold=0.5, class_wise=False) == [("cat", 0.9), ("dog", 0.4)]
    assert given(max_detections=2) == [("cat", 0.9), ("cat", 0.8)]
    assert given(iou_threshold=0.5, max_detections=2) == [("cat", 0.9), ("dog", 0.7)]
    assert given(background=0) == [("dog", 0.7), ("dog", 0.4)]
    assert given(threshold=0.95) == []
    apart = one([boxes, scores.max(2), [[0.0, 0.0, 1.0, 1.0]]], replace(output, classes="c"))
    assert [(d.label, d.score) for d in apart.detections] == given()


def test_boxes_that_are_none() -> None:
    output = DetectionOutput(boxes="b", scores="s", threshold=0.5)
    assert one([np.zeros((1, 0, 4)), np.zeros((1, 0, 3))], output).detections == ()
    assert one([np.zeros((1, 1, 4)), [[[np.nan]]]], output).error == "the network's output is not finite"
    assert one([np.full((1, 1, 4), np.inf), [[[0.9]]]], output).error == "the network's output is not finite"
    assert one([np.full((1, 1, 4), np.inf), [[[0.1]]]], output).detections == ()  # which nobody looks at
    for boxes, scores in ((np.zeros((1, 2, 5)), np.zeros((1, 2, 3))), (np.zeros((1, 2, 4)), np.zeros((1, 3, 3)))):
        with pytest.raises(ModelFileError, match="contract says"):
            one([boxes, scores], output)


@pytest.mark.parametrize("class_wise", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_suppression_is_torchvisions(class_wise: bool, threshold: float) -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    generator = np.random.default_rng(3)
    start = generator.uniform(0, 60, (200, 2))
    boxes = np.concatenate([start, start + generator.uniform(0, 30, (200, 2))], axis=1).astype(np.float32)
    boxes[7, 2:] = boxes[7, :2]  # one without an area
    scores, classes = generator.permutation(200) / 200, generator.integers(0, 3, 200)
    ours = suppress(boxes.astype(np.float64), scores, classes if class_wise else None, threshold, 1000)
    tensors = torch.from_numpy(boxes).double(), torch.from_numpy(scores)
    theirs = ops.batched_nms(*tensors, torch.from_numpy(classes), threshold) if class_wise else ops.nms(*tensors, threshold)
    assert ours.tolist() == theirs.tolist()
    assert ours[:5].tolist() == suppress(boxes.astype(np.float64), scores, classes if class_wise else None, threshold, 5).tolist()


@pytest.mark.parametrize("convention", ["xyxy", "xywh", "cxcywh"])
def test_conventions_are_torchvisions(convention: str) -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    boxes = np.random.default_rng(0).uniform(0, 9, (20, 4))
    assert np.allclose(corners(boxes, convention), ops.box_convert(torch.from_numpy(boxes), convention, "xyxy").numpy())


def test_vectors_and_numbers() -> None:
    row = np.array([[3.0, 4.0], [np.nan, 1.0], [0.0, 0.0]], np.float32)
    found = task_answers([row], EmbeddingOutput(normalize=True), 1, [None] * 3)
    assert isinstance(found[0], Embedding)
    np.testing.assert_allclose(found[0].vector, [0.6, 0.8], rtol=1e-6)
    assert found[0].vector.dtype == np.float32
    assert (found[1].ok, found[2].ok) == (False, True)
    assert one(row[:1], EmbeddingOutput()).vector.tolist() == [3.0, 4.0]
    measured = one(row[:1], RegressionOutput(labels=("width", "height"), units=("mm", "px")))
    assert isinstance(measured, Regression)
    assert [(q.name, q.value, q.unit) for q in measured.quantities] == [("width", 3.0, "mm"), ("height", 4.0, "px")]
    assert measured.as_dict()["values"] == [3.0, 4.0]
    assert [(q.name, q.unit) for q in one([5.0], RegressionOutput()).quantities] == [("0", None)]
    with pytest.raises(ModelFileError, match="contract says"):
        one(row[:1], RegressionOutput(labels=("width",)))


def test_results_are_frozen_and_known_by_their_type_and_path() -> None:
    found = one(np.ones((1, 2), np.float32), EmbeddingOutput())
    with pytest.raises(FrozenInstanceError):
        found.values = None
    assert repr(found.at("a.png")) == "Embedding(values=float32 (2,), path='a.png')"
    assert type(found.at("a.png")) is Embedding
    assert found == found.at(None)
    assert hash(found) == hash(one(np.ones((1, 2), np.float32), EmbeddingOutput()))
    assert found != Prediction(values=found.values)
