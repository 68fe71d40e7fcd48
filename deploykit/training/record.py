"""What a training run leaves for people beside its weights: history, a picture of the curves, a card."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from deploykit import files
from deploykit._version import __version__
from deploykit.reports import Kind, Lines, curves
from deploykit.training import card
from deploykit.training.card import Background
from deploykit.training.result import TrainingResult
from deploykit.training.tasks import SHARES

HISTORY = "history.json"
FILES = (HISTORY, "history.csv", "curves.png", "card.md")


def versions() -> dict[str, str]:
    """The versions that made the weights."""
    found = {"deploykit": __version__}
    for package in ("torch", "numpy", "safetensors"):
        found[package] = metadata.version(package)
    return found


def write(
    folder: Path, result: Mapping[str, Any], run: Mapping[str, Any], made_with: Mapping[str, str], background: Background
) -> None:
    """Write history.json, history.csv, curves.png and card.md. Raises `OutputError`."""
    document = {"run": run, "result": result}
    files.write_text(folder / HISTORY, json.dumps(document, indent=2, allow_nan=False) + "\n")
    history = result["history"]
    if history:
        files.write_text(folder / "history.csv", _csv(history))
        files.write_bytes(folder / "curves.png", _curves(result, background))
    files.write_text(folder / "card.md", card.text(result, run, made_with, background))


def finished(folder: Path, run: Mapping[str, Any]) -> TrainingResult | None:
    """The result of a run of the same kind that ended in this folder, or `None`."""
    if run_in(folder) != json.loads(json.dumps(run)):
        return None
    try:
        return TrainingResult.of(json.loads((folder / HISTORY).read_text())["result"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def run_in(folder: Path) -> dict[str, Any] | None:
    """What the run was (`Plan.fingerprint`) whose history lies in this folder; `None` where there is none to read."""
    try:
        return dict(json.loads((folder / HISTORY).read_text())["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _csv(history: list[dict[str, float]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(history[-1]))
    writer.writeheader()
    writer.writerows(history)
    return out.getvalue()


def _curves(result: Mapping[str, Any], background: Background) -> bytes:
    """The losses, and the metric beside them where that is another number."""
    history, metric = result["history"], result["metric"]
    epochs = [row["epoch"] for row in history]
    loss = f"validation_{metric}" if metric == "mse" else "validation_loss"
    losses = {"training": [row["loss"] for row in history], "validation": [row.get(loss) for row in history]}
    panels = [Lines("loss", epochs, losses, from_zero=True)]
    if metric != "mse":
        reached = [row[f"validation_{metric}"] for row in history]
        kind: Kind = "percent" if metric in SHARES else "number"
        panels.append(Lines(f"validation {metric.replace('_', ' ')}", epochs, {"validation": reached}, kind, first_colour=1))
    return curves(f"{result['name']} on {background.dataset}", panels, background.best_epoch)
