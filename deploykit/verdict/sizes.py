"""The sizes of open axes at which a file is tried: sizes that differ in kind, and sizes on both sides of every guard.

A file whose height is open says that it is right at every height. Most networks are; one that asks for its size is not, and the
size at which it is asked must be tried: odd where the export was even, smaller, larger, prime, one, the two sides unequal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import sympy

from deploykit.network.batch_axes import BATCH
from deploykit.network.capturing import Guard
from deploykit.verdict import guard_sides
from deploykit.verdict.guard_sides import Sizes

MOST_GROWTH = 64  # largest number of elements beside those of the example
MOST_PAIRS = 12  # pairs of guards that are broken at once
MOST_ALONE = 8  # guards that are looked for where no other is broken


@dataclass(frozen=True)
class Trial:
    """One size for every open axis.

    `guards`: the conditions that do not hold there, `()` for sizes that differ in kind. `reason`: what else tells of this size.
    """

    sizes: Sizes
    guards: tuple[Guard, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        return ", ".join(f"{name} {size}" for name, size in self.sizes.items())

    @property
    def key(self) -> tuple[int, ...]:
        """The sizes alone: two trials of one key are the same work."""
        return tuple(self.sizes.values())


@dataclass(frozen=True)
class Untried:
    """A guard whose other side is not among the trials, and why."""

    guard: Guard
    why: str


def trials(base: Sizes, guards: Sequence[Guard] = ()) -> tuple[list[Trial], list[Untried]]:
    """The trials beside `base`, the sizes of the example, and the guards that have none.

    Guards first, one by one and then together, then kinds, cheapest first. An axis called `batch` is changed for guards alone:
    several batches are tried anyway. A guard has no trial where its other side takes too much memory, or was not found.
    """
    found: dict[tuple[int, ...], Trial] = {}
    untried = []
    for guard in guards:
        sides = guard_sides.broken(base, guard)
        light = [sizes for sizes in sides if bearable(sizes, base)]
        if not sides and guard_sides.may_break_unseen(guard):
            untried.append(Untried(guard, f"no size up to {guard_sides.FARTHEST} was found at which it does not hold"))
        elif sides and not light:
            untried.append(Untried(guard, "it takes too much memory"))
        for sizes in light:
            trial = Trial(sizes, (guard,))
            found.setdefault(trial.key, trial)
    single = list(found.values())
    for trial in _together(base, single):
        found.setdefault(trial.key, trial)
    for trial in _alone(base, single, guards):
        found.setdefault(trial.key, trial)
    for trial in single:
        farther = guard_sides.beyond(base, trial.guards[0], trial.sizes)
        if farther is not None and bearable(farther, base):
            found.setdefault(tuple(farther.values()), Trial(farther, trial.guards))
    by_guard = list(found.values())
    for sizes in _kinds(base):
        if sizes != base:
            found.setdefault(tuple(sizes.values()), Trial(sizes))
    by_kind = sorted((trial for trial in found.values() if not trial.guards), key=lambda trial: math.prod(trial.key))
    return [*by_guard, *by_kind], untried


def _alone(base: Sizes, single: Sequence[Trial], guards: Sequence[Guard]) -> Iterator[Trial]:
    """Sizes at which one guard is broken and no other, for those whose nearest sizes break others too.

    Behind another guard the network may never ask: ``h > w and h < 8`` is not seen on the way from a high image to a flat one.
    """
    looked_at = 0
    for trial in sorted(single, key=lambda trial: 1 in trial.key):  # torch notes a size of one for every axis
        guard = trial.guards[0]
        others = [other for other in guards if other.text != guard.text and other.holds(base)]
        if looked_at == MOST_ALONE or all(other.holds(trial.sizes) for other in others):
            continue
        looked_at += 1
        sizes = guard_sides.broken_alone(base, guard, others, trial.sizes)
        if sizes is not None and bearable(sizes, base):
            yield Trial(sizes, (guard,))


def _together(base: Sizes, single: Sequence[Trial]) -> Iterator[Trial]:
    """Sizes at which several guards are broken at once: all of them above the example's, all below, and two of different axes.

    Two thresholds may matter only together. Sizes of one are left out: torch notes them for every axis.
    """
    changes = [(trial, {n: size for n, size in trial.sizes.items() if size != base[n]}) for trial in single]
    changes = [(trial, change) for trial, change in changes if 1 not in change.values()]
    above = [(trial, change) for trial, change in changes if all(size > base[name] for name, size in change.items())]
    below = [(trial, change) for trial, change in changes if all(size < base[name] for name, size in change.items())]
    made = [_merged(base, side, end) for side, end in ((above, max), (below, min)) if len(side) > 1]
    pairs = [*combinations(above, 2), *combinations(below, 2), *product(above, below)]
    apart = [pair for pair in pairs if not pair[0][1].keys() & pair[1][1].keys()]
    made += [_merged(base, pair, max) for pair in apart[:MOST_PAIRS]]
    yield from (trial for trial in made if bearable(trial.sizes, base))


def _merged(base: Sizes, side: Iterable[tuple[Trial, Sizes]], end: Callable[[Iterable[int]], int]) -> Trial:
    """The changes of several trials in one; the outermost size where two change the same axis."""
    changes = list(side)
    sizes = {name: end([change[name] for _, change in changes if name in change] or [size]) for name, size in base.items()}
    return Trial(sizes, tuple({guard.text: guard for trial, _ in changes for guard in trial.guards}.values()))


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


def bearable(sizes: Sizes, base: Sizes) -> bool:
    """Whether the network can be run at `sizes` by its number of elements, beside those of the example."""
    return math.prod(sizes.values()) <= MOST_GROWTH * max(math.prod(base.values()), 1 << 14)
