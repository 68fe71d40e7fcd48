"""Guards: what torch.export notes when the forward pass asks for an open size."""

from __future__ import annotations

import logging

import pytest
import sympy
import torch
import torch.nn.functional as F
from torch import nn

from deploykit.network import capturing
from deploykit.network.capturing import capture, line_of

AXES = ({0: "batch", 2: "height", 3: "width"},)


class Odd(nn.Module):
    def forward(self, x):
        if x.shape[2] % 2:
            return F.pad(x, (0, 0, 0, 1))
        return x


class Threshold(nn.Module):
    def forward(self, x):
        if x.shape[3] > 100:
            return x * 2
        return x


class Area(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[2] * x.shape[3] > 300 else x


class Third(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] % 3 == 0 else x


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x).relu()


class Two(nn.Module):
    def forward(self, a, b):
        return a + b


def captured(module):
    return capture(module.eval(), [torch.zeros(2, 3, 16, 16)], AXES)


@pytest.mark.parametrize(
    ("module", "text", "inside", "outside"),
    [
        (Odd(), "(height % 2) == 0", {"height": 18}, {"height": 17}),
        (Threshold(), "width <= 100", {"width": 100}, {"width": 101}),
        (Area(), "height*width <= 300", {"height": 15, "width": 20}, {"height": 20, "width": 20}),
        (Third(), "(batch % 3) != 0", {"batch": 4}, {"batch": 6}),
    ],
)
def test_a_branch_on_a_size_is_a_guard(module, text, inside, outside):
    guard = next(guard for guard in captured(module).guards if guard.text == text)
    sizes = {"batch": 2, "height": 16, "width": 16}
    assert set(guard.axes) == set(inside)
    assert guard.holds({**sizes, **inside})
    assert not guard.holds({**sizes, **outside})
    assert guard.holds({}), "sizes that nobody names are no contradiction"


@pytest.mark.parametrize(("module", "word"), [(Odd(), "x.shape[2] % 2"), (Threshold(), "x.shape[3] > 100"), (Area(), "> 300")])
def test_a_guard_knows_the_line_that_asks(module, word):
    found = captured(module)
    line = line_of(found.guards[0], module, [torch.zeros(2, 3, 16, 16)], AXES)
    name, _, number = line.partition(":")
    assert name == "test_capturing.py"
    with open(__file__) as source:
        assert word in source.readlines()[int(number) - 1]


def test_a_network_that_does_not_ask_has_no_guard_that_can_be_broken_above_one():
    for guard in captured(Plain()).guards:
        assert all(guard.holds({"batch": b, "height": h, "width": w}) for b in (1, 2, 7) for h in (1, 5, 33) for w in (1, 8, 65))


def test_axes_of_one_name_may_have_two_symbols_and_no_guard_says_so():
    found = capture(Two().eval(), [torch.zeros(2, 4), torch.zeros(2, 4)], ({0: "batch"}, {0: "batch"}))
    assert set(found.names.values()) == {"batch"}
    assert not found.guards


def test_without_open_axes_there_is_nothing_to_guard():
    found = capture(Plain().eval(), [torch.zeros(1, 3, 8, 8)], ({},))
    assert not found.guards
    assert not found.names


def test_what_the_application_logs_is_heard_again_afterwards():
    before = logging.root.manager.disable
    logging.disable(logging.DEBUG)
    try:
        with capturing.quiet():
            assert not logging.getLogger("torch").isEnabledFor(logging.CRITICAL)
        assert logging.root.manager.disable == logging.DEBUG
    finally:
        logging.disable(before)


def test_a_guard_shows_its_text_and_axes_and_no_symbols_of_torchs():
    size = sympy.Symbol("s77")
    guard = capturing.Guard("height <= 9", ("height",), size <= 9, {size: "height"})
    assert repr(guard) == "Guard(text='height <= 9', axes=('height',))"
    assert guard.holds({"height": 9})
    assert not guard.holds({"height": 10})
