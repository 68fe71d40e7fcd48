"""IO binding: the same logic for CPU and CUDA, here with buffers on the CPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from small_models import build

from deploykit.errors import InputError
from deploykit.runtime import Predictor
from deploykit.runtime.binding import MAX_SHAPES, BoundRunner


@pytest.fixture
def session(digits_file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(digits_file, providers=["CPUExecutionProvider"])


def batch(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(size, 1, 8, 8)).astype(np.float32)


def test_the_numbers_of_a_plain_run(session: onnxruntime.InferenceSession) -> None:
    runner = BoundRunner(session, "cpu", 0, graph=False)
    for seed in range(3):  # the first run of a shape goes plain, the others through the buffers
        for size in (1, 5, 2):
            x = batch(size, seed)
            np.testing.assert_array_equal(runner.run(["logits"], {"input": x})[0], session.run(None, {"input": x})[0])


def test_results_are_the_callers_own(session: onnxruntime.InferenceSession) -> None:
    runner = BoundRunner(session, "cpu", 0, graph=False)
    inputs = [batch(2, seed) for seed in range(4)]
    results = [runner.run(["logits"], {"input": x})[0] for x in inputs]
    for seed, (x, result) in enumerate(zip(inputs, results, strict=True)):
        np.testing.assert_array_equal(x, batch(2, seed))
        np.testing.assert_array_equal(result, session.run(None, {"input": x})[0])


def test_inputs_need_not_be_contiguous(session: onnxruntime.InferenceSession) -> None:
    runner = BoundRunner(session, "cpu", 0, graph=False)
    x = batch(4)
    for _ in range(2):
        got = runner.run(["logits"], {"input": x[::-1]})[0]
    np.testing.assert_array_equal(got, session.run(None, {"input": x[::-1].copy()})[0])


def test_the_number_of_buffers_is_bounded(session: onnxruntime.InferenceSession) -> None:
    runner = BoundRunner(session, "cpu", 0, graph=False)
    for size in range(1, MAX_SHAPES + 8):
        for _ in range(2):
            got = runner.run(["logits"], {"input": batch(size)})[0]
        np.testing.assert_array_equal(got, session.run(None, {"input": batch(size)})[0])
    assert len(runner._buffers) == MAX_SHAPES


def test_texts_are_run_without_buffers(tmp_path: Path) -> None:
    model = build(
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.STRING, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["n"])],
    )
    predictor = Predictor(model.SerializeToString(), device="cpu", io_binding=True)
    words = np.array(["a", "b"], object)
    for _ in range(3):
        assert predictor.run(words).tolist() == ["a", "b"]
    with pytest.raises(InputError, match="cannot be warmed up"):
        predictor.warm_up()


def test_outputs_whose_shape_depends_on_values() -> None:
    model = build(
        [helper.make_node("NonZero", ["x"], ["places"]), helper.make_node("Identity", ["x"], ["same"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [
            helper.make_tensor_value_info("places", TensorProto.INT64, [1, "k"]),
            helper.make_tensor_value_info("same", TensorProto.FLOAT, ["n"]),
        ],
    )
    predictor = Predictor(model.SerializeToString(), device="cpu", io_binding=True)
    kept = []
    for numbers in ([1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 1]):
        x = np.array(numbers, np.float32)
        kept.append((x, predictor.run_all(x)))
    for x, found in kept:  # results of earlier runs are not written over
        np.testing.assert_array_equal(found["places"], np.nonzero(x))
        np.testing.assert_array_equal(found["same"], x)


def test_a_recorded_graph_has_buffers_for_its_outputs(session: onnxruntime.InferenceSession) -> None:
    """The CPU ignores the graph's number; what differs is who makes the outputs."""
    runner = BoundRunner(session, "cpu", 0, graph=True)
    for seed in range(3):
        x = batch(2, seed)
        np.testing.assert_array_equal(runner.run(["logits"], {"input": x})[0], session.run(None, {"input": x})[0])
    (buffers,) = runner._buffers.values()
    assert buffers is not None
    assert buffers.outputs is not None


def test_threads_do_not_mix_their_buffers(digits_file: Path) -> None:
    with Predictor(digits_file, device="cpu", io_binding=True) as model:
        plain = Predictor(digits_file, device="cpu")
        wanted = [plain.run(batch(3, seed)) for seed in range(50)]
        with ThreadPoolExecutor(8) as pool:
            got = list(pool.map(lambda seed: model.run(batch(3, seed % 50)), range(400)))
    for index, found in enumerate(got):
        np.testing.assert_array_equal(found, wanted[index % 50])
