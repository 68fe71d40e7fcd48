"""How pictures look: the colours and the order of an HTML report (`_page.css`, light), by matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from deploykit.errors import DependencyMissing
from deploykit.reports._types import Kind
from deploykit.reports._values import printable, short, with_unit

COLOURS = ("#2f6fb3", "#d0762a", "#4a9a5b", "#9a5bb0")
INK, SOFT, LINE = "#1d2430", "#5b6675", "#d9dee6"
SMALL, NORMAL, LARGE = 8, 10, 13  # points
DPI = 120


def figure(width: float, height: float, title: str) -> Any:
    """An empty figure of so many inches, with its title at the left. Raises `DependencyMissing` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyMissing.of("matplotlib", "export") from error

    made = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(made)
    made.suptitle(text(title), x=0.01, ha="left", fontsize=LARGE, fontweight="bold", color=INK)
    return made


def tidy(axes: Any, title: str, grid: str = "x") -> None:
    """Only the lines that help to read a value."""
    axes.set_title(text(title), loc="left", fontsize=NORMAL, fontweight="bold", color=INK)
    axes.tick_params(length=0, labelsize=SMALL, colors=SOFT)
    axes.grid(True, axis=grid, color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)


def legend(axes: Any, **options: Any) -> None:
    """In the colours of the text, without a frame."""
    axes.legend(fontsize=SMALL, labelcolor=INK, frameon=False, **options)


def readable(axis: Any, kind: Kind) -> None:
    """The numbers of an axis as people read them, in a few places: 11.2 M for 1.12e7, with the unit where there is one."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(short(_number(value, kind), kind), kind)))


def _number(value: float, kind: Kind) -> float:
    """A count as a whole number: an axis has floats."""
    return int(value) if kind == "count" and float(value).is_integer() else value


def written(made: Any, form: str) -> bytes:
    """The figure as a file of a format, such as "png"."""
    out = io.BytesIO()
    made.savefig(out, format=form, dpi=DPI)
    return out.getvalue()


def save(made: Any, path: Path, form: str) -> None:
    """The figure into a file."""
    made.savefig(path, format=form, dpi=DPI)


def text(value: str) -> str:
    """Without control characters, and with dollar signs that start no formula."""
    return printable(value).replace("$", r"\$")
