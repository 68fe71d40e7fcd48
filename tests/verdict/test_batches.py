"""The batches on which two networks are compared: their kinds, their sizes, and which of them a network answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deploykit.errors import InputError
from deploykit.network.input_specs import InputSpec
from deploykit.verdict import batches
from deploykit.verdict.batches import CORNERS, NORMAL, Batch

FLOATS = InputSpec("x", (3,))
COUNTS = InputSpec("n", (2,), dtype=torch.int64)


def generator():
    return torch.Generator().manual_seed(0)


class Network:
    """Answers with the first input; refuses batches, or answers with NaN, where a test on that input says so."""

    def __init__(self, refuses=lambda _x: False, is_nan=lambda _x: False):
        self.refuses, self.is_nan, self.asked = refuses, is_nan, []

    def __call__(self, batch):
        self.asked.append(batch.name)
        first = batch.tensors[0]
        if self.refuses(first):
            raise InputError(f"{batch.name} is refused")
        return [np.full((1,), np.nan if self.is_nan(first) else 0.0)]


def test_the_corners_are_one_batch_of_three_where_the_network_answers_it():
    (found,) = batches.telling_corners([FLOATS, COUNTS], NORMAL, generator(), Network())
    assert found.name == CORNERS
    floats, counts = found.tensors
    assert floats.shape == (3, 3)
    assert floats[0].tolist() == [0.0] * 3
    assert floats[1].tolist() == [1.0] * 3
    assert floats[2].abs().max() > 10
    assert counts.tolist() == [[0, 0], [1, 1], [COUNTS.below - 1] * 2]


@pytest.mark.parametrize("network", [Network(refuses=lambda x: len(x) == 3), Network(is_nan=lambda x: len(x) == 3)])
def test_else_those_of_them_that_it_answers_apart(network):
    found = batches.telling_corners([FLOATS, COUNTS], NORMAL, generator(), network)
    assert [batch.name for batch in found] == ["zeros", "ones", "large values"]
    assert [batch.tensors[0].shape for batch in found] == [(1, 3)] * 3
    assert network.asked == [CORNERS, "zeros", "ones", "large values"]


def test_one_that_it_refuses_is_left_out():
    network = Network(refuses=lambda x: bool((x == 0).any()))
    found = batches.telling_corners([FLOATS], NORMAL, generator(), network)
    assert [batch.name for batch in found] == ["ones", "large values"]


@pytest.mark.parametrize("size", [1, 4])
def test_corners_apart_have_the_size_that_was_asked_for(size):
    found = batches.corners_apart(
        [FLOATS, InputSpec("y", (2,), batch_axis=1), InputSpec("z", (), batch_axis=None)], NORMAL, generator(), size
    )
    assert [batch.name for batch in found] == ["zeros", "ones", "large values"]
    for batch, value in zip(found, (0.0, 1.0, None), strict=True):
        x, y, z = batch.tensors
        assert x.shape == (size, 3)
        assert y.shape == (2, size)
        assert z.shape == ()
        assert all(tensor.is_contiguous() for tensor in batch.tensors)
        assert value is None or all(bool((tensor == value).all()) for tensor in batch.tensors)


def test_examples_that_are_mere_shapes_are_none():
    assert batches.examples([FLOATS, COUNTS], (1, 2)) == []


def test_examples_are_repeated_to_every_size():
    spec = InputSpec("x", (2,), example=torch.arange(6.0).view(3, 2))
    found = batches.examples([spec], (1, 2, 5))
    assert [batch.name for batch in found] == [f"the examples, batch {size}" for size in (1, 2, 5, 3)]
    assert found[2].tensors[0].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]]
    assert [batch.name for batch in batches.examples([spec], (3,))] == ["the examples, batch 3"]
    assert [batch.name for batch in batches.examples([spec], (2,))] == ["the examples, batch 2"]


@pytest.mark.parametrize(
    ("is_nan", "name"),
    [
        (lambda _x: False, "standard normal"),
        (lambda x: bool((x < 0).any()), "between 0 and 1"),
        (lambda x: bool((x < 0).any() or (x < 0.5).any()) and not bool((x < 0).any() and x.abs().max() < 0.1), "small"),
    ],
)
def test_the_first_range_without_nan(is_nan, name):
    chosen, remark = batches.range_for([FLOATS], Network(is_nan=is_nan), 4)
    assert chosen.name == name
    assert (remark == "") is (name == "standard normal")
    assert name == "standard normal" or f"NaN on standard normal inputs: {name} ones were made up" in remark


def test_a_range_of_whole_numbers_is_not_looked_for():
    network = Network(is_nan=lambda _x: True)
    assert batches.range_for([COUNTS], network, 4) == (NORMAL, "")
    assert network.asked == []


def test_what_the_network_says_of_the_first_range_is_told_where_it_refuses_all():
    network = Network(refuses=lambda _x: True)
    with pytest.raises(InputError, match="noise, batch 4 is refused"):
        batches.range_for([FLOATS], network, 4)
    assert len(network.asked) == len(batches.RANGES)
    assert batches.range_for([FLOATS], Network(is_nan=lambda _x: True), 4) == (NORMAL, "")


def test_batches_that_are_refused_are_named():
    made = [Batch(name, (torch.full((1,), number),)) for name, number in (("a", 0.0), ("b", 1.0), ("c", 2.0))]
    network = Network(refuses=lambda x: x.item() == 1)
    assert batches.answered(made, network) == ([made[0], made[2]], ["b"])
    with pytest.raises(InputError, match="a is refused"):
        batches.answered(made, Network(refuses=lambda _x: True))
    assert batches.answered([], network) == ([], [])
