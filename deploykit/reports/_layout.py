"""Which columns of a table a screen has room for, and how wide each of them is. Numbers in, numbers out: nothing is printed here.

The rule, the same for every table, and tried in this order until the table fits:

1. everything beside each other, first with wide gaps, then with narrow ones;
2. headings are folded at their spaces, names (kind "text") are shortened in their middle, and sentences (kind "prose") folded;
3. sentences go below their rows;
4. minor columns go, from the right, and last the other ones.

A number or a shape is never cut, and the first column never goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deploykit.reports._types import Column

WIDE_GAP, GAP = 3, 2  # characters between two columns
MARGIN = 1  # before the first one
NAME, SHORT_NAME = 24, 10  # characters that a name keeps, and that it keeps where nothing else helps
SENTENCE = 36  # narrower than this, sentences become a tower


@dataclass(frozen=True)
class Measure:
    """How wide a column would be, in characters: `cell` its longest value, `heading` its title, `word` the title's longest word."""

    cell: int
    heading: int
    word: int

    @property
    def natural(self) -> int:
        """Wide enough for everything on one line."""
        return max(self.cell, self.heading)


@dataclass(frozen=True)
class Layout:
    """`columns` stand beside each other, in `widths`, with `gap` between them; `below` their rows; `hidden` nowhere."""

    columns: tuple[Column, ...]
    widths: tuple[int, ...]
    gap: int
    below: tuple[Column, ...] = ()
    hidden: tuple[Column, ...] = ()


def fit(columns: Sequence[Column], measures: Mapping[str, Measure], width: int) -> Layout:
    """The columns of a table by their `measures`, on a screen of `width` characters."""
    shown, natural = tuple(columns), {column.key: measures[column.key].natural for column in columns}
    for gap in (WIDE_GAP, GAP):
        if _total(shown, natural, gap) <= width:
            return Layout(shown, tuple(natural[column.key] for column in shown), gap)
    minor = [c for c in reversed(shown[1:]) if c.minor]
    steps = [(minor[:count], NAME) for count in range(len(minor) + 1)]
    steps.append((minor, SHORT_NAME))
    goes = minor + [c for c in reversed(shown[1:]) if not c.minor and c.kind != "prose"]
    steps += [(goes[:count], SHORT_NAME) for count in range(len(minor) + 1, len(goes) + 1)]
    for gone, name in steps:
        found = _squeezed([column for column in shown if column not in gone], measures, width, name)
        if found is not None:
            return replace(found, hidden=tuple(column for column in shown if column in gone))
    first = shown[:1]
    return Layout(first, tuple(natural[c.key] for c in first), GAP, tuple(c for c in shown[1:] if c.kind == "prose"),
                  tuple(c for c in shown[1:] if c.kind != "prose"))  # fmt: skip


def _squeezed(columns: Sequence[Column], measures: Mapping[str, Measure], width: int, name: int) -> Layout | None:
    """These columns as narrow as need be, with the sentences beside the rest or below it; `None` where that is too wide."""
    prose = tuple(column for column in columns[1:] if column.kind == "prose")
    for below in ((), prose) if prose else ((),):
        beside = [column for column in columns if column not in below]
        least = {column.key: _least(column, measures[column.key], name) for column in beside}
        spare = width - _total(beside, least, GAP)
        if spare >= 0:
            widths = _spread(beside, measures, least, spare)
            return Layout(tuple(beside), tuple(widths[column.key] for column in beside), GAP, tuple(below))
    return None


def _least(column: Column, measure: Measure, name: int) -> int:
    """The narrowest that the column may be."""
    floor = {"text": name, "prose": SENTENCE}.get(column.kind, measure.cell)
    return max(min(measure.cell, floor), measure.word)


def _spread(columns: Sequence[Column], measures: Mapping[str, Measure], least: Mapping[str, int], spare: int) -> dict[str, int]:
    """What is left over goes to names first, then to sentences, then to headings."""
    widths = dict(least)
    wishes = [(column.key, measures[column.key].cell) for kind in ("text", "prose") for column in columns if column.kind == kind]
    wishes += [(column.key, measures[column.key].natural) for column in columns]
    for key, wish in wishes:
        more = min(spare, max(0, wish - widths[key]))
        widths[key] += more
        spare -= more
    return widths


def _total(columns: Sequence[Column], widths: Mapping[str, int], gap: int) -> int:
    return MARGIN + sum(widths[column.key] for column in columns) + gap * (len(columns) - 1)
