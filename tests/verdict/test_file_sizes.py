"""What a file itself asks of sizes is tried: numbers that it compares with, rests, and scales that two precisions round apart."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from deploykit.verdict import validate
from deploykit.verdict.batches import Batch
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.file_sizes import asked_by, parted, trials

PLAIN = "y = Mul(x, two)"
LENGTH = "shape = Shape <start = 1, end = 2> (x) \n"
FILES = {
    "equal": LENGTH + "asks = Equal(shape, k) \n factor = Where(asks, one, two) \n y = Mul(x, factor)",
    "after a factor": LENGTH
    + "groups = Div(shape, four) \n asks = Equal(groups, k) \n factor = Where(asks, one, two) \n y = Mul(x, factor)",
    "rest": LENGTH + "rest = Mod(shape, k) \n asks = Equal(rest, three) \n factor = Where(asks, one, two) \n y = Mul(x, factor)",
    "at least": LENGTH + "asks = GreaterOrEqual(shape, k) \n factor = Where(asks, one, two) \n y = Mul(x, factor)",
    "if": LENGTH
    + """lone = Squeeze(shape) \n scalar = Squeeze(k) \n asks = Equal(lone, scalar)
    y = If (asks) <
        then_branch = a () => (float[batch, length, 4] b) { b = Mul(x, one) },
        else_branch = c () => (float[batch, length, 4] d) { d = Mul(x, two) }
    >""",
    "inside of an if": LENGTH
    + """lone = Squeeze(shape) \n yes = Equal(lone, lone)
    y = If (yes) <
        then_branch = a () => (float[batch, length, 4] b) { asks = Equal(shape, k) \n f = Where(asks, one, two) \n b = Mul(x, f) },
        else_branch = c () => (float[batch, length, 4] d) { d = Mul(x, two) }
    >""",
}


def model(body, k=37):
    text = f"""<ir_version: 9, opset_import: ["" : 20]>
    graph (float[batch, length, 4] x) => (float[batch, length, 4] y)
    <int64[1] k = {{{k}}}, int64[1] three = {{3}}, int64[1] four = {{4}}, float one = {{1.0}}, float two = {{2.0}}> {{ {body} }}"""
    return onnx.parser.parse_model(text)


def resized(stride, scale=0.58):
    text = f"""<ir_version: 9, opset_import: ["" : 20]>
    graph (float[batch, 1, height, width] x) => (float[batch, 1, h, w] y)
    <float[4] scales = {{1.0, 1.0, {scale}, {scale}}}>
    {{ small = AveragePool <kernel_shape = [1, 1], strides = [{stride}, {stride}]> (x) \n y = Resize(small, , scales) }}"""
    return onnx.parser.parse_model(text)


def tried(made, shape, **names):
    base = {"batch": 2, **names}
    found, left_out = trials([Deployed(made)], base, Batch("example", (torch.zeros(shape),)))
    assert not left_out
    return found


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_branches_on_a_size_of_its_own_is_different(tmp_path, kind):
    onnx.save(model(PLAIN), tmp_path / "plain.onnx")
    onnx.save(model(FILES[kind]), tmp_path / "branch.onnx")
    verdict = validate(tmp_path / "branch.onnx", against=tmp_path / "plain.onnx", input_shapes=[(8, 4)])
    assert verdict.verdict == "different"
    detail = next(check.detail for check in verdict.checks if not check.passed)
    assert "the file " in detail


def test_the_other_file_may_branch_too(tmp_path):
    onnx.save(model(PLAIN), tmp_path / "plain.onnx")
    onnx.save(model(FILES["equal"]), tmp_path / "branch.onnx")
    verdict = validate(tmp_path / "plain.onnx", against=tmp_path / "branch.onnx", input_shapes=[(8, 4)])
    assert verdict.verdict == "different"


def test_a_file_that_asks_for_nothing_gives_no_trials():
    assert tried(model(PLAIN), (2, 8, 4), length=8) == []
    assert tried(resized(1, 0.5), (2, 1, 32, 32), height=32, width=32) == []


def test_every_open_axis_is_taken_to_the_number_and_to_its_neighbours():
    found = {tuple(trial.sizes.values()) for trial in tried(model(FILES["equal"]), (2, 8, 4), length=8)}
    assert {(2, 37), (2, 36), (2, 38), (37, 8)} <= found


def test_too_many_numbers_are_said():
    body = LENGTH + "\n".join(
        f"c{n} = Constant <value = int64[1] {{{n}}}> () \n asks{n} = Equal(shape, c{n})" for n in range(20, 99, 3)
    )
    found, left_out = trials(
        [Deployed(model(body + "\n" + PLAIN))], {"batch": 2, "length": 8}, Batch("example", (torch.zeros(2, 8, 4),))
    )
    assert left_out > 0
    assert found


def test_a_size_in_a_function_is_seen():
    text = """<ir_version: 9, opset_import: ["" : 20, "own" : 1]>
    graph (float[batch, length, 4] x) => (float[batch, length, 4] y)
    <int64[1] k = {41}> { shape = Shape <start = 1, end = 2> (x) \n y = own.Branch(x, shape, k) }
    <opset_import: ["" : 20], domain: "own">
    Branch (a, size, at) => (b) {
        nine = Constant <value = int64[1] {9}> () \n asks = Equal(size, nine) \n one = Cast <to = 1> (asks) \n b = Add(a, one)
    }"""
    assert asked_by(Deployed(onnx.parser.parse_model(text))).compared == {9}


@pytest.mark.parametrize("scale", [0.58, 1.4, 0.29])
def test_a_scale_parts_where_the_two_precisions_round_apart(scale):
    sizes = parted(scale, 32)
    assert sizes
    for size in sizes:
        single, double = np.float32(size) * np.float32(scale), size * scale
        assert np.floor(single) != np.floor(double) or np.ceil(single) != np.ceil(double)


def test_fractions_in_float32_are_taken_for_what_they_stand_for():
    assert 3 in parted(float(np.float32(2 / 3)), 32) or parted(float(np.float32(2 / 3)), 32) == []
    assert parted(0.5, 32) == []


@pytest.mark.parametrize("stride", [1, 2])
def test_a_resize_behind_a_stride_is_tried_at_the_input_s_own_size(stride):
    found = tried(resized(stride), (2, 1, 32, 32), height=32, width=32)
    assert (2, 50 * stride, 32) in {tuple(trial.sizes.values()) for trial in found}
    assert all("0.58 in float32" in trial.reason for trial in found)


def test_a_scale_that_multiplies_a_size_is_tried():
    body = LENGTH + "c = Cast <to = 1> (shape) \n s = Mul(c, part) \n f = Floor(s) \n y = Mul(x, f)"
    made = model(body)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.58), "part"))
    assert 50 in {trial.sizes["length"] for trial in tried(made, (2, 8, 4), length=8)}
