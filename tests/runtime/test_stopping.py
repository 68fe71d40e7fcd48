"""A run that nobody waits for any more is ended: it held up whoever came next for as long as the network took."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from small_models import counting

from deploykit.errors import ModelFileError, Unavailable
from deploykit.runtime import Batcher, Predictor
from deploykit.runtime.stopping import Stop

FOR_EVER = np.array([1 << 60], np.int64)
SHORT = np.array([3], np.int64)


class Held:
    """A network whose runs last until they are stopped, or opened; every run and its stop is kept."""

    def __init__(self):
        self.began = threading.Semaphore(0)
        self.sizes = []
        self.stops = []

    def __call__(self, inputs, stop):
        self.sizes.append(len(inputs["x"]))
        self.stops.append(stop)
        self.began.release()
        assert stop.over.wait(10)
        if stop.stopped:
            raise ModelFileError("it was stopped")
        return {"y": inputs["x"]}


class ByHand:
    """A stop that the test looks at."""

    def __init__(self):
        self.over = threading.Event()
        self.stopped = False

    def now(self):
        self.stopped = True
        self.over.set()


def rows(*values):
    return {"x": np.array([[float(value)] for value in values])}


def two_in_one_run(network, batcher):
    """The futures of two requests that run together, once they run."""
    first = batcher.submit(rows(0))
    assert network.began.acquire(timeout=10)
    pair = [batcher.submit(rows(1)), batcher.submit(rows(2))]
    network.stops[0].over.set()
    first.result(10)
    assert network.began.acquire(timeout=10)
    return pair


def test_a_run_goes_on_as_long_as_one_of_its_callers_waits():
    network = Held()
    with Batcher(network, stopper=ByHand) as batcher:
        left, stays = two_in_one_run(network, batcher)
        left.cancel()
        left.cancel()  # twice is one caller all the same
        assert not network.stops[1].stopped
        network.stops[1].over.set()
        assert stays.result(10).outputs["y"] == 2.0
    assert network.sizes == [1, 2]


def test_a_run_ends_when_the_last_caller_has_gone_and_is_not_asked_again():
    network = Held()
    with Batcher(network, stopper=ByHand) as batcher:
        for future in two_in_one_run(network, batcher):
            assert future.cancel() is False  # it runs
        after = batcher.submit(rows(3))
        assert network.began.acquire(timeout=10)
        network.stops[2].over.set()
        assert after.result(10).outputs["y"] == 3.0
        figures = batcher.figures()
    assert network.sizes == [1, 2, 1]
    assert (figures.requests, figures.failed, figures.cancelled, figures.running) == (2, 0, 2, 0)


def test_a_stop_that_comes_too_late_harms_nobody():
    network = Held()
    with Batcher(network, stopper=ByHand) as batcher:
        future = batcher.submit(rows(1))
        assert network.began.acquire(timeout=10)
        network.stops[0].over.set()
        future.result(10)
        future.cancel()
        assert not network.stops[0].stopped


@pytest.fixture(params=[{}, {"io_binding": True}], ids=["plain", "bound"])
def network(request):
    with Predictor(counting().SerializeToString(), "cpu", threads=1, **request.param) as model:
        yield model


def test_onnxruntime_ends_a_run_within_the_loop_of_a_network(network):
    assert network.run_all({"count": SHORT})["counted"] == 3
    stop = Stop()
    timer = threading.Timer(0.2, stop.now)
    timer.start()
    with pytest.raises(ModelFileError, match="terminate"):
        network.run_all({"count": FOR_EVER}, stop)
    assert network.run_all({"count": SHORT}, Stop())["counted"] == 3


def test_whoever_comes_after_a_deadline_does_not_wait_for_that_run(network):
    with Batcher.of(network, together=False) as batcher:
        with pytest.raises(Unavailable, match="within 0.2 seconds"):
            batcher.run({"count": FOR_EVER}, timeout=0.2)
        assert batcher.run({"count": SHORT}, timeout=10).outputs["counted"] == 3
