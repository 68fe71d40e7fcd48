"""A run in the caller's own thread: only where it is known to take a moment, and never beside another."""

from __future__ import annotations

import threading
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from small_models import DIGITS, build, counting, linear

from deploykit.errors import InputError, ModelFileError, Unavailable
from deploykit.runtime import Batcher, Predictor
from deploykit.runtime.pace import MOST, OFTEN, QUICK, Pace
from deploykit.runtime.steadiness import STEADY, is_steady


class Network:
    """Doubles its input in `seconds` of `clock`; `threads`: who ran it. What is negative it refuses."""

    def __init__(self):
        self.now = 0.0
        self.seconds = QUICK / 2
        self.threads = []
        self.meanwhile = lambda: None

    def clock(self):
        return self.now

    def __call__(self, inputs):
        self.threads.append(threading.current_thread())
        self.meanwhile()
        self.now += self.seconds
        if (inputs["x"] < 0).any():
            raise ModelFileError("a negative number")
        return {"y": inputs["x"] * 2}


def rows(*values):
    return {"x": np.array([[float(value)] for value in values])}


@pytest.fixture
def network():
    return Network()


@pytest.fixture
def batcher(network):
    with Batcher(network, clock=network.clock) as batcher:
        yield batcher


def known(batcher, times=OFTEN, *values):
    for _ in range(times):
        batcher.run(rows(*values or (0,)), 10)


def test_what_was_often_quick_is_computed_by_the_caller(network, batcher):
    known(batcher, OFTEN - 1)
    assert batcher.run_here(rows(1)) is None
    known(batcher, 1)
    answer = batcher.run_here(rows(3))
    assert (answer.outputs["y"].tolist(), answer.rows, answer.queued, answer.computed) == (
        [[6.0]],
        1,
        0.0,
        pytest.approx(QUICK / 2),
    )
    assert network.threads[-1] is threading.current_thread()
    assert network.threads[0] is not network.threads[-1]
    figures = batcher.figures()
    assert (figures.requests, figures.executions, figures.running, figures.waiting) == (OFTEN + 1, OFTEN + 1, 0, 0)


def test_other_shapes_have_to_show_it_themselves(batcher):
    known(batcher)
    assert batcher.run_here(rows(1, 2)) is None
    known(batcher, OFTEN, 1, 2)
    assert batcher.run_here(rows(1, 2)).outputs["y"].tolist() == [[2.0], [4.0]]


def test_each_slow_run_here_makes_twice_as_many_quick_ones_necessary(network, batcher):
    known(batcher)
    for often in (2 * OFTEN, 4 * OFTEN):
        network.seconds = QUICK * 2
        assert batcher.run_here(rows(1)) is not None
        network.seconds = QUICK / 2
        known(batcher, often - 1)
        assert batcher.run_here(rows(1)) is None
        known(batcher, 1)
        assert batcher.run_here(rows(1)) is not None


def test_a_slow_run_that_fails_is_remembered_too(network, batcher):
    known(batcher)
    network.seconds = QUICK * 2
    with pytest.raises(ModelFileError):
        batcher.run_here(rows(-1))
    network.seconds = QUICK / 2
    known(batcher, OFTEN)
    assert batcher.run_here(rows(1)) is None


def test_a_slow_run_of_a_worker_is_no_surprise(network, batcher):
    known(batcher, OFTEN - 1)
    network.seconds = QUICK * 2
    known(batcher, 1)
    network.seconds = QUICK / 2
    known(batcher, OFTEN - 1)
    assert batcher.run_here(rows(1)) is None
    known(batcher, 1)
    assert batcher.run_here(rows(1)) is not None


def test_of_many_shapes_those_that_came_last_are_known(network):
    pace = Pace()
    for size in range(MOST + 1):
        for _ in range(OFTEN):
            pace.note({"x": np.zeros(size, np.int8)}, 0.0)
    assert not pace.is_quick({"x": np.zeros(0, np.int8)})
    assert pace.is_quick({"x": np.zeros(1, np.int8)})
    assert pace.is_quick({"x": np.zeros(MOST, np.int8)})


def test_an_interruption_leaves_nothing_behind(network, batcher):
    known(batcher)

    def interrupted():
        network.meanwhile = lambda: None
        raise KeyboardInterrupt

    network.meanwhile = interrupted
    with pytest.raises(KeyboardInterrupt):
        batcher.run_here(rows(1))
    assert batcher.figures().running == 0
    assert batcher.run_here(rows(1)) is not None


def test_another_thread_is_not_answered_here_beside_it(network, batcher):
    known(batcher)
    found = []

    def meanwhile():
        network.meanwhile = lambda: None
        batcher._figures.running = 0  # as at the end of a run, when it is counted and not left yet
        found.append(batcher.run_here(rows(2)))
        batcher._figures.running = 1

    network.meanwhile = meanwhile
    assert batcher.run_here(rows(1)) is not None
    assert found == [None]


def test_who_was_late_meanwhile_is_told(network):
    with Batcher(network, limit=1, clock=network.clock) as batcher:
        known(batcher)
        late = []

        def meanwhile():
            network.meanwhile = lambda: None
            late.append(batcher.submit(rows(1), timeout=0.001))
            network.now += 0.002
            assert not batcher.is_full  # which takes it out of the line

        network.meanwhile = meanwhile
        assert batcher.run_here(rows(1)) is not None
        with pytest.raises(Unavailable, match="deadline"):
            late[0].result(10)


def test_who_has_less_time_than_that_is_not_asked_for_it(batcher):
    known(batcher)
    assert batcher.run_here(rows(1), QUICK / 2) is None
    assert batcher.run_here(rows(1), QUICK * 2) is not None


def test_never_beside_another_request(network, batcher):
    known(batcher)
    began, go = threading.Event(), threading.Event()
    network.meanwhile = lambda: began.set() or go.wait(10)
    future = batcher.submit(rows(1))
    assert began.wait(10)
    assert batcher.run_here(rows(2)) is None
    go.set()
    assert future.result(10).outputs["y"].tolist() == [[2.0]]


@pytest.mark.parametrize("closing", [False, True])
def test_meanwhile_no_worker_begins_and_what_came_is_answered_afterwards(network, batcher, closing):
    known(batcher)
    later = []

    def meanwhile():
        network.meanwhile = lambda: None
        later.append(batcher.submit(rows(5)))
        if closing:
            threading.Thread(target=batcher.close).start()
        count = len(network.threads)
        time.sleep(0.05)
        assert len(network.threads) == count

    network.meanwhile = meanwhile
    assert batcher.run_here(rows(1)).outputs["y"].tolist() == [[2.0]]
    assert later[0].result(10).outputs["y"].tolist() == [[10.0]]
    assert network.threads[-1] is not threading.current_thread()


def test_what_the_network_refuses_is_raised_and_counted(batcher):
    known(batcher)
    with pytest.raises(ModelFileError, match="negative"):
        batcher.run_here(rows(-1))
    assert (batcher.figures().failed, batcher.figures().running) == (1, 0)
    assert batcher.run_here(rows(1)) is not None


def test_a_closed_one_and_arrays_that_make_no_request(network, batcher):
    known(batcher)
    assert batcher.run_here({"x": 3}) is None
    with pytest.raises(InputError, match="the same number of rows"):
        batcher.run({"x": np.zeros(())}, 10)
    batcher.close()
    assert batcher.run_here(rows(1)) is None
    with pytest.raises(Unavailable):
        batcher.submit(rows(1))


def floats(name, *sizes):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)


def expanding():
    size = helper.make_tensor_value_info("size", TensorProto.INT64, [1])
    return build([helper.make_node("Expand", ["x", "size"], ["y"])], [floats("x", 1), size], [floats("y", "n")])


def within_a_function(operator):
    body = helper.make_function("own", "f", ["a"], ["b"], [helper.make_node(operator, ["a"], ["b"])], [helper.make_opsetid("", 20)])
    graph = helper.make_graph([helper.make_node("f", ["x"], ["y"], domain="own")], "g", [floats("x", "n")], [floats("y", "n")])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, functions=[body], opset_imports=opsets, ir_version=9)


def shaped_by_an_input():
    shape = helper.make_tensor_value_info("shape", TensorProto.INT64, [2])
    return build([helper.make_node("Reshape", ["x", "shape"], ["y"])], [floats("x", "n"), shape], [floats("y", "m", "k")])


def shaped_by_floats():
    nodes = [
        helper.make_node("Cast", ["shape"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["x", "whole"], ["y"]),
    ]
    return build(nodes, [floats("x", "n"), floats("shape", 2)], [floats("y", "m", "k")])


@pytest.mark.parametrize(
    ("made", "steady"),
    [
        (lambda: linear(DIGITS), True),
        (counting, False),
        (expanding, False),
        (lambda: within_a_function("Relu"), False),
        (shaped_by_an_input, False),
        (shaped_by_floats, False),
        (lambda: within_a_function("RandomNormalLike"), False),
    ],
)
def test_which_networks_take_as_long_as_shapes_say(made, steady):
    with Predictor(made().SerializeToString(), "cpu") as model:
        assert model.is_steady is steady


def known_operators():
    return {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}


def test_only_operators_that_there_are_and_none_of_another_domain():
    assert known_operators() >= STEADY - {"RMSNormalization", "Swish"}  # of opsets that an older onnx does not know
    assert not STEADY & {"Loop", "Scan", "If", "Range", "ConstantOfShape", "Expand", "Tile", "Resize", "NonZero", "Pad", "OneHot"}
    assert is_steady([("", "Conv")], ["tensor(float)"])
    assert not is_steady([("com.microsoft", "Conv")], ["tensor(float)"])
    assert not is_steady([("", "Gather")], ["tensor(float)", "tensor(string)"])


def test_no_operator_makes_whole_numbers_of_floats():
    """Shapes, axes and lengths are int32 or int64, as are the places of the largest numbers, which nobody takes for any of these."""
    schemas = {schema.name: schema for schema in map(onnx.defs.get_schema, sorted(STEADY & known_operators()))}
    for name in schemas.keys() - {"Constant", "Shape", "MaxPool"}:
        made = {output.type_str for output in schemas[name].outputs} - {value.type_str for value in schemas[name].inputs}
        kinds = made.union(*(each.allowed_type_strs for each in schemas[name].type_constraints if each.type_param_str in made))
        assert not kinds & {"tensor(int32)", "tensor(int64)"}, name
