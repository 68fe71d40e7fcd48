"""Sizes at which a guard does not hold: every size near the example's is looked at, and those that the guard's own numbers name.

A threshold is found by going far enough. An equality or a multiple is true at single points, which lie where its numbers say.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence

import sympy

from deploykit.network.capturing import Guard

Sizes = Mapping[str, int]
Holds = Callable[[Sizes], bool]

FARTHEST = 1 << 16  # largest size of one axis that is looked at for a guard
SCANNED = 4096  # sizes of one axis looked at one by one, where a guard can be asked quickly
NEAR = 64  # and where it cannot
GRID = 64  # sizes of each of two axes, all pairs of which are looked at last
MOST_NUMBERS = 12  # of one guard that are combined with each other

# What torch's functions of sizes are in Python; those of sympy are known to its printer.
FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv,
    "CeilDiv": lambda a, b: -(-a // b),
    "ModularIndexing": lambda a, b, c: a // b % c,
    "Mod": operator.mod,
    "PythonMod": operator.mod,
    "Where": lambda c, a, b: a if c else b,
    "CeilToInt": math.ceil,
    "FloorToInt": math.floor,
    "TruncToInt": math.trunc,
    "TruncToFloat": lambda a: float(math.trunc(a)),
    "RoundToInt": round,
    "RoundDecimal": round,
    "ToFloat": float,
    "IntTrueDiv": operator.truediv,
    "FloatTrueDiv": operator.truediv,
    "PowByNatural": operator.pow,
    "FloatPow": operator.pow,
    "Identity": lambda a: a,
    "Max": max,
    "Min": min,
    **{f"OpaqueUnaryFn_{name}": getattr(math, name) for name in ("sqrt", "log2", "log", "exp", "cos", "sin", "tan", "tanh")},
}


def broken(base: Sizes, guard: Guard) -> list[Sizes]:
    """Sizes at which a guard does not hold, at most two: the cheapest below the example's, and above, one axis changed or all.

    `[]` where none was found up to `FARTHEST`.
    """
    axes = [name for name in guard.axes if name in base]
    moves = [[name] for name in axes] + ([axes] if len(axes) > 1 else [])
    quick = _quick(base, guard)
    holds: Holds = guard.holds if quick is None else quick
    found = []
    for direction in (-1, 1):
        sides = [side for moved in moves if (side := _nearest(base, guard, moved, direction, holds, quick is not None)) is not None]
        if sides:
            found.append(min(sides, key=lambda sizes: math.prod(sizes.values())))
    if not found and len(axes) > 1 and quick is not None:
        found = list(itertools.islice((s for s in _grid(base, axes) if not quick(s) and not guard.holds(s)), 1))
    return found


def broken_alone(base: Sizes, guard: Guard, others: Sequence[Guard], side: Sizes) -> Sizes | None:
    """Sizes at which a guard does not hold and all `others` do: those nearest to `side`, with one axis or two of them changed.

    `None` where there are none from 2 to `GRID`: sizes of 1 are broadcast.
    """
    asked = [(each, _quick(base, each)) for each in (guard, *others)]
    if any(quick is None for _, quick in asked):
        return None
    breaks, *hold = [quick for _, quick in asked if quick is not None]

    def fits(sizes: Sizes) -> bool:
        alone = not breaks(sizes) and all(each(sizes) for each in hold)
        return alone and not guard.holds(sizes) and all(each.holds(sizes) for each in others)

    names = [name for name in side if any(name in each.axes for each, _ in asked)]
    for count in (1, 2):
        changes = [
            dict(zip(moved, sizes, strict=True))
            for moved in itertools.combinations(names, count)
            for sizes in itertools.product(range(2, GRID + 1), repeat=count)
        ]
        changes.sort(key=lambda change: sum(abs(size - side[name]) for name, size in change.items()))
        found = next(({**side, **change} for change in changes if fits({**side, **change})), None)
        if found is not None:
            return found
    return None


def beyond(base: Sizes, guard: Guard, side: Sizes) -> Sizes | None:
    """Sizes farther behind a guard than `side`, which `broken` found: the nearest at which its axis is at least twice as large.

    At the first multiple of 128 there is one group of 128, and much that is done with groups does nothing to one. `None` for an
    inequality, behind which all that follows is alike, and where `side` changes several axes or makes one smaller.
    """
    changed = [name for name, size in side.items() if size != base[name]]
    quick = _quick(base, guard)
    if quick is None or len(changed) != 1 or side[changed[0]] < base[changed[0]] or not may_break_unseen(guard):
        return None
    first = 2 * side[changed[0]]
    sizes = ({**base, changed[0]: size} for size in range(first, min(2 * first, FARTHEST) + 1))
    return next((each for each in sizes if not quick(each) and not guard.holds(each)), None)


def may_break_unseen(guard: Guard) -> bool:
    """Whether a guard that `broken` found nothing for may break all the same.

    A plain inequality that holds at the smallest sizes and at the largest ones is one that torch notes of every network, such as
    ``1 < 3*height*width``; an equality, or what asks for a rest, is false at single sizes.
    """
    conditions = guard.expression.atoms(sympy.core.relational.Relational)
    ordered = bool(conditions) and all(isinstance(each, sympy.core.relational._Inequality) for each in conditions)
    rests = {"Mod", "PythonMod", "ModularIndexing"} & {type(part).__name__ for part in sympy.preorder_traversal(guard.expression)}
    return not ordered or bool(rests)


def _quick(base: Sizes, guard: Guard) -> Holds | None:
    """The guard as a Python function, a hundred times faster than sympy; `None` where it has a part that is not known here.

    Whatever it finds is asked of the guard itself.
    """
    names = [name for name in dict.fromkeys(guard.symbols.values()) if name in base]
    symbols = {name: sympy.Symbol(f"size_{place}", integer=True, positive=True) for place, name in enumerate(names)}
    if not set(guard.symbols.values()) <= set(names):
        return None
    try:
        expression = guard.expression.xreplace({symbol: symbols[name] for symbol, name in guard.symbols.items()})
        function = sympy.lambdify(list(symbols.values()), expression, modules=[dict(FUNCTIONS), "math"])
        if not function(*(base[name] for name in names)):
            return None
    except Exception:  # whatever sympy says of a function that it cannot print, or Python of one that it does not know
        return None

    def holds(sizes: Sizes) -> bool:
        try:
            return bool(function(*(sizes[name] for name in names)))
        except (ArithmeticError, ValueError):  # such as a division by zero: nobody can tell
            return True

    return holds


def _nearest(base: Sizes, guard: Guard, axes: Sequence[str], direction: int, holds: Holds, quickly: bool) -> Sizes | None:
    """The sizes nearest to `base`, with `axes` moved together, at which a guard does not hold.

    Step by step near the example; farther away by doubling, and where the guard's numbers point.
    """

    def moved(distance: int) -> dict[str, int]:
        return {**base, **{name: base[name] + direction * distance for name in axes}}

    def breaks(distance: int) -> bool:
        return not holds(moved(distance)) and not guard.holds(moved(distance))

    farthest = min(base[name] for name in axes) - 1 if direction < 0 else FARTHEST
    near = min(farthest, SCANNED if quickly else NEAR)
    by_step = next((distance for distance in range(1, near + 1) if breaks(distance)), None)
    if by_step is not None:
        return moved(by_step)
    far = [] if (by_halves := _doubled(near, farthest, breaks)) is None else [by_halves]
    if len(axes) == 1:
        pointed = sorted({direction * (size - base[axes[0]]) for size in _pointed(base, guard, axes[0])})
        far += itertools.islice((d for d in pointed if near < d <= farthest and breaks(d)), 1)
    return moved(min(far)) if far else None


def _doubled(near: int, farthest: int, breaks: Callable[[int], bool]) -> int | None:
    """A distance above `near` at which a guard breaks, found by doubling and narrowed down by halves."""
    low, high = near, near
    while high < farthest:
        low, high = high, min(2 * high + 1, farthest)
        if breaks(high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if breaks(middle) else (middle, high)
            return high
    return None


def _pointed(base: Sizes, guard: Guard, name: str) -> set[int]:
    """Sizes of one axis that the numbers in a guard point at, between 1 and `FARTHEST`.

    The numbers and the sizes of the other axes, their sums, differences, products and quotients, the multiples next to the
    example, and the neighbours of all these.
    """
    whole = {abs(int(number)) for number in guard.expression.atoms(sympy.Integer)}
    broken_numbers = {abs(float(number)) for number in guard.expression.atoms(sympy.Float, sympy.Rational)} - {0.0}
    whole |= {size for other, size in base.items() if other != name}
    numbers = sorted(number for number in whole if number > 0)[-MOST_NUMBERS:]
    found = {*numbers, math.lcm(*numbers)} if numbers else set()
    for left, right in itertools.product(numbers, repeat=2):
        found |= {left + right, left - right, left * right, left // right, -(-left // right), math.lcm(left, right)}
    for number, factor in itertools.product(numbers, sorted(f for f in broken_numbers if math.isfinite(f))[:MOST_NUMBERS]):
        found |= {int(min(number / factor, FARTHEST)), int(min(number * factor, FARTHEST))}
    size = base[name]
    found |= {multiple for step in tuple(found) if step > 1 for multiple in (size // step * step, (size // step + 1) * step)}
    return {near for number in found for near in (number - 1, number, number + 1) if 1 <= near <= FARTHEST}


def _grid(base: Sizes, axes: Sequence[str]) -> Iterator[dict[str, int]]:
    """Pairs of small sizes of two axes, those nearest to the example's first."""
    first, second = axes[:2]
    pairs = itertools.product(range(1, GRID + 1), repeat=2)
    for one, two in sorted(pairs, key=lambda pair: abs(pair[0] - base[first]) + abs(pair[1] - base[second])):
        yield {**base, first: one, second: two}
