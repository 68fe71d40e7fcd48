"""Files of every task and of several inputs behind a `Predictor`: what goes in, what comes out, alone and in batches."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from small_models import DIGITS, LABELS, build, linear

from deploykit.errors import ContractError, ImageError, InputError
from deploykit.runtime import Classification, Detections, Embedding, Predictor, Segmentation, predict
from deploykit.runtime.contract import (
    ArrayInput,
    Contract,
    DetectionOutput,
    EmbeddingOutput,
    ImageInput,
    Output,
    SegmentationOutput,
)

RULES = ImageInput(3, 8, 8, fit="letterbox")
F, I64 = TensorProto.FLOAT, TensorProto.INT64
info = helper.make_tensor_value_info


def colours(batch: Any = "batch") -> onnx.ModelProto:
    """The input itself as scores of three labels: red, green, blue."""
    shape = [batch, 3, 8, 8]
    return build([helper.make_node("Identity", ["input"], ["scores"])], [info("input", F, shape)], [info("scores", F, shape)])


def boxes(batched: bool) -> onnx.ModelProto:
    """Two boxes, whatever the image; the score of the first is the image's largest value."""
    found = np.array([[1, 2, 3, 4], [0, 0, 8, 8]], np.float32)
    nodes = [
        helper.make_node("ReduceMax", ["input", "axes"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "zero"], ["nothing"]),
    ]
    if batched:
        nodes += [
            helper.make_node("Unsqueeze", ["nothing", "ones"], ["wide"]),
            helper.make_node("Add", ["wide", "found"], ["boxes"]),
            helper.make_node("Unsqueeze", ["most", "one"], ["first"]),
            helper.make_node("Sub", ["first", "step"], ["scores"]),
        ]
        outputs = [info("boxes", F, ["batch", 2, 4]), info("scores", F, ["batch", 2])]
    else:
        nodes += [helper.make_node("Add", ["found", "nothing"], ["boxes"]), helper.make_node("Sub", ["most", "step"], ["scores"])]
        outputs = [info("boxes", F, ["n", 4]), info("scores", F, ["n"])]
    nodes.append(helper.make_node("Identity", ["labels"], ["classes"]))
    weights = {
        "axes": np.array([1, 2, 3]), "zero": np.zeros((), np.float32), "ones": np.array([1, 2]), "one": np.array([1]),
        "found": found, "step": np.array([0, 0.5], np.float32), "labels": np.array([[1, 0]] if batched else [1, 0]),
    }  # fmt: skip
    return build(nodes, [info("input", F, ["batch" if batched else 1, 3, 8, 8])], [*outputs], weights)


def pair() -> onnx.ModelProto:
    """An image's mean + the sum of five facts, whose batch lies on the second axis: (batch, 1)."""
    return build(
        [
            helper.make_node("ReduceMean", ["image", "space"], ["mean"], keepdims=0),
            helper.make_node("ReduceSum", ["facts", "first"], ["sum"], keepdims=0),
            helper.make_node("Cast", ["sum"], ["told"], to=F),
            helper.make_node("Unsqueeze", ["told", "last"], ["column"]),
            helper.make_node("Unsqueeze", ["mean", "last"], ["seen"]),
            helper.make_node("Add", ["seen", "column"], ["out"]),
        ],
        [info("image", F, ["batch", 1, 8, 8]), info("facts", I64, [5, "batch"])],
        [info("out", F, ["batch", 1])],
        {"space": np.array([1, 2, 3]), "first": np.array([0]), "last": np.array([1])},
    )


IMAGE = ImageInput(1, 8, 8)
PAIR = Contract(
    IMAGE,
    Output(),
    provenance={"inputs": [{"name": "facts", "shape": [5], "dtype": "int64", "batch_axis": 1}]},
    inputs={"image": IMAGE, "facts": ArrayInput((5,), "int64")},
)


@pytest.fixture
def pair_file(save: Callable[..., Path]) -> Path:
    return save(pair(), PAIR, "pair.onnx")


def test_a_mask_of_the_images_own_size_alone_and_in_batches(save: Callable[..., Path]) -> None:
    file = save(colours(), Contract(RULES, SegmentationOutput(labels=("red", "green", "blue"))))
    photograph = np.zeros((30, 20, 3), np.uint8)
    photograph[:, :10, 0] = photograph[:, 10:, 2] = 255
    wide = np.full((5, 50, 3), (0, 255, 0), np.uint8)
    with Predictor(file, device="cpu") as model:
        found = model.predict(photograph)
        many = list(model.predict_many([photograph, wide, photograph, "none.png"], batch_size=2))
        assert model.labels == ("red", "green", "blue")
    assert isinstance(found, Segmentation)
    assert found.mask.shape == (30, 20)
    assert (found.mask[:, :8] == 0).all()
    assert (found.mask[:, 12:] == 2).all()
    assert many[0] == many[2] == found
    assert isinstance(many[1], Segmentation)
    assert (many[1].mask == 1).all()
    assert many[1].mask.shape == (5, 50)
    assert many[3].error is not None
    assert "none.png" in many[3].error
    assert many[3].path == "none.png"


def test_the_order_of_colours_is_that_of_the_contract(save: Callable[..., Path]) -> None:
    rules = ImageInput(3, 8, 8, order="bgr")
    file = save(colours(), Contract(rules, SegmentationOutput(labels=("blue", "green", "red"))))
    red = np.full((8, 8, 3), (255, 0, 0), np.uint8)
    assert Predictor(file, device="cpu").predict(red).areas[0].label == "red"  # type: ignore[attr-defined]
    assert Predictor(file, device="cpu", channels="bgr").predict(red).areas[0].label == "blue"  # type: ignore[attr-defined]


@pytest.mark.parametrize("batched", [True, False])
def test_boxes_with_and_without_a_batch(save: Callable[..., Path], batched: bool) -> None:
    output = DetectionOutput(labels=("cat", "dog"), boxes="boxes", scores="scores", classes="classes", threshold=0.2)
    if batched:
        output = DetectionOutput(labels=("cat",), boxes="boxes", scores="scores", threshold=0.2)
    model = boxes(batched)
    if not batched:
        model.graph.output.append(info("classes", I64, [2]))
    file = save(model, Contract(RULES, output))
    bright, grey = np.full((16, 16, 3), 255, np.uint8), np.full((16, 8, 3), 102, np.uint8)
    found = list(Predictor(file, device="cpu").predict_many([bright, grey, bright]))
    assert all(isinstance(each, Detections) for each in found)
    first, second, third = found
    assert isinstance(first, Detections)
    assert isinstance(second, Detections)
    assert [(d.label, round(d.score, 3), d.box) for d in first.detections] == [
        ("cat" if batched else "dog", 1.0, (2, 4, 6, 8)),
        ("cat", 0.5, (0, 0, 16, 16)),
    ]
    assert [d.box for d in second.detections] == [(0, 4, 2, 8)]
    assert first == third


def test_several_inputs_by_name_and_from_a_file(pair_file: Path, tmp_path: Path) -> None:
    picture, facts = np.full((8, 8), 51, np.uint8), np.arange(5)
    expected = [0.2 + 10]
    with Predictor(pair_file, device="cpu") as model:
        found = model.predict({"image": picture, "facts": facts})
        np.testing.assert_allclose(found.values, expected, rtol=1e-6)
        rows = [{"image": picture, "facts": facts * n} for n in range(3)]
        many = list(model.predict_many(rows))
        np.testing.assert_allclose([each.values for each in many], [[0.2], [10.2], [20.2]], rtol=1e-6)
        Image.fromarray(picture).save(tmp_path / "picture.png")
        np.testing.assert_allclose(
            model.predict({"image": str(tmp_path / "picture.png"), "facts": facts}).values, expected, rtol=1e-6
        )
        np.savez(tmp_path / "one.npz", image=picture, facts=facts)
        assert model.predict(tmp_path / "one.npz").path == str(tmp_path / "one.npz")
        np.savez(tmp_path / "two.npz", image=np.stack([picture, picture]), facts=np.stack([facts, facts * 2], axis=1))
        answers = predict(model, tmp_path)
    assert [Path(str(each.path)).name for each in answers] == ["one.npz", "two.npz[0]", "two.npz[1]"]
    np.testing.assert_allclose([each.values for each in answers], [expected, expected, [20.2]], rtol=1e-6)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ({"image": np.zeros((8, 8), np.uint8)}, "no values for the input 'facts'"),
        ({"image": np.zeros((8, 8), np.uint8), "facts": np.arange(5), "more": 1}, "has no input 'more'"),
        ({"image": np.zeros((8, 8), np.uint8), "facts": np.arange(4)}, r"the input 'facts': the array has shape \(4,\)"),
        ({"image": np.zeros((8, 8), np.float32), "facts": np.arange(5)}, "the input 'image': an image cannot be"),
        (np.zeros((8, 8), np.uint8), "the inputs image, facts cannot be a ndarray"),
        ("none.npz", "none.npz is not there"),
        (3, "cannot be an int"),
    ],
)
def test_what_cannot_be_several_inputs(pair_file: Path, source: Any, problem: str) -> None:
    with Predictor(pair_file, device="cpu") as model:
        with pytest.raises((InputError, ImageError), match=problem):
            model.predict(source)
        if not isinstance(source, (np.ndarray, int)):
            assert "\n" not in str(next(iter(model.predict_many([source]))).error)
        with pytest.raises(InputError):
            model.predict_many(np.zeros((2, 8, 8), np.uint8))


def test_batches_of_different_sizes_in_a_file(pair_file: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", image=np.zeros((2, 8, 8), np.uint8), facts=np.zeros((5, 3), np.int64))
    with Predictor(pair_file, device="cpu") as model:
        (answer,) = predict(model, [tmp_path / "odd.npz"])
        assert answer.error is not None
        assert "batches of different sizes (2, 3)" in answer.error
        np.savez(tmp_path / "odd.npz", image=np.zeros((3, 8, 8), np.uint8), facts=np.zeros((5, 3), np.int64))
        with pytest.raises(InputError, match="holds 3 samples; ask about several with predict_many"):
            model.predict(tmp_path / "odd.npz")


def test_an_output_that_is_not_the_first(save: Callable[..., Path]) -> None:
    model = linear()
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["shares"]))
    model.graph.output.append(info("shares", F, ["batch", 10]))
    digit = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    plain = Predictor(save(model, Contract(DIGITS, Output("softmax", LABELS)), "a.onnx"), device="cpu").predict(digit)
    second = Predictor(save(model, Contract(DIGITS, Output("none", LABELS, name="shares")), "b.onnx"), device="cpu").predict(digit)
    assert isinstance(second, Classification)
    assert second.label == plain.label
    assert second.score == pytest.approx(plain.score)
    with pytest.raises(ContractError, match="an output 'absent'"):
        Predictor(save(model, Contract(DIGITS, Output(name="absent")), "c.onnx"), device="cpu")


def test_a_batch_of_one_size_is_filled_up_and_images_may_be_open_files(save: Callable[..., Path]) -> None:
    model = linear(batch=4)
    file = save(model, Contract(DIGITS, EmbeddingOutput(normalize=True)))
    stream = io.BytesIO()
    Image.new("L", (9, 7), 200).save(stream, "PNG")
    with Predictor(file, device="cpu") as predictor:
        found = list(predictor.predict_many([stream.getvalue()] * 5))
        alone = predictor.predict({"input": io.BytesIO(stream.getvalue())})
    assert len(found) == 5
    assert all(isinstance(each, Embedding) and each == alone for each in found)
    assert np.linalg.norm(alone.values) == pytest.approx(1, abs=1e-6)  # type: ignore[arg-type]


def test_warming_up_knows_the_sizes_of_every_input(pair_file: Path) -> None:
    with Predictor(pair_file, device="cpu") as model:
        model.warm_up(2)
