"""Axes as a user names them -> axes of each input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from deploykit.errors import InputError
from deploykit.exporter import dynamic_axes
from deploykit.network.input_specs import InputSpec

IMAGE, ROW = InputSpec("image", (3, 8, 8)), InputSpec("row", (5,))
STATE = InputSpec("state", (2, 4), batch_axis=1)
LONE = replace(ROW, name="lone", batch_axis=None)


@pytest.mark.parametrize(
    ("wanted", "specs", "found"),
    [
        ((), (IMAGE, ROW), [{}, {}]),
        (("batch",), (IMAGE, STATE, LONE), [{0: "batch"}, {1: "batch"}, {}]),
        (("height", "width"), (IMAGE, ROW), [{2: "height", 3: "width"}, {}]),
        (("length=1",), (IMAGE, ROW), [{1: "length"}, {1: "length"}]),
        (("length=row:1",), (IMAGE, ROW), [{}, {1: "length"}]),
        (("length=2",), (IMAGE, ROW), [{2: "length"}, {}]),
        (("length=1", "length=row:1"), (IMAGE, ROW), [{1: "length"}, {1: "length"}]),
        (("batch", "length=image:1", "time=row:1"), (IMAGE, ROW), [{0: "batch", 1: "length"}, {0: "batch", 1: "time"}]),
        (("length=2", "other=1"), (IMAGE, ROW), [{2: "length", 1: "other"}, {1: "other"}]),
    ],
)
def test_axes_of_each_input(wanted, specs, found):
    assert dynamic_axes.of_inputs(wanted, specs) == found


@pytest.mark.parametrize(
    ("wanted", "specs", "problem"),
    [
        (("a=1", "b=1"), (IMAGE, ROW), "axis 1 of the input 'image' has two names: 'a' and 'b'"),
        (("a=row:1", "b=1"), (IMAGE, ROW), "axis 1 of the input 'row' has two names: 'a' and 'b'"),
        (("batch", "a=0"), (IMAGE,), "axis 0 of the input 'image' has two names: 'batch' and 'a'"),
        (("height",), (ROW,), "is axis 2 of an image, and every input has fewer axes"),
        (("a=4",), (IMAGE, ROW), "is axis 4, and every input has fewer axes"),
        (("a=row:2",), (IMAGE, ROW), "is axis 2, and row has fewer axes"),
        (("a=x:1",), (IMAGE, ROW), "has no input 'x'"),
        (("a",), (IMAGE,), "unknown dynamic axis 'a'"),
        (("1a=1",), (IMAGE,), "unknown dynamic axis"),
        (("a=-1",), (IMAGE,), "unknown dynamic axis"),
        (("a=100",), (IMAGE,), "unknown dynamic axis"),
        (("height=1",), (IMAGE,), "unknown dynamic axis"),
        (("batch=1",), (IMAGE,), "unknown dynamic axis"),
    ],
)
def test_axes_that_cannot_be(wanted, specs, problem):
    with pytest.raises(InputError, match=problem):
        dynamic_axes.of_inputs(wanted, specs)


def test_where_the_batch_lies_can_be_said():
    found = dynamic_axes.with_batches(("batch=row:1", "length=1"), (IMAGE, ROW))
    assert found[0] == IMAGE
    assert (found[1].batch_axis, found[1].shape) == (1, (5,))
    assert isinstance(found, tuple)
    assert dynamic_axes.with_batches(("batch", "length=1"), (IMAGE, ROW)) == (IMAGE, ROW)
    lone = dynamic_axes.with_batches(("batch=lone:0",), (LONE,))[0]
    assert (lone.batch_axis, lone.shape) == (0, ())


def test_an_axis_of_another_name_is_no_batch():
    nodes = InputSpec("x", (4,), example=torch.zeros(5, 4))
    edges = InputSpec("edge", (2, 6), batch_axis=None)
    found = dynamic_axes.with_batches(("nodes=x:0", "edges=edge:1"), (nodes, edges))
    assert [(spec.shape, spec.batch_axis) for spec in found] == [((5, 4), None), ((2, 6), None)]
    assert not dynamic_axes.open_batch(("nodes=x:0", "edges=edge:1"), found)
    assert dynamic_axes.with_batches(("features=x:1",), (nodes, edges)) == (nodes, edges)
    assert dynamic_axes.with_batches(("batch", "nodes=x:0"), (nodes, edges)) == (nodes, edges), "two names, which is refused"
