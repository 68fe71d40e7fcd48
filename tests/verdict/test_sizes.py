"""Which sizes are tried: other kinds than the example's, and both sides of every guard."""

from __future__ import annotations

import pytest
import sympy

from deploykit.network.capturing import Guard
from deploykit.verdict.sizes import trials

BASE = {"batch": 2, "height": 16, "width": 24}


def guard(expression, **symbols):
    known = {name: sympy.Symbol(name, integer=True, positive=True) for name in ("batch", "height", "width")}
    made = eval(expression, {**known, "Eq": sympy.Eq, "Ne": sympy.Ne, "Mod": sympy.Mod, "And": sympy.And})
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
    ],
)
def test_the_other_side_of_a_guard_is_tried(expression):
    wanted = guard(expression)
    assert wanted.holds(BASE)
    broken = [trial for trial in trials(BASE, [wanted])[0] if not wanted.holds(trial.sizes)]
    assert broken
    assert any(trial.guard is wanted for trial in broken)


def test_both_sides_of_a_size_between_two_guards():
    found = trials(BASE, [guard("Eq(height // 4, 4)")])[0]
    heights = {trial.sizes["height"] for trial in found if trial.guard is not None}
    assert heights == {15, 20}


def test_a_guard_far_away_is_found_by_doubling_and_to_the_unit():
    found = trials({"batch": 2, "length": 10}, [guard_of_length("length <= 5000")])[0]
    assert next(trial for trial in found if trial.guard is not None).sizes["length"] == 5001


def test_what_takes_too_much_memory_is_said():
    far = Guard("height*width <= 10**10", ("height", "width"), *_area())
    found, unbearable = trials(BASE, [far])
    assert unbearable == [far]
    assert all(trial.guard is None for trial in found)


def test_without_an_open_axis_but_the_batch_guards_alone_are_tried():
    assert trials({"batch": 2})[0] == []
    assert [trial.sizes for trial in trials({"batch": 2}, [guard("Ne(Mod(batch, 3), 0)")])[0]] == [{"batch": 3}]


def guard_of_length(text):
    length = sympy.Symbol("length", integer=True, positive=True)
    return Guard(text, ("length",), length <= 5000, {length: "length"})


def _area():
    height, width = (sympy.Symbol(name, integer=True, positive=True) for name in ("height", "width"))
    return height * width <= 10**9, {height: "height", width: "width"}
