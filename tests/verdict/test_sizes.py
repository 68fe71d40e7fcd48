"""Which sizes are tried: other kinds than the example's, and both sides of every guard."""

from __future__ import annotations

import pytest
import sympy
from torch.utils._sympy import functions

from deploykit.network.capturing import Guard
from deploykit.verdict import guard_sides
from deploykit.verdict.sizes import trials

BASE = {"batch": 2, "height": 16, "width": 24}


def guard(expression, **symbols):
    known = {name: sympy.Symbol(name, integer=True, positive=True) for name in ("batch", "height", "width")}
    made = eval(expression, {**known, **vars(functions), "Eq": sympy.Eq, "Ne": sympy.Ne, "Mod": sympy.Mod, "And": sympy.And})
    return Guard(expression, tuple(sorted(s.name for s in made.free_symbols)), made, {s: s.name for s in made.free_symbols})


def test_sizes_differ_in_kind():
    found = [trial.sizes for trial in trials(BASE)[0]]
    heights, widths = {s["height"] for s in found}, {s["width"] for s in found}
    assert {1, 2, 3} <= heights
    assert {1, 2, 3} <= widths
    assert any(s["height"] % 2 and s["width"] % 2 for s in found)
    assert any(s["height"] > s["width"] for s in found) or any(s["height"] * 24 != s["width"] * 16 for s in found)
    assert any(s["height"] > 16 and s["width"] > 24 for s in found)
    assert any(s["height"] < 16 and s["width"] < 24 for s in found)
    assert any(sympy.isprime(s["height"]) and s["height"] > 3 for s in found)
    assert any(s["height"] % 16 == 0 and s["height"] != 16 for s in found), "for networks that take multiples alone"
    assert {s["batch"] for s in found} == {2}
    assert BASE not in found


@pytest.mark.parametrize(
    "expression",
    [
        "Eq(Mod(height, 2), 0)",
        "Ne(Mod(batch, 7), 0)",
        "height <= 100",
        "height >= 9",
        "height * width <= 500",
        "height < width",
        "Eq(Mod(height + width, 8), 0)",
        "And(height >= 2, width >= 2)",
        "batch <= 40",
        "Ne(height, 224)",
        "Ne(height, width)",
        "Ne(Mod(batch, 128), 0)",
        "Ne(batch, 100)",
        "Ne(height, 231) & (width < 3000)",
        "Ne(height * width, 930)",
        "Ne(height, 20000)",
        "Ne(height // 7, 1000)",
        "Ne(TruncToInt(OpaqueUnaryFn_sqrt(ToFloat(height))), 20)",
    ],
)
def test_the_other_side_of_a_guard_is_tried(expression):
    wanted = guard(expression)
    assert wanted.holds(BASE)
    broken = [trial for trial in trials(BASE, [wanted])[0] if not wanted.holds(trial.sizes)]
    assert broken
    assert any(trial.guards == (wanted,) for trial in broken)


def test_both_sides_of_a_size_between_two_guards():
    found = trials(BASE, [guard("Eq(height // 4, 4)")])[0]
    heights = {trial.sizes["height"] for trial in found if trial.guards}
    assert heights == {15, 20, 40}


def test_a_guard_far_away_is_found_by_doubling_and_to_the_unit():
    found = trials({"batch": 2, "length": 10}, [guard_of_length("length <= 5000")])[0]
    assert next(trial for trial in found if trial.guards).sizes["length"] == 5001


def test_what_takes_too_much_memory_is_said():
    far = Guard("height*width <= 10**10", ("height", "width"), *_area())
    found, untried = trials(BASE, [far])
    assert [(each.guard, each.why) for each in untried] == [(far, "it takes too much memory")]
    assert not any(trial.guards for trial in found)


def test_without_an_open_axis_but_the_batch_guards_alone_are_tried():
    assert trials({"batch": 2})[0] == []
    assert [trial.sizes for trial in trials({"batch": 2}, [guard("Ne(Mod(batch, 3), 0)")])[0]] == [{"batch": 3}, {"batch": 6}]


def test_a_guard_that_nothing_breaks_is_said():
    found, untried = trials({"height": 16}, [guard("Ne(height, 70000)")])
    assert not any(trial.guards for trial in found)
    assert [each.why for each in untried] == ["no size up to 65536 was found at which it does not hold"]


def test_two_groups_are_tried_as_well_as_one():
    groups = guard("Ne(Mod(height, 128), 0)")
    assert {128, 256} <= {trial.sizes["height"] for trial in trials(BASE, [groups])[0] if trial.guards}


def test_an_inequality_that_torch_notes_of_every_network_is_not_said():
    assert trials(BASE, [guard("height * width * 3 > 1")])[1] == []


def test_guards_are_broken_together_too():
    both = [guard("height <= 40"), guard("width <= 50"), guard("Ne(Mod(width, 5), 1)")]
    found = {(t.sizes["height"], t.sizes["width"]): t.guards for t in trials(BASE, both)[0] if t.guards}
    assert found[41, 51] == (both[0], both[1], both[2]) or found[41, 51] == (both[0], both[1])
    assert found[41, 24] == (both[0],)
    assert (41, 21) in found, "above for one axis, below for the other"


def test_a_guard_that_python_cannot_ask_is_asked_of_sympy():
    made = sympy.Ne(sympy.Function("Unknown")(sympy.Symbol("height", integer=True, positive=True)), 3)
    strange = Guard("strange", ("height",), made, {s: s.name for s in made.free_symbols})
    assert guard_sides._quick(BASE, strange) is None
    assert guard_sides.broken(BASE, strange) == []


def guard_of_length(text):
    length = sympy.Symbol("length", integer=True, positive=True)
    return Guard(text, ("length",), length <= 5000, {length: "length"})


def _area():
    height, width = (sympy.Symbol(name, integer=True, positive=True) for name in ("height", "width"))
    return height * width <= 10**9, {height: "height", width: "width"}


@pytest.mark.parametrize("first", [11, 12, 37, 100, 999, 1000])
def test_doubling_finds_the_first_distance_at_which_a_guard_breaks(first):
    assert guard_sides._doubled(10, 1000, lambda distance: distance >= first) == first
    assert guard_sides._doubled(10, first - 1, lambda distance: distance >= first) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("height < width", "13 < batch * width"), ("Eq(Mod(height, 8), 0)", "height + width > 25"), ("height < width", "height > 11")],
)
def test_a_guard_is_also_broken_where_no_other_is(one, other):
    """Behind another guard the network may never ask for it."""
    guards = [guard(one), guard(other)]
    found = [trial.sizes for trial in trials(BASE, guards)[0] if trial.guards]
    assert any(guards[0].holds(sizes) and not guards[1].holds(sizes) for sizes in found)


def test_guards_that_break_together_alone_are_not_looked_for_for_ever():
    guards = [guard("height < 20"), guard("height < 21")]
    assert guard_sides.broken_alone(BASE, guards[1], guards[:1], {**BASE, "height": 21}) is None
    assert [trial.sizes["height"] for trial in trials(BASE, guards)[0] if trial.guards][:2] == [20, 21]
