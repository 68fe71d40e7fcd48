"""Who has the last word on the size of an open axis."""

from __future__ import annotations

import pytest

from deploykit.runtime.contract import ArrayInput, Contract, ImageInput, Output
from deploykit.runtime.open_axes import contract_sizes, known_sizes, sizes

IMAGE = Contract(ImageInput(3, 5, 6), Output())
RAW = Contract(ImageInput(3, 5, 6), Output(), preprocessing_in_graph=True)
ARRAY = Contract(ArrayInput((7, None)), Output())


@pytest.mark.parametrize(
    ("axes", "batch", "given", "contract", "found"),
    [
        ((None, 3), None, None, None, (None, 3)),
        ((None, 3), 4, None, None, (4, 3)),
        ((None, 3), 4, (9, 9), None, (9, 3)),  # the user before the batch; what the graph fixes stays
        ((None, 3), 4, (None, 9), None, (4, 3)),
        ((None, 3), 4, (9,), None, (4, 3)),  # of another rank
        ((None, None, None, None), 2, None, IMAGE, (2, 3, 5, 6)),
        ((None, None, None, None), 2, None, RAW, (2, 5, 6, 3)),
        ((None, None, 8, None), 2, None, IMAGE, (2, 3, 8, 6)),
        ((None, None, None, None), 2, (1, 1, 2, 2), IMAGE, (1, 1, 2, 2)),
        ((None, None, "n"), 2, None, ARRAY, (2, 7, None)),
        (("n", "m", "n"), None, (5, None, None), None, (5, None, 5)),
        (("n", "m"), None, (5, 6), None, (5, 6)),
    ],
)
def test_the_user_then_the_batch_then_the_contract(axes, batch, given, contract, found):
    asked = None if given is None else {"x": given}
    assert known_sizes({"x": axes}, batch, asked, contract)["x"] == found
    assert known_sizes({"x": axes}, batch, {"another": (1, 2)}, contract) == known_sizes({"x": axes}, batch, None, contract)


def test_what_two_say_of_one_axis():
    """The user says 9 where the contract says 7, and nothing of the rest."""
    assert known_sizes({"x": (None, None, None)}, 2, {"x": (None, 9, None)}, ARRAY) == {"x": (2, 9, None)}


def test_a_size_spreads_to_axes_of_its_name_in_other_inputs():
    axes = {"x": ("batch", "length"), "y": ("batch", "length", 4), "z": ("length",)}
    assert known_sizes(axes, 2, {"y": (None, 6, None)}) == {"x": (2, 6), "y": (2, 6, 4), "z": (6,)}


@pytest.mark.parametrize(
    ("axes", "otherwise", "shape"),
    [
        ((None, "a"), None, (1, 8)),
        ((None, 3, "h", "w"), None, (1, 3, 64, 64)),
        ((None, 3, "h", "w"), 2, (1, 3, 2, 2)),
        (("n", "a", "b", "c", "d", "e"), None, (1, 8, 8, 8, 8, 8)),
        (("n", "a", "b", "c", "d", "e", "f"), None, (1, 1, 1, 1, 1, 1, 1)),
        ((), None, ()),
    ],
)
def test_the_default_by_kind(axes, otherwise, shape):
    assert sizes({"x": axes}, otherwise=otherwise) == {"x": shape}


def test_of_one_name_in_several_inputs_the_smallest_default():
    axes = {"image": ("batch", 3, "side", "side"), "mask": ("batch", "side")}
    assert sizes(axes, 2) == {"image": (2, 3, 8, 8), "mask": (2, 8)}


def test_what_a_contract_says():
    assert contract_sizes({"x": (None,)}, None) == {}
    assert contract_sizes({}, IMAGE) == {}
    recorded = {"inputs": [{"name": "y", "shape": [4]}, {"name": "x", "shape": [9, 9]}]}
    assert contract_sizes({"x": (), "y": ()}, Contract(ArrayInput((7, None)), Output(), provenance=recorded)) == {
        "x": (None, 9, 9),
        "y": (None, 4),
    }
    assert contract_sizes({"x": (), "y": ()}, Contract(ImageInput(3, 5, 6), Output(), provenance=recorded)) == {
        "x": (None, 3, 5, 6),
        "y": (None, 4),
    }
