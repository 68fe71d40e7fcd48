"""`Report` and its parts: plain data that every format turns into text, without glyphs, widths or units in the values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "prose", "shape", "count", "bytes", "ms", "seconds", "percent", "peak", "ratio", "score", "number"]


@dataclass(frozen=True)
class Column:
    """A column of a table: `key` into the rows, `title` for people, `kind` of its values.

    count: whole numbers · ms, seconds, bytes: in that unit · percent: 0..1 · peak: the same, of a measured peak that may have
    been passed: 1.26 is shown as "over 100 %" · ratio: 1.81 is shown as 1.81x ·
    shape: a sequence of ints · score: 0..1, four digits · number: a float · prose: a sentence or a list, that may be folded ·
    text: anything else, such as a name, which a narrow screen shortens in its middle. `None` is an honest gap.
    `minor`: the first to go where a screen is too narrow.
    """

    key: str
    title: str
    kind: Kind = "text"
    minor: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of values by column key; `totals` is a last row. `summary`: a short one, that a page shows before its charts.

    `depths`: where the rows are a tree, how deep each of them is, 0 for the outermost; a row belongs to the last one above it that
    is less deep. Its key "name" is then what a page, which can indent and fold, shows in the first column.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    totals: Mapping[str, Any] | None = None
    summary: bool = False
    depths: Sequence[int] = ()


@dataclass(frozen=True)
class Tile:
    """A number to see first: `value` of a `kind`, and what it is, such as 11175434, "count", "parameters"."""

    value: float
    kind: Kind
    label: str


@dataclass(frozen=True)
class Bars:
    """A chart: one bar per label and series, such as milliseconds per layer. `series`: name -> one value per label."""

    title: str
    labels: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    kind: Kind = "number"


@dataclass(frozen=True)
class Spread:
    """A chart: how often each value came, such as the latencies of two engines. `series`: name -> the values."""

    title: str
    series: Mapping[str, Sequence[float]]
    kind: Kind = "number"

    def shown(self) -> tuple[float, float] | None:
        """(low, high) of the common axis; `None` without any value.

        The largest hundredth of every series is left out, so that a few very slow runs do not press the rest into one bin.
        """
        series = [sorted(values) for values in self.series.values() if values]
        if not series:
            return None
        low = min(values[0] for values in series)
        high = max(values[math.ceil(0.99 * len(values)) - 1] for values in series)
        return low, high if high > low else low + (abs(low) or 1.0)


@dataclass(frozen=True)
class Point:
    """A point with the ends of its intervals; `mark`: the one to look at."""

    label: str
    x: float
    x_low: float
    x_high: float
    y: float
    y_low: float
    y_high: float
    mark: bool = False


@dataclass(frozen=True)
class Points:
    """A chart: points in a plane, of which less is better on both axes, such as time and lost accuracy."""

    title: str
    x_title: str
    y_title: str
    points: Sequence[Point]
    x_kind: Kind = "number"
    y_kind: Kind = "number"

    @property
    def series(self) -> Mapping[str, Sequence[Point]]:
        """All points under the chart's title; empty where there is none."""
        return {self.title: self.points} if self.points else {}

    def front(self) -> list[Point]:
        """From left to right, the points that no other one is better than on both axes."""
        found: list[Point] = []
        for point in sorted(self.points, key=lambda point: (point.x, point.y)):
            if not found or point.y < found[-1].y:
                found.append(point)
        return found

    def shown(self) -> tuple[float, float, float, float]:
        """(left, right, bottom, top) of the axes: all intervals with some room around them."""
        xs = [value for point in self.points for value in (point.x_low, point.x_high)]
        ys = [value for point in self.points for value in (point.y_low, point.y_high)]
        ends = []
        for values in (xs, ys):
            low, high = min(values), max(values)
            room = 0.08 * (high - low) or 0.08 * abs(high) or 1.0
            ends += [low - room, high + room]
        return ends[0], ends[1], ends[2], ends[3]


@dataclass(frozen=True)
class Lines:
    """A chart: values per epoch. `series`: name -> one value per epoch. `from_zero`: whether the axis begins at 0."""

    title: str
    epochs: Sequence[int]
    series: Mapping[str, Sequence[float | None]]
    kind: Kind = "number"
    from_zero: bool = False
    first_colour: int = 0


@dataclass(frozen=True)
class Report:
    """All that a command has to say.

    `document` is the public JSON form. For people: `facts` (label, value) first, then `tables`, then `notes`, one line each.
    `charts` are for formats that can draw. `headline` is the one sentence to remember, `good` whether it is good news (`None`:
    neither).

    For a page, which has room: `tiles` under its `heading` (`title` where there is none), and `page_tables` after the tables.
    """

    title: str
    document: Any
    headline: str = ""
    good: bool | None = None
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    notes: Sequence[str] = ()
    charts: Sequence[Bars | Spread | Points] = ()
    heading: str = ""
    tiles: Sequence[Tile] = ()
    page_tables: Sequence[Table] = ()
