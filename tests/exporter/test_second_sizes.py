"""An open axis takes a second size, and one of its own; else which condition, and which line, is told."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from deploykit.errors import ExportError
from deploykit.exporter import export, second_sizes
from deploykit.network.capturing import Guard

SIZE = 6


def guard(text, allowed, axes=("length",)):
    """A stand-in that holds for the sizes in `allowed`, or for all but those in a set of negative ones."""
    found = Guard(text, axes, None, {})
    object.__setattr__(found, "holds", lambda sizes: allowed(sizes["length"]))
    return found


@pytest.fixture(autouse=True)
def lines(monkeypatch):
    monkeypatch.setattr(second_sizes.capturing, "line_of", lambda guard, *_: f"net.py:{len(guard.text)}")


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
    second_sizes.require(SimpleNamespace(guards=guards), module or Fixed(), examples, axes, "net")


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


class PadsToSquare(torch.nn.Module):
    def forward(self, x):
        return x if x.shape[2] == x.shape[3] else torch.nn.functional.pad(x, (0, x.shape[2] - x.shape[3]))


class TwiceAsWide(torch.nn.Module):
    def forward(self, x):
        return x * (2 if x.shape[3] == 2 * x.shape[2] else 1)


class Transposed(torch.nn.Module):
    def forward(self, x):
        return x @ x.transpose(2, 3)


class Symmetric(torch.nn.Module):
    """Refuses what is not square."""

    def forward(self, x):
        return x + x.transpose(2, 3)


class Pair(torch.nn.Module):
    def forward(self, x, y):
        return x.sum(1) + y.sum(1) * (1 if x.shape[1] == y.shape[1] else 2)


IMAGE = {"dynamic": ("batch", "height", "width")}


@pytest.mark.parametrize(
    ("module", "options", "condition"),
    [
        (PadsToSquare(), {"input_shapes": [(3, 16, 16)], **IMAGE}, "(width|height) != (width|height)"),
        (TwiceAsWide(), {"input_shapes": [(3, 8, 16)], **IMAGE}, r"width != \(2\*height\)"),
        (Pair(), {"input_shapes": [(5, 6), (5, 6)], "dynamic": ("batch", "n=x:1", "m=y:1")}, "(n|m) != (n|m)"),
    ],
)
def test_a_branch_on_whether_two_sizes_are_equal_is_named(tmp_path, module, options, condition):
    with pytest.raises(ExportError, match=rf"open on its own: the network takes .* does something else there \({condition}"):
        export(module, out=tmp_path / "m.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_sides_that_need_not_be_equal_are_open_on_their_own(tmp_path):
    sizes = export(Transposed(), input_shapes=[(3, 16, 16)], out=tmp_path / "m.onnx", **IMAGE).verdict.sizes
    assert sizes["height"][1] > 16
    assert sizes["width"][1] > 16


def test_sides_that_must_be_equal_are_one_axis(tmp_path):
    found = export(Symmetric(), input_shapes=[(3, 16, 16)], out=tmp_path / "m.onnx", **IMAGE).verdict
    assert found.same
    assert "width" not in found.sizes


class Untraced(torch.nn.Module):
    """Takes its sides apart; in the trace below both are tied at first."""

    def forward(self, x):
        return x


def test_what_a_square_example_ties_is_traced_anew_with_sides_apart(monkeypatch):
    asked = []

    def capture(module, examples, axes):
        asked.append(tuple(examples[0].shape))
        return SimpleNamespace(guards=())

    monkeypatch.setattr(second_sizes.capturing, "capture", capture)
    monkeypatch.setattr(second_sizes.capturing, "tied", lambda captured, axes: ("width",) if captured == "square" else ())
    axes = [{2: "height", 3: "width"}]
    found = second_sizes.untied("square", Untraced(), [torch.zeros(1, 3, 8, 8)], axes, "net")
    assert asked == [(1, 3, 8, 9)]
    assert found != "square"
