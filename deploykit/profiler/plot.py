"""A profile as a picture: time and operations per layer, and how the latencies are spread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit import files
from deploykit.errors import DependencyMissing, InputError
from deploykit.profiler import conventions
from deploykit.profiler.layer_table import Layer

if TYPE_CHECKING:
    from deploykit.profiler.result import Profile

FORMATS = (".png", ".svg", ".pdf")
MOST_LAYERS = 60
COLOURS = ("#2f6fb3", "#d0762a", "#4a9a5b", "#9a5bb0")


def check_path(path: Path) -> None:
    """Raise before the long work what `draw` would raise after it: `InputError` for the suffix, `OutputError` for the file."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"a picture cannot be written as {path.name!r}", f"choose a name that ends in {', '.join(FORMATS)}")
    files.writable_file(path)


def draw(profile: Profile, path: Path) -> None:
    """Write the picture. Raises `InputError` for the suffix, `OutputError`, and `DependencyMissing` without matplotlib."""
    check_path(path)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyMissing.of("matplotlib", "export") from error

    rows = _rows(profile)
    timed = any(row.milliseconds for row in rows)
    panels = 1 + timed + bool(profile.latencies)
    height = max(3.0, 0.22 * len(rows) + 1.2)
    figure = Figure(figsize=(6.0 * panels, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes: list[Any] = list(np.atleast_1d(figure.subplots(1, panels)))
    _operations(axes.pop(0), profile, rows)
    if timed:
        _times(axes.pop(0), rows)
    if profile.latencies:
        _latencies(axes.pop(0), profile)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=120)


def _rows(profile: Profile) -> list[Layer]:
    """The layers that cost anything; of very many, those that cost most, in order."""
    rows = [row for row in profile.table.layers if row.ops or row.milliseconds]
    if len(rows) > MOST_LAYERS:
        dearest = sorted(rows, key=lambda row: (row.milliseconds or 0.0, row.ops))[-MOST_LAYERS:]
        rows = [row for row in rows if row in dearest]
    return rows


def _operations(axes: Any, profile: Profile, rows: list[Layer]) -> None:
    axes.barh(_names(rows), [row.ops for row in rows], color=COLOURS[2])
    _finish(axes, f"{conventions.get(profile.table.convention).unit} per layer of {_safe(profile.target)}")


def _times(axes: Any, rows: list[Layer]) -> None:
    places = np.arange(len(rows))
    for index, (name, values) in enumerate(
        (("PyTorch", [row.torch_ms for row in rows]), ("ONNX Runtime", [row.onnxruntime_ms for row in rows]))
    ):
        if any(value is not None for value in values):
            axes.barh(places + 0.4 * index - 0.2, [value or 0.0 for value in values], 0.4, label=name, color=COLOURS[index])
    axes.set_yticks(places, _names(rows))
    axes.legend()
    _finish(axes, "milliseconds per layer")


def _latencies(axes: Any, profile: Profile) -> None:
    highest = max(entry.p99_ms for entry in profile.latencies)
    for index, entry in enumerate(profile.latencies):
        values = [value for value in entry.samples if value <= highest]
        axes.hist(values, bins=60, alpha=0.6, label=_safe(f"{entry.label}: {entry.median_ms:.3g} ms"), color=COLOURS[index % 4])
    axes.legend()
    axes.set_title("latency of whole runs, ms")


def _names(rows: list[Layer]) -> list[str]:
    """Unique, because matplotlib would lay bars of one name over each other."""
    return [_safe(f"{index + 1}  {(row.path or row.type)[-40:]}") for index, row in enumerate(rows)]


def _safe(text: str) -> str:
    """A dollar sign would start a formula."""
    return text.replace("$", r"\$")


def _finish(axes: Any, title: str) -> None:
    axes.invert_yaxis()
    axes.set_title(title)
    axes.tick_params(axis="y", labelsize=8)
