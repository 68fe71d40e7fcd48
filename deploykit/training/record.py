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
from deploykit.errors import counted
from deploykit.training.result import TrainingResult

HISTORY = "history.json"
FILES = (HISTORY, "history.csv", "curves.png", "card.md")


def versions() -> dict[str, str]:
    """The versions that made the weights."""
    found = {"deploykit": __version__}
    for package in ("torch", "numpy", "safetensors"):
        found[package] = metadata.version(package)
    return found


def write(folder: Path, result: Mapping[str, Any], run: Mapping[str, Any], made_with: Mapping[str, str]) -> None:
    """Write history.json, history.csv, curves.png and card.md. Raises `OutputError`."""
    document = {"run": run, "result": result}
    files.write_text(folder / HISTORY, json.dumps(document, indent=2, allow_nan=False) + "\n")
    history = result["history"]
    if history:
        files.write_text(folder / "history.csv", _csv(history))
        files.write_bytes(folder / "curves.png", _curves(history, f"{result['name']} on {run['recipe']['dataset']}"))
    files.write_text(folder / "card.md", _card(result, run, made_with))


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
    writer = csv.DictWriter(out, fieldnames=list(history[0]))
    writer.writeheader()
    writer.writerows(history)
    return out.getvalue()


def _curves(history: list[dict[str, float]], title: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [row["epoch"] for row in history]
    metric = next(key for key in history[0] if key.startswith("validation_"))
    left = figure.add_subplot()
    left.plot(epochs, [row["loss"] for row in history], color="#b5532a", marker="o", markersize=3, label="training loss")
    left.set_xlabel("epoch")
    left.set_ylabel("training loss", color="#b5532a")
    left.set_ylim(bottom=0)
    right = left.twinx()
    right.plot(epochs, [row[metric] for row in history], color="#1f6f8b", marker="o", markersize=3)
    right.set_ylabel(metric.replace("_", " "), color="#1f6f8b")
    left.set_title(title)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=120)
    return out.getvalue()


def _card(result: Mapping[str, Any], run: Mapping[str, Any], made_with: Mapping[str, str]) -> str:
    recipe, metrics, metric = run["recipe"], result["metrics"], result["metric"]
    shown = {"accuracy": "{:.1%}", "mse": "{:.4g}"}[metric]
    lines = [
        f"# {result['name']}",
        "",
        f"Trained on `{recipe['dataset']}` ({counted(run['samples'], 'sample')}) for "
        f"{counted(result['epochs'], 'epoch')}, seed {run['seed']}.",
        "",
        f"| split | {metric} |",
        "|---|---|",
        *(f"| {split} | {shown.format(value)} |" for split, value in metrics.items()),
        "",
        "Recipe: " + ", ".join(f"{key} {value}" for key, value in recipe.items() if value is not None and key != "dataset") + ".",
        "",
        "Arguments: " + (", ".join(f"{key}={value}" for key, value in run["arguments"].items()) or "none") + ".",
        "",
        "Made with " + ", ".join(f"{name} {version}" for name, version in made_with.items()) + ".",
    ]
    return "\n".join([*lines, "", "![curves](curves.png)", ""] if result["history"] else [*lines, ""])
