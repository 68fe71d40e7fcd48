"""Values per epoch as a picture, in the style of the other ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploykit.reports import _style
from deploykit.reports._types import Lines

PANEL_INCHES, HEIGHT_INCHES = 5.2, 3.8


def png(title: str, panels: Sequence[Lines], best: int = 0) -> bytes:
    """One panel per entry, beside each other; `best` marks an epoch (0: none). Raises `DependencyMissing` without matplotlib."""
    figure = _style.figure(PANEL_INCHES * len(panels), HEIGHT_INCHES, title)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel, best)
    return _style.written(figure, "png")


def _draw(axes: Any, panel: Lines, best: int) -> None:
    from matplotlib.ticker import MaxNLocator

    _style.tidy(axes, panel.title, "y")
    for index, (name, values) in enumerate(panel.series.items()):
        colour = _style.COLOURS[(panel.first_colour + index) % len(_style.COLOURS)]
        known = [(epoch, value) for epoch, value in zip(panel.epochs, values, strict=True) if value is not None]
        if known:
            axes.plot(*zip(*known, strict=True), color=colour, marker="o", markersize=3, linewidth=1.6, label=_style.text(name))
            _mark(axes, dict(known), best, colour)
    if best:
        axes.axvline(best, color=_style.SOFT, linewidth=1, linestyle=":", zorder=1)
    kept = f"epoch (dotted: {best}, the best, whose weights were kept)" if best else "epoch"
    axes.set_xlabel(kept, fontsize=_style.SMALL, color=_style.SOFT)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    low, high = min(panel.epochs), max(panel.epochs)
    axes.set_xlim(low - 0.5, high + 0.5)
    _style.readable(axes.yaxis, panel.kind)
    if panel.from_zero:
        axes.set_ylim(0, 1.08 * max((v for values in panel.series.values() for v in values if v is not None), default=0.0) or 1.0)
    if len(panel.series) > 1:
        _style.legend(axes)


def _mark(axes: Any, values: dict[int, float], best: int, colour: str) -> None:
    if best in values:
        axes.plot(
            [best], [values[best]], marker="o", markersize=8, markerfacecolor="white", markeredgecolor=colour, markeredgewidth=2
        )
