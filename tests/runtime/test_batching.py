"""Every caller gets its own rows, whoever shares the run; the network is asked no more often than needed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from small_models import DIGITS, LABELS, build, linear, with_contract

from deploykit.errors import InputError, ModelFileError, Unavailable
from deploykit.runtime import Batcher, Predictor
from deploykit.runtime.contract import Contract, Output
from deploykit.runtime.rows import are_independent, in_rows


class Gate:
    """A network that doubles its input, holds every run until it is opened, and refuses rows that hold a negative number."""

    def __init__(self, opened=False):
        self.sizes = []
        self.began = threading.Semaphore(0)
        self.open = threading.Event()
        if opened:
            self.open.set()

    def __call__(self, inputs):
        self.sizes.append(len(inputs["x"]))
        self.began.release()
        assert self.open.wait(10)
        if (inputs["x"] < 0).any():
            raise ModelFileError("a negative number")
        return {"y": inputs["x"] * 2, "rows": np.arange(len(inputs["x"]))}


def rows(*values):
    return {"x": np.array([[float(value)] for value in values])}


def held(gate, batcher, *values):
    """A first request that occupies the worker, then one for each of the values."""
    first = batcher.submit(rows(0))
    assert gate.began.acquire(timeout=10)
    return first, [batcher.submit(rows(value)) for value in values]


def test_what_waits_shares_a_run_and_each_gets_its_own_rows():
    gate = Gate()
    with Batcher(gate, max_rows=3) as batcher:
        _, futures = held(gate, batcher, 1, 2, 3, 4, 5)
        assert batcher.figures().waiting == 5
        gate.open.set()
        answers = [future.result(10) for future in futures]
        assert [answer.outputs["y"].tolist() for answer in answers] == [[[2.0]], [[4.0]], [[6.0]], [[8.0]], [[10.0]]]
        assert [answer.rows for answer in answers] == [3, 3, 3, 2, 2]
    assert gate.sizes == [1, 3, 2]
    figures = batcher.figures()
    assert (figures.requests, figures.rows, figures.executions, figures.mean_rows) == (6, 6, 3, 2.0)
    assert {size: count for size, (count, _) in figures.sizes.items()} == {1: 1, 2: 1, 3: 1}
    assert (figures.waiting, figures.running) == (0, 0)


def test_the_rows_of_one_caller_keep_no_others_in_memory():
    gate = Gate()
    with Batcher(gate) as batcher:
        _, futures = held(gate, batcher, 1, 2)
        gate.open.set()
        assert all(future.result(10).outputs["y"].base is None for future in futures)


def test_one_that_is_refused_spoils_no_other():
    gate = Gate()
    with Batcher(gate) as batcher:
        _, futures = held(gate, batcher, 1, -1, 3)
        gate.open.set()
        assert futures[0].result(10).outputs["y"] == 2.0
        with pytest.raises(ModelFileError, match="negative"):
            futures[1].result(10)
        assert futures[2].result(10).outputs["y"] == 6.0
    assert gate.sizes == [1, 3, 1, 1, 1]
    assert (batcher.figures().requests, batcher.figures().failed) == (3, 1)


def test_what_was_given_up_is_not_computed():
    gate = Gate()
    with Batcher(gate) as batcher:
        _, futures = held(gate, batcher, 1, 2, 3)
        assert futures[1].cancel()
        gate.open.set()
        assert futures[2].result(10).outputs["y"] == 6.0
        with pytest.raises(CancelledError):
            futures[1].result(10)
    assert gate.sizes == [1, 2]
    assert batcher.figures().cancelled == 1


def test_a_deadline_is_kept_by_the_clock_of_the_batcher():
    now = [0.0]
    gate = Gate()
    with Batcher(gate, clock=lambda: now[0]) as batcher:
        first = batcher.submit(rows(0))
        assert gate.began.acquire(timeout=10)
        late, good = batcher.submit(rows(1), timeout=1.0), batcher.submit(rows(2), timeout=3.0)
        now[0] = 2.0
        gate.open.set()
        with pytest.raises(Unavailable, match="deadline is over") as over:
            late.result(10)
        assert over.value.reason == "late"
        assert good.result(10).queued == 2.0
        assert first.result(10).computed == 2.0
    assert gate.sizes == [1, 1]
    assert batcher.figures().late == 1


def test_run_gives_up_after_its_time():
    gate = Gate()
    with Batcher(gate) as batcher:
        held(gate, batcher)
        with pytest.raises(Unavailable, match="within 0.01 seconds"):
            batcher.run(rows(1), timeout=0.01)
        gate.open.set()
    assert gate.sizes == [1]


def test_the_line_is_bounded():
    gate = Gate()
    with Batcher(gate, limit=2) as batcher:
        _, futures = held(gate, batcher, 1, 2)
        with pytest.raises(Unavailable, match="try again later") as full:
            batcher.submit(rows(3))
        assert full.value.reason == "full"
        with pytest.raises(Unavailable, match="try again later"):
            batcher.check_room()
        futures.pop().cancel()
        batcher.check_room()
        gate.open.set()
        assert all(future.result(10) for future in futures)
    assert batcher.figures().refused == 2


@pytest.mark.parametrize("drain", [True, False])
def test_closing_answers_what_was_accepted_or_says_why_not(drain):
    gate = Gate()
    batcher = Batcher(gate)
    first, futures = held(gate, batcher, 1, 2)
    closing = threading.Thread(target=batcher.close, args=(drain,))
    closing.start()
    while not batcher._closed:
        time.sleep(0.001)
    with pytest.raises(Unavailable, match="being closed"):
        batcher.submit(rows(3))
    gate.open.set()
    closing.join(10)
    assert first.result(10).outputs["y"] == 0.0
    if drain:
        assert [future.result(0).outputs["y"] for future in futures] == [2.0, 4.0]
    else:
        assert all(future.exception(10).reason == "stopping" for future in futures)


def test_arrays_that_make_no_request_are_refused():
    with Batcher(Gate(opened=True), max_rows=2) as batcher:
        for wrong in (rows(1, 2, 3), rows(), {"x": np.float32(1)}, {}, {"x": np.zeros((1, 2)), "z": np.zeros((2, 2))}):
            with pytest.raises(InputError):
                batcher.submit(wrong)
    for options in ({"delay": -1}, {"delay": "x"}, {"max_rows": 0}, {"limit": 0}, {"workers": 0}, {"together": 1}):
        with pytest.raises(InputError):
            Batcher(Gate(), **options)


def test_a_network_whose_output_is_one_for_the_whole_batch_is_asked_alone_from_then_on():
    gate, sizes = Gate(), []

    def total(inputs):
        sizes.append(len(inputs["x"]))
        gate(inputs)
        return {"y": inputs["x"].sum(axis=0)}

    with Batcher(total) as batcher:
        _, futures = held(gate, batcher, 1, 2)
        gate.open.set()
        assert [float(future.result(10).outputs["y"][0]) for future in futures] == [1.0, 2.0]
        assert not batcher.together
    assert sizes == [1, 2, 1, 1]


def test_other_shapes_and_types_never_share_a_run():
    gate = Gate()
    with Batcher(gate) as batcher:
        held(gate, batcher)
        given = [np.ones((1, 2)), np.ones((1, 3)), np.ones((1, 2), np.float32), np.ones((2, 2))]
        futures = [batcher.submit({"x": array}) for array in given]
        gate.open.set()
        for array, future in zip(given, futures, strict=True):
            answer = future.result(10).outputs["y"]
            assert (answer.shape, answer.dtype) == (array.shape, array.dtype)
    assert gate.sizes == [1, 3, 1, 1]


def test_several_workers_run_at_once():
    gate = Gate()
    with Batcher(gate, max_rows=1, workers=2) as batcher:
        futures = [batcher.submit(rows(value)) for value in (1, 2, 3)]
        assert gate.began.acquire(timeout=10)
        assert gate.began.acquire(timeout=10)
        gate.open.set()
        assert [float(future.result(10).outputs["y"][0, 0]) for future in futures] == [2.0, 4.0, 6.0]


@settings(max_examples=25, deadline=None)
@given(
    splits=st.lists(st.integers(1, 5), min_size=1, max_size=8),
    max_rows=st.integers(5, 9),
    workers=st.integers(1, 3),
    together=st.booleans(),
)
def test_any_split_of_rows_over_callers_gives_each_its_own(digits_model, splits, max_rows, workers, together):
    images = np.random.default_rng(sum(splits)).normal(size=(sum(splits), 1, 8, 8)).astype(np.float32)
    parts = np.split(images, np.cumsum(splits)[:-1])
    expected = [np.concatenate([digits_model.run(part[n : n + 1]) for n in range(len(part))]) for part in parts]
    with Batcher.of(digits_model, max_rows=max_rows, workers=workers, together=together) as batcher:
        with ThreadPoolExecutor(len(parts)) as callers:
            found = list(callers.map(lambda part: batcher.run({"input": part}).outputs["logits"], parts))
        figures = batcher.figures()
    for own, alone in zip(found, expected, strict=True):
        assert own.shape == alone.shape
        np.testing.assert_allclose(own, alone, rtol=1e-5, atol=1e-5)
    assert figures.rows == len(images)
    assert max(figures.sizes) <= max_rows


@pytest.fixture(scope="module")
def digits_model(digits_file):
    with Predictor(digits_file, device="cpu", threads=1) as model:
        yield model


def opened(node, sizes, out, **weights):
    model = build(
        [node],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        weights,
    )
    return Predictor(model.SerializeToString(), device="cpu", threads=1)


def test_which_networks_take_rows_of_several_callers(digits_model):
    assert in_rows(digits_model)
    assert are_independent(digits_model)
    fixed = with_contract(linear(batch=4), Contract(DIGITS, Output("softmax", LABELS)))
    assert not in_rows(Predictor(fixed.SerializeToString(), device="cpu", threads=1))
    along = np.array([0], np.int64)
    total = opened(helper.make_node("ReduceSum", ["x", "along"], ["y"], keepdims=0), ["n", 2], [2], along=along)
    assert not in_rows(total)
    mixing = opened(helper.make_node("Softmax", ["x"], ["y"], axis=0), ["n", 2], ["n", 2])
    assert in_rows(mixing)  # as far as its graph tells
    assert not are_independent(mixing)


def test_texts_and_integers_are_tried_too():
    names = {TensorProto.STRING: True, TensorProto.INT64: True, TensorProto.BOOL: True, TensorProto.FLOAT16: True}
    for kind, expected in names.items():
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", kind, ["n", 2])],
            [helper.make_tensor_value_info("y", kind, ["n", 2])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        onnx.checker.check_model(model)
        with Predictor(model.SerializeToString(), device="cpu", threads=1) as predictor:
            assert in_rows(predictor)
            assert are_independent(predictor) is expected
