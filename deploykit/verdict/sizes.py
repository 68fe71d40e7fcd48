"""The sizes of open axes at which a file is tried: sizes that differ in kind, and sizes on both sides of every guard.

A file whose height is open says that it is right at every height. Most networks are; one that asks for its size is not, and the
size at which it is asked must be tried: odd where the export was even, smaller, larger, prime, one, the two sides unequal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import sympy

from deploykit.network.batch_axes import BATCH
from deploykit.network.capturing import Guard

Sizes = Mapping[str, int]

FARTHEST = 1 << 16  # largest size of one axis that is looked at for a guard
MOST_GROWTH = 64  # largest number of elements beside those of the example


@dataclass(frozen=True)
class Trial:
    """One size for every open axis. `guard`: the condition that does not hold there, `None` for sizes that differ in kind."""

    sizes: Sizes
    guard: Guard | None = None

    def __str__(self) -> str:
        return ", ".join(f"{name} {size}" for name, size in self.sizes.items())


def trials(base: Sizes, guards: Sequence[Guard] = ()) -> tuple[list[Trial], list[Guard]]:
    """The trials beside `base`, the sizes of the example, and the unbearable guards. Guards first, then kinds, cheapest first.

    An axis called `batch` is changed for guards alone: several batches are tried anyway. A guard is unbearable where the sizes at
    which it does not hold take too much memory.
    """
    found: dict[tuple[int, ...], Trial] = {}
    unbearable = []
    for guard in guards:
        broken = list(_breaking(base, guard))
        bearable = [sizes for sizes in broken if _bearable(sizes, base)]
        if broken and not bearable:
            unbearable.append(guard)
        for sizes in bearable:
            found.setdefault(tuple(sizes.values()), Trial(sizes, guard))
    for sizes in _kinds(base):
        if sizes != base:
            found.setdefault(tuple(sizes.values()), Trial(sizes))
    by_kind = sorted((trial for trial in found.values() if trial.guard is None), key=lambda trial: math.prod(trial.sizes.values()))
    return [*(trial for trial in found.values() if trial.guard is not None), *by_kind], unbearable


def _kinds(base: Sizes) -> Iterator[dict[str, int]]:
    """Sizes that differ from the example's in parity, in divisors, in which side is longer, and in being larger or smaller."""
    names = [name for name in base if name != BATCH]
    if not names:
        return

    def all_by(change: Callable[[int, int], int]) -> dict[str, int]:
        return {**base, **{name: max(1, change(base[name], place)) for place, name in enumerate(names)}}

    yield all_by(lambda size, place: size + 1 + 2 * place)
    yield all_by(lambda size, place: size - 1 - 2 * ((place + 1) % 2))
    yield all_by(lambda size, place: int(sympy.nextprime(size + 2 + size // 8 * (len(names) - place))))
    yield all_by(lambda size, place: int(sympy.prevprime(max(3, size - size // (3 + place)))))
    yield all_by(lambda size, _: size + size // 2)
    yield all_by(lambda size, _: size * 2)
    yield all_by(lambda size, _: size // 2)
    step = all_by(lambda size, place: size + _even_part(size) * (1 + place))
    yield step
    for name in names:
        for size in (1, 2, 3, base[name] - 1, base[name] + 1, step[name]):
            yield {**base, name: max(1, size)}
    if len(names) > 1:
        yield all_by(lambda _size, _place: 1)


def _even_part(size: int) -> int:
    """The largest power of two that divides a size, at least 2: networks that halve an image want their multiples."""
    return max(2, size & -size)


def _breaking(base: Sizes, guard: Guard) -> Iterator[dict[str, int]]:
    """Sizes at which a guard does not hold, at most two: the cheapest below the example's, and above, one axis changed or all."""
    axes = [name for name in guard.axes if name in base]
    moves = [[name] for name in axes] + ([axes] if len(axes) > 1 else [])
    for direction in (-1, 1):
        found = [sizes for moved in moves if (sizes := _first_broken(base, guard, moved, direction)) is not None]
        if found:
            yield min(found, key=lambda sizes: math.prod(sizes.values()))


def _first_broken(base: Sizes, guard: Guard, axes: Sequence[str], direction: int) -> dict[str, int] | None:
    """The sizes nearest to `base`, with `axes` moved together, at which a guard does not hold.

    Step by step near the example, then by doubling; what is found by doubling is narrowed down by halves.
    """

    def moved(distance: int) -> dict[str, int]:
        return {**base, **{name: base[name] + direction * distance for name in axes}}

    def broken(distance: int) -> bool:
        return not guard.holds(moved(distance))

    farthest = min(base[name] for name in axes) - 1 if direction < 0 else FARTHEST
    near = min(farthest, 64)
    for distance in range(1, near + 1):
        if broken(distance):
            return moved(distance)
    low, high = near, near
    while high < farthest:
        low, high = high, min(2 * high + 1, farthest)
        if broken(high):
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if broken(middle) else (middle, high)
            return moved(high)
    return None


def _bearable(sizes: Sizes, base: Sizes) -> bool:
    return math.prod(sizes.values()) <= MOST_GROWTH * max(math.prod(base.values()), 1 << 14)
