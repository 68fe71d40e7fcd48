from __future__ import annotations

import logging
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image
from small_models import DIGITS, LABELS, build, linear

from deploykit.errors import ContractError, DeviceUnavailable, ImageError, InputError, ModelFileError
from deploykit.runtime import Prediction, Predictor
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput, Output
from deploykit.runtime.libraries import load_driver
from deploykit.runtime.prediction import probabilities

NO_CUDA_HERE = load_driver() is not None or sys.platform != "linux"
without_cuda = pytest.mark.skipif(not NO_CUDA_HERE, reason="this machine has an NVIDIA driver")


@pytest.fixture
def digit() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (8, 8), dtype=np.uint8)


def expected(digit: np.ndarray, weight: np.ndarray) -> np.ndarray:
    logits = ((digit.astype(np.float64) / 255 - 0.5) / 0.5).reshape(1, -1) @ weight.astype(np.float64)
    p = np.exp(logits - logits.max())
    return (p / p.sum())[0]


def test_predict_gives_the_best_label_and_its_probability(digits_file: Path, digit: np.ndarray, weight_of: np.ndarray) -> None:
    want = expected(digit, weight_of)
    with Predictor(digits_file, device="cpu") as model:
        answer = model.predict(digit, top=4)
    assert answer.index == want.argmax()
    assert answer.label == LABELS[int(want.argmax())]
    assert answer.score == pytest.approx(want.max(), abs=1e-6)
    order = np.argsort(-want)[:4]
    assert [c.index for c in answer.top] == order.tolist()
    assert [c.score for c in answer.top] == pytest.approx(want[order], abs=1e-6)
    assert answer.ok
    assert answer.error is None
    assert answer.values is None


def test_top_larger_than_the_classes_gives_them_all(digits_file: Path, digit: np.ndarray) -> None:
    answer = Predictor(digits_file, device="cpu").predict(digit, top=50)
    assert len(answer.top) == 10
    assert sum(c.score for c in answer.top) == pytest.approx(1)


def test_predictions_are_frozen_and_comparable(digits_file: Path, regression_file: Path, digit: np.ndarray) -> None:
    model = Predictor(digits_file, device="cpu")
    a, b = model.predict(digit), model.predict(digit)
    assert a == b
    assert hash(a) == hash(b)
    assert a != model.predict(255 - digit)
    with pytest.raises(FrozenInstanceError):
        a.label = "x"  # type: ignore[misc]
    numbers = Predictor(regression_file, device="cpu")
    one, two = numbers.predict(np.ones(3, np.float32)), numbers.predict(np.zeros(3, np.float32))
    assert one == numbers.predict(np.ones(3, np.float32))
    assert one != two
    assert one != a
    assert Prediction() != "x"
    assert one.values is not None
    with pytest.raises(ValueError, match="read-only"):
        one.values[0] = 5


def test_regression_gives_values_and_no_label(regression_file: Path) -> None:
    answer = Predictor(regression_file, device="cpu").predict(np.array([1, 2, 3], np.float64))
    assert answer.label is None
    assert answer.score is None
    assert answer.top == ()
    assert answer.values is not None
    assert answer.values.tolist() == [2, 4]
    assert answer.as_dict() == {"path": None, "label": None, "score": None, "top": [], "error": None, "values": [2.0, 4.0]}


def test_npy_files_for_networks_that_take_arrays(regression_file: Path, tmp_path: Path) -> None:
    model = Predictor(regression_file, device="cpu")
    good = tmp_path / "good.npy"
    np.save(good, np.array([1, 2, 3], np.float32))
    assert model.predict(good).path == str(good)
    assert model.predict(str(good)).values.tolist() == [2, 4]  # type: ignore[union-attr]
    fortran = tmp_path / "big-endian.npy"
    np.save(fortran, np.array([1, 2, 3], ">f8"))
    assert model.predict(fortran).values.tolist() == [2, 4]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "make", ["pickle", "truncated", "claims-too-much", "text", "empty", "bad-header", "shape", "nan", "complex"]
)
def test_hostile_npy_files(regression_file: Path, tmp_path: Path, make: str) -> None:
    path = tmp_path / "x.npy"
    whole = tmp_path / "whole.npy"
    np.save(whole, np.zeros(3, np.float32))
    data = whole.read_bytes()
    if make == "pickle":
        np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    elif make == "nan":
        np.save(path, np.array([1, np.nan, 3], np.float32))
    elif make == "complex":
        np.save(path, np.zeros(3, np.complex64))
    elif make == "shape":
        np.save(path, np.zeros((3, 3), np.float32))
    else:
        path.write_bytes(
            {
                "truncated": data[:-3],
                "claims-too-much": data.replace(b"(3,), }      ", b"(3000000000,)}"[:13].ljust(13)),
                "text": b"1 2 3",
                "empty": b"",
                "bad-header": data[:12] + b"__import__('os').abort()".ljust(len(data) - 12, b"\n"),
            }[make]
        )
    model = Predictor(regression_file, device="cpu")
    with pytest.raises(InputError, match=r"x\.npy|\[nan\]") as error:
        model.predict(path)
    assert "\n" not in str(error.value)
    assert model.predict(whole).values.tolist() == [0, 0]  # type: ignore[union-attr]


# --- run: the raw output, and what it refuses ---


def test_run_gives_the_first_output_raw(digits_file: Path, weight_of: np.ndarray) -> None:
    x = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
    model = Predictor(digits_file, device="cpu")
    np.testing.assert_allclose(model.run(x), x.reshape(5, -1) @ weight_of, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.run({"input": x}), model.run(x))
    assert list(model.run_all(x)) == ["logits"]


def test_arrays_need_not_be_contiguous(digits_file: Path) -> None:
    x = np.random.default_rng(0).normal(size=(8, 8, 1, 10)).astype(np.float32).transpose(3, 2, 0, 1)
    assert not x.flags.c_contiguous
    model = Predictor(digits_file, device="cpu")
    np.testing.assert_array_equal(model.run(x), model.run(np.ascontiguousarray(x)))
    np.testing.assert_array_equal(model.run(x[::-2]), model.run(x.copy())[::-2])


BAD_ARRAYS = {
    "rank": (np.zeros((1, 8, 8), np.float32), r"3 axes instead of 4; a batch of one is array\[None\]"),
    "more axes": (np.zeros((1, 1, 1, 8, 8), np.float32), "5 axes instead of 4"),
    "scalar": (np.float32(3), "cannot be a float32"),
    "float64": (np.zeros((1, 1, 8, 8)), r"cannot be float64; convert it: array.astype\('float32'\)"),
    "uint8": (np.zeros((1, 1, 8, 8), np.uint8), "cannot be uint8"),
    "big endian": (np.zeros((1, 1, 8, 8), ">f4"), "cannot be >f4"),
    "object": (np.full((1, 1, 8, 8), None), "cannot be object"),
    "text": (np.full((1, 1, 8, 8), "a"), "cannot be <U1"),
    "size": (np.zeros((1, 1, 8, 9), np.float32), "axis 3 must be 8"),
    "empty batch": (np.zeros((0, 1, 8, 8), np.float32), "is empty"),
    "nan": (np.full((1, 1, 8, 8), np.nan, np.float32), r"has nan at \(0, 0, 0, 0\)"),
    "infinity": (np.full((1, 1, 8, 8), -np.inf, np.float32), "has -inf"),
    "list": ([[1.0]], "cannot be a list"),
    "none": (None, "cannot be a NoneType"),
    "unknown name": ({"inpt": np.zeros((1, 1, 8, 8), np.float32)}, "has no input 'inpt'; its inputs are: input"),
    "no name": ({}, "needs the input 'input'"),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused_in_one_line_and_the_session_lives(digits_file: Path, case: str) -> None:
    array, message = BAD_ARRAYS[case]
    model = Predictor(digits_file, device="cpu")
    with pytest.raises(InputError, match=message) as error:
        model.run(array)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    with pytest.raises(InputError):
        model.run_all(array)  # type: ignore[arg-type]
    assert model.run(np.zeros((1, 1, 8, 8), np.float32)).shape == (1, 10)


def test_nan_passes_where_the_app_says_so(digits_file: Path) -> None:
    model = Predictor(digits_file, device="cpu", check_finite=False)
    assert np.isnan(model.run(np.full((1, 1, 8, 8), np.nan, np.float32))).all()


def test_what_the_engine_refuses_is_typed(save) -> None:
    model = build(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}1"]) for name in "ab"],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, ["n"])],
    )
    two = Predictor(save(model), device="cpu")
    a = np.ones(3, np.float32)
    assert two.run({"a": a, "b": a}).tolist() == [2, 2, 2]
    with pytest.raises(ModelFileError, match="failed to run") as error:
        two.run({"a": a, "b": np.ones(2, np.float32)})
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="has 2 inputs"):
        two.run(a)
    assert two.run({"a": a, "b": a}).tolist() == [2, 2, 2]


def test_the_engine_prints_nothing(save, capfd: pytest.CaptureFixture[str]) -> None:
    model = build(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}1"]) for name in "ab"],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, ["n"])],
    )
    two = Predictor(save(model), device="auto")
    with pytest.raises(ModelFileError):
        two.run({"a": np.ones(3, np.float32), "b": np.ones(2, np.float32)})
    with pytest.raises(ModelFileError):
        Predictor(b"\x08\x08 not an ONNX file", device="auto")
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == ""


# --- files that are not what they should be ---


def test_a_file_without_contract_runs_but_does_not_predict(save, digit: np.ndarray) -> None:
    model = Predictor(save(linear()), device="cpu")
    assert model.contract is None
    assert model.run(np.zeros((2, 1, 8, 8), np.float32)).shape == (2, 10)
    with pytest.raises(ContractError, match=r"has no contract.*'input' float32 \(any, 1, 8, 8\).*give arrays to run"):
        model.predict(digit)
    with pytest.raises(ContractError, match="has no contract"):
        model.predict_many([digit])


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 100, b"\x7fELF" + b"\1" * 500, b"{}", "half", "all but one"])
def test_damaged_files(tmp_path: Path, digits_file: Path, content: bytes | str) -> None:
    whole = digits_file.read_bytes()
    data = {"half": whole[: len(whole) // 2], "all but one": whole[:-1]}[content] if isinstance(content, str) else content
    path = tmp_path / "broken.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"broken\.onnx") as error:
        Predictor(path, device="cpu")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_every_truncation_is_refused_or_has_no_contract(digits_file: Path) -> None:
    """A protobuf cut between two fields can still be a model; it must then not pass for the whole file."""
    whole = digits_file.read_bytes()
    for end in range(0, len(whole), 37):
        try:
            model = Predictor(whole[:end], device="cpu")
        except (ModelFileError, ContractError):
            continue
        assert model.contract is None


def test_missing_and_odd_files(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no file"):
        Predictor(tmp_path / "none.onnx")
    with pytest.raises(ModelFileError, match="is a folder"):
        Predictor(tmp_path)
    with pytest.raises(InputError, match="a model cannot be an int"):
        Predictor(3)  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match="cannot open"):
        Predictor("a\0b")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ModelFileError, match="no ordinary file"):
            Predictor(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="no ordinary file"):
        Predictor("/dev/zero")


def test_a_file_that_is_replaced_or_removed_keeps_answering(tmp_path: Path, digits_file: Path, digit: np.ndarray) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(digits_file.read_bytes())
    model = Predictor(path, device="cpu")
    before = model.predict(digit)
    path.write_bytes(b"something else")
    assert model.predict(digit) == before
    path.unlink()
    assert model.predict(digit) == before


def test_a_file_replaced_while_loading_is_old_or_new_or_refused(tmp_path: Path, digits_file: Path, save, digit: np.ndarray) -> None:
    """The writer renames, as deploykit does: every load sees one whole file."""
    path = tmp_path / "live.onnx"
    versions = [
        digits_file.read_bytes(),
        save(linear(classes=3), Contract(DIGITS, Output("softmax", ("a", "b", "c")))).read_bytes(),
    ]
    path.write_bytes(versions[0])
    stop = threading.Event()

    def replace() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            (tmp_path / "new").write_bytes(versions[turn % 2])
            (tmp_path / "new").replace(path)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        seen = {len(Predictor(path, device="cpu").predict(digit, top=99).top) for _ in range(60)}
    finally:
        stop.set()
        thread.join()
    assert seen <= {10, 3}


CONTRACTS_AT_ODDS = {
    "channels": (Contract(ImageInput(3, 8, 8), Output("softmax", LABELS)), "3 along axis 1"),
    "height": (Contract(ImageInput(1, 9, 8), Output("softmax", LABELS)), "9 along axis 2"),
    "labels": (Contract(DIGITS, Output("softmax", ("a", "b"))), "2 labels"),
    "array": (Contract(ArrayInput((64,)), Output("softmax", LABELS)), "an input of 2 axes"),
    "dtype": (Contract(ArrayInput((1, 8, 8), "int64"), Output()), "another type of input"),
    "no dtype": (Contract(ArrayInput((1, 8, 8), "nonsense"), Output()), "is no type of number"),
    "in the graph": (Contract(DIGITS, Output("softmax", LABELS), preprocessing_in_graph=True), "uint8 input"),
    "array in the graph": (Contract(ArrayInput((1, 8, 8)), Output(), preprocessing_in_graph=True), "no image"),
}


@pytest.mark.parametrize("case", CONTRACTS_AT_ODDS)
def test_contract_and_graph_at_odds(save, case: str) -> None:
    contract, message = CONTRACTS_AT_ODDS[case]
    with pytest.raises(ContractError, match=message) as error:
        Predictor(save(linear(), contract), device="cpu")
    assert "\n" not in str(error.value)


def test_softmax_over_an_image_is_at_odds(save) -> None:
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 1, 8, 8]) for n in ("input", "out")]
    model = build([helper.make_node("Identity", ["input"], ["out"])], info[:1], info[1:])
    with pytest.raises(ContractError, match="one row of scores per sample"):
        Predictor(save(model, Contract(DIGITS, Output("softmax"))), device="cpu")
    answer = Predictor(save(model, Contract(DIGITS, Output())), device="cpu").predict(np.zeros((8, 8), np.uint8))
    assert answer.values is not None
    assert answer.values.shape == (1, 8, 8)


def test_newer_and_forged_contracts(save) -> None:
    text = Contract(DIGITS, Output("softmax", LABELS)).dumps()
    with pytest.raises(ContractError, match=r"model\.onnx: .*version 3.*reads 1 to 2; update deploykit"):
        Predictor(save(linear(), text.replace('"version":1', '"version":3')), device="cpu")
    for forged in (
        "",
        "{",
        "[]",
        "null",
        "{}",
        text.replace('"height":8', '"height":1e9'),
        text.replace("image", "picture"),
        "[" * 100_000,
    ):
        with pytest.raises(ContractError):
            Predictor(save(linear(), forged), device="cpu")


# --- graphs of other shapes ---


def test_a_fixed_batch_is_filled_up(save, digit: np.ndarray, digits_file: Path) -> None:
    contract = Contract(DIGITS, Output("softmax", LABELS))
    fixed = Predictor(save(linear(batch=4), contract), device="cpu")
    free = Predictor(digits_file, device="cpu")
    pictures = [np.roll(digit, k) for k in range(7)]
    assert [p.label for p in fixed.predict_many(pictures)] == [p.label for p in free.predict_many(pictures)]
    assert fixed.predict(digit).score == pytest.approx(free.predict(digit).score)


def test_half_precision_inputs(save, digit: np.ndarray, digits_file: Path) -> None:
    half = Predictor(save(linear(elem=TensorProto.FLOAT16), Contract(DIGITS, Output("softmax", LABELS))), device="cpu")
    assert half.predict(digit).score == pytest.approx(Predictor(digits_file, device="cpu").predict(digit).score, abs=5e-3)


def test_preprocessing_in_the_graph_takes_images_of_any_size(save) -> None:
    model = build(
        [
            helper.make_node("Cast", ["input"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["f", "axes"], ["out"], keepdims=0),
        ],
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3])],
        {"axes": np.array([1, 2], np.int64)},
    )
    contract = Contract(ImageInput(3, 8, 8), Output("none", ("red", "green", "blue")), preprocessing_in_graph=True)
    predictor = Predictor(save(model, contract), device="cpu")
    pictures = [np.full((4 + k % 3, 5, 3), (k, 20 - k, 0), np.uint8) for k in range(12)]
    answers = list(predictor.predict_many(pictures, batch_size=5))
    assert [a.label for a in answers] == ["green"] * 10 + ["red"] * 2
    assert [a.score for a in answers] == [max(k, 20 - k) for k in range(12)]
    predictor.warm_up(1)


@pytest.mark.parametrize(
    ("shape", "other"),
    [(["n", "t"], ["n", "t"]), (["batch", 3, "h", "w"], ["batch"]), ([-1, 3, -1, -1], [-1]), (["batch", 0], ["batch"])],
)
def test_a_file_is_warmed_up_at_sizes_that_fit_together(save, shape, other) -> None:
    """Two inputs of the same names; a window of 11 pixels; open sizes as Paddle writes them; a fixed size of 0."""
    nodes = (
        [helper.make_node("Add", ["a", "b"], ["out"])]
        if len(shape) == 2 and shape[1]
        else [helper.make_node("Identity", ["a"], ["out"])]
    )
    weights = {}
    if len(shape) == 4:
        nodes, weights = [helper.make_node("Conv", ["a", "w"], ["out"])], {"w": np.ones((1, 3, 11, 11), np.float32)}
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name, sizes in (("a", shape), ("b", other))]
    model = build(nodes, values, [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None] * len(shape))], weights)
    Predictor(save(model, None), device="cpu").warm_up(1, batch=2)


def test_a_fixed_size_of_zero_is_asked_for_as_any_other(save) -> None:
    model = build(
        [helper.make_node("Concat", ["past", "new"], ["out"], axis=1)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 2]) for name, size in (("past", 0), ("new", 3))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 3, 2])],
    )
    predictor = Predictor(save(model, None), device="cpu")
    new = np.ones((1, 3, 2), np.float32)
    np.testing.assert_array_equal(predictor.run({"past": np.zeros((1, 0, 2), np.float32), "new": new}), new)
    with pytest.raises(InputError, match="axis 1 must be 0"):
        predictor.run({"past": np.zeros((1, 1, 2), np.float32), "new": new})


def test_a_network_that_sums_over_the_batch_gets_samples_one_by_one(save) -> None:
    model = build(
        [helper.make_node("ReduceSum", ["input"], ["out"], keepdims=0)],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [])],
    )
    predictor = Predictor(save(model, Contract(ArrayInput((3,)), Output())), device="cpu")
    answers = list(predictor.predict_many([np.full(3, k, np.float32) for k in range(5)]))
    assert [float(a.values) for a in answers] == [0, 3, 6, 9, 12]  # type: ignore[arg-type]


def test_sigmoid_and_unnamed_classes(save, digit: np.ndarray, weight_of: np.ndarray) -> None:
    logits = ((digit.astype(np.float64) / 255 - 0.5) / 0.5).reshape(1, -1) @ weight_of
    many = Predictor(save(linear(), Contract(DIGITS, Output("sigmoid", LABELS))), device="cpu").predict(digit, top=10)
    for candidate in many.top:
        assert candidate.score == pytest.approx(1 / (1 + np.exp(-logits[0, candidate.index])), abs=1e-6)
    unnamed = Predictor(save(linear(), Contract(DIGITS, Output("softmax"))), device="cpu").predict(digit)
    assert unnamed.label == str(unnamed.index)


def test_softmax_of_logits_that_overflow_as_powers() -> None:
    """exp(710) is infinite in float64, and exp(-800) is 0."""
    raw = np.array([[710, 709, 0], [3e38, 3e38, -3e38], [-800, -801, -802]], np.float32)
    scores = probabilities(raw, "softmax")
    e = np.exp(-1.0)
    np.testing.assert_allclose(scores[0], [1 / (1 + e), e / (1 + e), 0], atol=1e-12)
    np.testing.assert_allclose(scores[1], [0.5, 0.5, 0], atol=1e-12)
    np.testing.assert_allclose(scores[2], np.exp([0, -1, -2]) / np.exp([0, -1, -2]).sum(), rtol=1e-12)
    np.testing.assert_allclose(probabilities(np.array([[710, -710]], np.float32), "sigmoid"), [[1, 0]], atol=1e-300)


def test_an_output_that_is_not_finite_is_no_answer(save, digit: np.ndarray) -> None:
    model = build(
        [helper.make_node("Flatten", ["input"], ["f"]), helper.make_node("Log", ["f"], ["logits"])],
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 64])],
    )
    predictor = Predictor(save(model, Contract(ImageInput(1, 8, 8), Output("softmax"))), device="cpu")
    black, white = np.zeros((8, 8), np.uint8), np.full((8, 8), 255, np.uint8)
    with pytest.raises(ModelFileError, match="not finite"):
        predictor.predict(black)
    assert [a.ok for a in predictor.predict_many([white, black, white])] == [True, False, True]


def test_custom_image_shapes_and_bad_images(digits_file: Path) -> None:
    model = Predictor(digits_file, device="cpu", max_pixels=1000)
    for good in (
        np.zeros((5, 7), np.uint8),
        np.zeros((5, 7, 1), np.uint8),
        np.zeros((5, 7, 3), np.uint8),
        np.zeros((5, 7, 4), np.uint8),
    ):
        assert model.predict(good).ok
    for bad in (
        np.zeros((5, 7, 2), np.uint8),
        np.zeros((0, 7), np.uint8),
        np.zeros((5, 7)),
        np.zeros(5, np.uint8),
        np.zeros((99, 99), np.uint8),
        3,
        None,
        b"",
        "no",
    ):
        with pytest.raises(ImageError):
            model.predict(bad)


@pytest.mark.parametrize("top", [0, -1, 1.5, True, "3"])
def test_top_must_be_a_count(digits_file: Path, digit: np.ndarray, top: object) -> None:
    with pytest.raises(InputError, match="top cannot be"):
        Predictor(digits_file, device="cpu").predict(digit, top=top)  # type: ignore[arg-type]


# --- devices, threads, life ---


@without_cuda
def test_cuda_is_refused_with_the_missing_library(digits_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        DeviceUnavailable, match=r"device 'cuda' was asked for.*(libcuda\.so\.1|no CUDA provider).*deploykit doctor"
    ) as error:
        Predictor(digits_file, device="cuda")
    assert error.value.exit_status == 3
    assert capfd.readouterr() == ("", "")


@without_cuda
def test_auto_falls_back_and_says_so_once(
    digits_file: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO, "deploykit.runtime"):
        model = Predictor(digits_file)
        model.predict(np.zeros((8, 8), np.uint8))
    assert model.device == "cpu"
    assert model.device_note.startswith("CUDA is not used: ")
    assert model.providers == ("CPUExecutionProvider",)
    assert len(caplog.records) == 1
    assert model.device_note in caplog.text
    assert capfd.readouterr() == ("", "")


def test_a_provider_that_fails_late_is_found_out_and_quiet(
    digits_file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The look at the libraries finds nothing wrong, onnxruntime still drops CUDA: the session is believed, not the look."""
    import onnxruntime

    from deploykit.runtime import providers

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built without CUDA")
    if not NO_CUDA_HERE:
        pytest.skip("this machine has an NVIDIA driver")
    monkeypatch.setattr(providers, "cuda_obstacle", lambda thorough: None)
    with pytest.raises(DeviceUnavailable, match=r"lib\w+\.so"):
        Predictor(digits_file, device="cuda")
    assert Predictor(digits_file, device="auto").device == "cpu"
    os.write(2, b"mine\n")
    assert capfd.readouterr() == ("", "mine\n")
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        Predictor(b"nonsense", device="cuda")


def test_lines_of_others_survive_while_stderr_is_held(capfd: pytest.CaptureFixture[str]) -> None:
    from deploykit.runtime.quiet import held_stderr

    with held_stderr() as held:
        os.write(2, b"theirs\n\x1b[1;31m2026-01-01 [E:onnxruntime:Default, x.cc:1 f] with error: libx.so.1: no such file\x1b[m\n")
        print("also theirs", file=sys.stderr, flush=True)
    assert "libx.so.1" in held.text
    assert "\x1b" not in held.text
    assert sorted(capfd.readouterr().err.split("\n")) == ["", "also theirs", "theirs"]


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "CUDA", "cuda:1234", None, 3])
def test_unknown_devices(digits_file: Path, device: object) -> None:
    with pytest.raises(InputError, match="unknown device"):
        Predictor(digits_file, device=device)  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, -1, 2.0, True, 5000])
def test_unusable_thread_counts(digits_file: Path, threads: object) -> None:
    with pytest.raises(InputError, match="threads cannot be"):
        Predictor(digits_file, device="cpu", threads=threads)  # type: ignore[arg-type]


def test_options_do_not_change_answers(digits_file: Path, digit: np.ndarray) -> None:
    plain = Predictor(digits_file, device="cpu").predict(digit)
    for options in ({"threads": 1}, {"spinning": False}, {"warm_up": 3}, {"io_binding": True}):
        assert Predictor(digits_file, device="cpu", **options).predict(digit) == plain  # type: ignore[arg-type]
    with pytest.raises(InputError, match="CUDA graph"):
        Predictor(digits_file, device="cpu", cuda_graph=True)
    with pytest.raises(InputError, match="warm_up cannot be -1"):
        Predictor(digits_file, device="cpu", warm_up=-1)


def test_closing(digits_file: Path, digit: np.ndarray) -> None:
    with Predictor(digits_file, device="cpu") as model:
        pending = model.predict_many([digit] * 3, batch_size=1)
        assert next(pending).ok
    model.close()
    x = np.zeros((1, 1, 8, 8), np.float32)
    for call in (lambda: model.predict(digit), lambda: model.run(x), lambda: model.predict_many([digit]), lambda: model.run_all(x)):
        with pytest.raises(InputError, match="closed"):
            call()
    assert "closed" in repr(model)
    assert [answer.error is not None and "closed" in answer.error for answer in pending] == [True, True]


def test_eight_threads_share_one_predictor(digits_file: Path) -> None:
    pictures = [np.random.default_rng(k).integers(0, 256, (8, 8), dtype=np.uint8) for k in range(500)]
    with Predictor(digits_file, device="cpu") as model:
        alone = [model.predict(p, top=3) for p in pictures]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda _: [model.predict(p, top=3) for p in pictures], range(8)))
    for answers in together:
        assert answers == alone


def test_two_predictors_do_not_meet(digits_file: Path, save, digit: np.ndarray) -> None:
    other = Predictor(save(linear(classes=3), Contract(DIGITS, Output("softmax", ("a", "b", "c")))), device="cpu")
    one = Predictor(digits_file, device="cpu")
    before = one.predict(digit)
    other.close()
    assert one.predict(digit) == before


def test_the_model_may_be_bytes(digits_file: Path, digit: np.ndarray) -> None:
    assert Predictor(digits_file.read_bytes(), device="cpu").predict(digit) == Predictor(digits_file, device="cpu").predict(digit)


# --- weights outside the file ---


@pytest.fixture
def external(tmp_path: Path) -> Path:
    folder = tmp_path / "inside"
    folder.mkdir()
    onnx.save(linear(), folder / "big.onnx", save_as_external_data=True, location="big.data", size_threshold=0)
    return folder / "big.onnx"


def point_to(path: Path, location: str) -> None:
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(model.SerializeToString())


def test_external_weights_beside_the_file(external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.ones((1, 1, 8, 8), np.float32)
    want = Predictor(linear().SerializeToString(), device="cpu").run(x)
    np.testing.assert_array_equal(Predictor(external, device="cpu").run(x), want)
    monkeypatch.chdir(external.parent)
    np.testing.assert_array_equal(Predictor("big.onnx", device="cpu").run(x), want)
    with pytest.raises(ModelFileError, match="give its path instead of its bytes"):
        Predictor(external.read_bytes(), device="cpu")


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "gone", "folder", "long"])
def test_external_weights_must_stay_inside_the_folder(external: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "secret.data"
    (external.parent / "big.data").replace(outside)
    (external.parent / "sub").mkdir()
    (external.parent / "link").symlink_to(outside)
    location = {
        "parent": "../secret.data",
        "absolute": str(outside),
        "link": "link",
        "gone": "gone.data",
        "folder": "sub",
        "long": "x" * 5000,
    }[kind]
    point_to(external, location)
    with pytest.raises(
        ModelFileError, match="outside its folder" if kind in ("parent", "absolute", "link") else "big.onnx"
    ) as error:
        Predictor(external, device="cpu")
    assert len(str(error.value)) < 500


# --- values that are not one full array ---


def test_an_empty_cache_of_a_decoders_first_step() -> None:
    """past (batch, n, 4) and k (batch, m, 4) -> their sum along the sequence, n = 0 included."""
    info = helper.make_tensor_value_info
    model = build(
        [
            helper.make_node("Concat", ["past", "k"], ["all"], axis=1),
            helper.make_node("ReduceSum", ["all", "axis"], ["y"], keepdims=0),
        ],
        [info("past", TensorProto.FLOAT, ["batch", "n", 4]), info("k", TensorProto.FLOAT, ["batch", "m", 4])],
        [info("y", TensorProto.FLOAT, ["batch", 4])],
        {"axis": np.array([1])},
    )
    k = np.ones((1, 3, 4), np.float32)
    for options in ({}, {"io_binding": True}, {"check_finite": False}):
        predictor = Predictor(model.SerializeToString(), device="cpu", **options)  # type: ignore[arg-type]
        for past in (0, 2, 0, 0):
            found = predictor.run_all({"past": np.ones((1, past, 4), np.float32), "k": k})["y"]
            assert found.tolist() == [[3 + past] * 4]
        assert predictor.run({"past": np.ones((0, 0, 4), np.float32), "k": k[:0]}).shape == (0, 4)


def test_an_axis_whose_size_is_0(regression_file: Path) -> None:
    """The file fixes it: any other size is refused. With a contract the first axis is the batch, and cannot be empty."""
    info = helper.make_tensor_value_info
    model = build(
        [helper.make_node("ReduceSum", ["x", "axis"], ["y"], keepdims=0)],
        [info("x", TensorProto.FLOAT, [2, 0, 4])],
        [info("y", TensorProto.FLOAT, [2, 4])],
        {"axis": np.array([1])},
    )
    predictor = Predictor(model.SerializeToString(), device="cpu")
    assert predictor.inputs[0].shape == (2, 0, 4)
    assert predictor.run(np.zeros((2, 0, 4), np.float32)).tolist() == [[0] * 4] * 2
    with pytest.raises(InputError, match="axis 1 must be 0"):
        predictor.run(np.zeros((2, 1, 4), np.float32))
    with pytest.raises(InputError, match="at least one sample"):
        Predictor(regression_file, device="cpu").run(np.zeros((0, 3), np.float32))


@pytest.mark.parametrize("io_binding", [False, True])
def test_a_sequence_is_a_list_of_arrays(io_binding: bool) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    model = build(
        [helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)],
        [sequence],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    predictor = Predictor(model.SerializeToString(), device="cpu", io_binding=io_binding)
    one, two = np.array([1, 2], np.float32), np.array([3], np.float32)
    for _ in range(2):
        assert predictor.run([one, two]).tolist() == [1, 2, 3]  # type: ignore[arg-type]
        assert predictor.run_all({"s": [two]})["y"].tolist() == [3]  # type: ignore[dict-item]
    for bad, words in (
        (one, "cannot be a ndarray; give a list of arrays"),
        ((one, two), "cannot be a tuple"),
        (None, "cannot be a NoneType"),
        ([one, 3.0], "cannot hold float at place 1; give arrays of float32"),
        ([one.astype(np.float64)], "cannot hold float64 at place 0"),
        ([one, np.array([np.nan], np.float32)], "place 1, has nan"),
    ):
        with pytest.raises(InputError, match=words):
            predictor.run({"s": bad})  # type: ignore[dict-item]
    with pytest.raises(InputError, match=r"no zeros for the input 's'.*warm_up\(inputs=...\)"):
        predictor.warm_up()
    predictor.warm_up(inputs={"s": [one]})  # type: ignore[dict-item]


def test_warming_up_a_file_with_free_sizes() -> None:
    """Twelve numbers at least: zeros of the usual size are not what it takes, which is the caller's to know."""
    info = helper.make_tensor_value_info
    model = build(
        [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[12])],
        [info("x", TensorProto.FLOAT, ["n", 1, "length"])],
        [info("y", TensorProto.FLOAT, ["n", 1, "shorter"])],
    ).SerializeToString()
    predictor = Predictor(model, device="cpu")
    mine = np.ones((2, 1, 17), np.float32)
    predictor.warm_up(2, inputs=mine)
    predictor.warm_up(0)
    assert predictor.run(mine).shape == (2, 1, 6)
    with pytest.raises(InputError, match=r"warmed up on zeros: x \(\d+, 1, \d+\); give inputs of your own") as error:
        predictor.warm_up()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("alpha", [False, True], ids=["3 channels", "4 channels"])
def test_frames_of_opencv_are_turned_where_the_predictor_is_told_so(save, alpha: bool, tmp_path: Path) -> None:
    rules = ImageInput(channels=3, height=8, width=8)
    file = save(linear(rules), Contract(rules, Output("softmax", LABELS)))
    pixels = np.random.default_rng(5).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    frame = pixels[:, :, ::-1]
    if alpha:
        frame, pixels = (np.dstack([x, np.full((8, 8), 255, np.uint8)]) for x in (frame, pixels))
    Image.fromarray(pixels).save(tmp_path / "x.png")
    with Predictor(file, "cpu") as rgb, Predictor(file, "cpu", channels="bgr") as bgr:
        want = rgb.predict(pixels).score
        assert rgb.predict(frame).score != want
        assert bgr.predict(frame).score == want
        assert next(bgr.predict_many([frame])).score == want
        grey = pixels[:, :, 0].copy()
        for same in (tmp_path / "x.png", Image.fromarray(pixels), grey):  # these say the order of their colours themselves
            assert bgr.predict(same).score == rgb.predict(same).score
    with pytest.raises(InputError, match='the order of colours cannot be .brg.; choose "rgb", or "bgr" for frames of OpenCV'):
        Predictor(file, "cpu", channels="brg")  # type: ignore[arg-type]


def test_a_tensor_of_torch_is_told_how_it_becomes_an_array(regression_file: Path) -> None:
    class Tensor:
        def detach(self) -> Tensor:
            return self

    with Predictor(regression_file, device="cpu") as model:
        with pytest.raises(InputError, match="cannot be a Tensor.*tensor.cpu"):
            model.predict(Tensor())
        with pytest.raises(InputError, match="cannot be a set.*numpy arrays or .npy files"):
            model.predict({1.0})
