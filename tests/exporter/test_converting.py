"""Which condition is told where an open axis has one size only."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from deploykit.errors import ExportError
from deploykit.exporter import converting
from deploykit.network.capturing import Guard

SIZE = 6


def guard(text, allowed, axes=("length",)):
    """A stand-in that holds for the sizes in `allowed`, or for all but those in a set of negative ones."""
    found = Guard(text, axes, None, {})
    object.__setattr__(found, "holds", lambda sizes: allowed(sizes["length"]))
    return found


@pytest.fixture(autouse=True)
def lines(monkeypatch):
    monkeypatch.setattr(converting.capturing, "line_of", lambda guard, *_: f"net.py:{len(guard.text)}")


class Fixed(torch.nn.Module):
    """Takes sizes of `allowed` alone."""

    def __init__(self, *allowed):
        super().__init__()
        self.allowed = allowed or (SIZE,)

    def forward(self, *inputs):
        if inputs[-1].shape[1] not in self.allowed:
            raise ValueError(inputs[-1].shape)
        return inputs[0]


def require(*guards, axes=({1: "length"},), module=None):
    examples = [torch.zeros(2, SIZE)] * len(axes)
    converting.require_second_size(SimpleNamespace(guards=guards), module or Fixed(), examples, axes, "net")


def test_the_condition_that_refuses_the_next_size_is_told():
    at_most = guard("length <= 6", lambda size: size <= SIZE)
    at_least = guard("length >= 6", lambda size: size >= SIZE)
    for guards in ((at_least, at_most), (at_most, at_least)):
        with pytest.raises(ExportError, match=r"dynamic length: it takes 6 alone \(length <= 6, net.py:11\)"):
            require(*guards)


def test_the_first_of_several_that_refuse_it_is_told():
    even = guard("one more too", lambda size: size in (SIZE, SIZE + 1))
    only, again = guard("only this", lambda size: size == SIZE), guard("only this again", lambda size: size == SIZE)
    with pytest.raises(ExportError, match=r"\(only this, net.py:9\)"):
        require(even, only, again)


@pytest.mark.parametrize(
    "guards",
    [
        (),
        (guard("even", lambda size: size % 2 == 0),),
        (guard("small", lambda size: size <= SIZE),),
        (guard("one more, far away", lambda size: size in (SIZE, 4 * SIZE)),),
        (guard("of two axes", lambda size: size == SIZE, ("batch", "length")),),
        (guard("of another axis", lambda size: size == SIZE, ("batch",)),),
    ],
)
def test_an_axis_with_a_second_size_is_taken(guards):
    require(*guards)


def test_an_axis_that_is_not_open_is_not_asked_about():
    only = guard("only 6", lambda size: size == SIZE)
    require(only, axes=({},))
    with pytest.raises(ExportError, match="takes 6 alone"):
        require(only, axes=({0: "batch"}, {1: "length"}))


@pytest.mark.parametrize("other", [SIZE + 1, SIZE - 1, 2 * SIZE, 9])
def test_a_network_that_takes_other_sizes_is_not_said_to_take_one_alone(other):
    at_most = guard("length <= 6", lambda size: size == SIZE)
    words = rf"network takes {other} too, but torch traces its Python for one length, and the file would take 6 alone \(length <= 6"
    with pytest.raises(ExportError, match=words):
        require(at_most, module=Fixed(SIZE, other))


def test_a_size_of_one_is_no_second_size():
    with pytest.raises(ExportError, match="it takes 6 alone"):
        require(guard("length <= 6", lambda size: size == SIZE), module=Fixed(SIZE, 1))
