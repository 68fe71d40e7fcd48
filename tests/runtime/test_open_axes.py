"""One rule for the size of an axis that a graph leaves open."""

from __future__ import annotations

import pytest

from deploykit.runtime import open_axes
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput, Output
from deploykit.runtime.open_axes import IMAGE_SIDE, USUAL, axis, batch_axes, known_sizes, sizes

IMAGES = Contract(ImageInput(3, 20, 30), Output())


def recorded(*entries, shape=(7,)):
    return Contract(ArrayInput(shape), Output(), provenance={"inputs": list(entries)})


@pytest.mark.parametrize(
    ("size", "name", "expected"),
    [(3, "n", 3), (0, "n", 0), (-1, "n", "n"), (-1, "", None), (None, "n", "n"), (None, None, None), ("n", "n", "n")],
)
def test_a_size_below_zero_is_open_and_zero_is_a_size(size, name, expected):
    assert axis(size, name) == expected


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"x": ("n", 3)}, {"x": 0}),
        ({"x": (None, 3)}, {"x": 0}),
        ({"x": (2, 3), "scalar": ()}, {"x": None, "scalar": None}),
        ({"x": (2, 3), "y": (2, 4, 5)}, {"x": 0, "y": 0}),
        ({"x": (2, 3), "y": (1, 4, 5)}, {"x": None, "y": None}),
        ({"x": ("batch", "time"), "state": (2, "batch", 16)}, {"x": 0, "state": 1}),
        ({"x": ("time", "batch", 5), "state": (2, "batch", 16)}, {"x": 1, "state": 1}),
        ({"x": ("n", "s"), "mask": ("s", "s")}, {"x": 0, "mask": None}),
        ({"x": ("n", 3), "y": (None, 3), "rows": ("rows", 2)}, {"x": 0, "y": 0, "rows": 0}),
    ],
)
def test_where_the_batch_lies(inputs, expected):
    assert batch_axes(inputs) == expected


@pytest.mark.parametrize(
    ("inputs", "options", "expected"),
    [
        # By kind.
        ({"x": ("n", 3, "h", "w")}, {}, {"x": (1, 3, IMAGE_SIDE, IMAGE_SIDE)}),
        ({"x": (None, None)}, {"batch": 4}, {"x": (4, USUAL)}),
        ({"x": (None,) * 7}, {}, {"x": (1,) * 7}),
        ({"scalar": ()}, {"batch": 4}, {"scalar": ()}),
        ({"x": ("n", "h")}, {"otherwise": 1}, {"x": (1, 1)}),
        # A fixed size stays, 0 too, and every input keeps its own first axis.
        ({"x": (0, 3)}, {"batch": 4}, {"x": (0, 3)}),
        ({"a": (1, "t"), "b": (2, 5)}, {"batch": 4}, {"a": (1, USUAL), "b": (2, 5)}),
        ({"x": (2, "t")}, {"given": {"x": (9, 6)}}, {"x": (2, 6)}),
        # One size per name; the batch too, and the smaller default where two kinds meet.
        ({"x": ("batch", "t"), "h": (2, "batch", "t")}, {"batch": 4}, {"x": (4, USUAL), "h": (2, 4, USUAL)}),
        ({"x": ("n", 1, "t", "t"), "y": ("n", "t")}, {}, {"x": (1, 1, USUAL, USUAL), "y": (1, USUAL)}),
        # The user before the batch, the contract and the name; the name before the default.
        ({"x": ("n", "t"), "y": ("n", "t")}, {"given": {"x": (None, 5)}}, {"x": (1, 5), "y": (1, 5)}),
        ({"x": ("n", "t")}, {"given": {"x": (5,)}}, {"x": (1, USUAL)}),
        ({"x": ("n", "h")}, {"given": {"x": (None, 5)}, "contract": recorded()}, {"x": (1, 5)}),
        # The contract: images before records, whole records with the batch where it lies.
        ({"x": ("n", 3, "h", "w")}, {"contract": IMAGES}, {"x": (1, 3, 20, 30)}),
        ({"x": ("n", "h", "w", 3)}, {"contract": Contract(IMAGES.input, Output(), True)}, {"x": (1, 20, 30, 3)}),
        ({"x": ("n", "t")}, {"contract": recorded()}, {"x": (1, 7)}),
        ({"x": ("n", "t")}, {"contract": recorded({"name": "x", "shape": [9]})}, {"x": (1, 9)}),
        (
            {"x": ("n", "t"), "h": ("l", "n", 4)},
            {"batch": 2, "contract": recorded({"name": "h", "shape": [3, 4], "batch_axis": 1})},
            {"x": (2, 7), "h": (3, 2, 4)},
        ),
        (
            {"x": ("n", "t"), "table": ("rows", 4)},
            {"contract": recorded({"name": "table", "shape": [6, 4], "batch_axis": None})},
            {"x": (1, 7), "table": (6, 4)},
        ),
        ({"x": ("n", "t", "u")}, {"contract": recorded()}, {"x": (1, USUAL, USUAL)}),
    ],
)
def test_the_size_of_an_open_axis(inputs, options, expected):
    assert sizes(inputs, **options) == expected


def test_the_batch_lies_where_the_contract_has_it():
    inputs = {"x": ("n", "t"), "table": ("rows", 4), "state": ("layers", "m", 4)}
    records = ({"name": "table", "shape": [6, 4], "batch_axis": None}, {"name": "state", "shape": [2, 4], "batch_axis": 1})
    assert batch_axes(inputs, recorded(*records)) == {"x": 0, "table": None, "state": 1}


def test_what_nobody_says_is_not_known():
    inputs = {"x": ("n", "t", None), "y": (3, "t")}
    assert known_sizes(inputs) == {"x": (None, None, None), "y": (3, None)}
    assert known_sizes(inputs, 2, {"y": (None, 5)}) == {"x": (2, 5, None), "y": (3, 5)}


@pytest.mark.parametrize("place", [-1, 9, "first", True, [1]])
def test_a_record_with_an_impossible_batch_axis_has_it_first(place):
    assert recorded({"name": "x", "shape": [3], "batch_axis": place}).example_sizes() == {"x": (None, 3)}


def test_a_session_tells_its_axes():
    class Node:
        name, shape = "x", ["n", 3, -1, None, 0]

    assert open_axes.of_session([Node()]) == {"x": ("n", 3, None, None, 0)}


@pytest.mark.parametrize(
    ("contract", "expected"),
    [
        (None, {}),
        (IMAGES, {"x": (None, 3, 20, 30)}),
        (Contract(ImageInput(3, 20, 30), Output(), preprocessing_in_graph=True), {"x": (None, 20, 30, 3)}),
        (Contract(ArrayInput((7, None)), Output()), {"x": (None, 7, None)}),
    ],
)
def test_what_a_contract_says_of_the_sizes(contract, expected):
    """An image is read with its channels last where the graph prepares it."""
    assert open_axes.contract_sizes({"x": (None, None, None, None)}, contract) == expected
    assert open_axes.contract_sizes({}, contract) == {}
