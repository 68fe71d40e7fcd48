"""Every image classifier, trained on real digits by its own recipe: test accuracy, seconds, size.

    python benchmarks/classifiers.py                      # all of them; VGG-11 alone takes most of the time
    python benchmarks/classifiers.py --only lenet --only cnn2
    python benchmarks/classifiers.py --shortcuts          # resnet18 against resnet18-plain, 5 seeds
    python benchmarks/classifiers.py --data FOLDER        # the first chapters' networks on MNIST's files, see _digits.py

Each network is trained in a folder that is thrown away. Results are kept in benchmarks/results/classifiers.json, so that a long
table can be made in pieces; the Markdown beside it is drawn from all that is there. Seconds are of this machine and one run:
they say which networks are small change and which are not, no more.

Expected before measuring: lenet >= 0.95; lenet5, cnn2, cnn4 >= 0.97; with 1,000 training images, 5 epochs and a batch of 64,
resnet18 above resnet18-plain on the mean of 5 seeds.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

# Before torch is loaded: threads that wait otherwise spin, and whatever else runs on the machine makes training ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import _digits
import click
import torch

from deploykit import architectures, datasets, training
from deploykit.architectures import ImageInput
from deploykit.files import write_text

RESULTS = Path(__file__).parent / "results"
SEEDS = 5
# What the networks reached before this project, in their owner's runs, which were of other data and other recipes.
BEFORE = {
    "lenet": "Fashion-MNIST 18 % (SGD 0.1, batch 256, 5 epochs)",
    "lenet5": "MNIST 87 % (1,000 images, SGD 0.1, batch 64, 5 epochs)",
    "resnet18": "MNIST 88 % (1,000 images, SGD 0.01, batch 64, 5 epochs)",
    "resnet18-plain": "MNIST 81 % (1,000 images, SGD 0.005, batch 64, 5 epochs)",
    "resnet18-cifar": "CIFAR-10 74.4 % (SGD 0.01, batch 64, 20 epochs)",
}


def classifiers() -> list[str]:
    """Every architecture that takes images and learns classes."""
    found = [architectures.get(name) for name in architectures.names()]
    return [a.name for a in found if isinstance(a.input, ImageInput) and a.recipe.loss == "cross-entropy"]


def trained(name: str, **options: Any) -> dict[str, Any]:
    """One run by the recipe, as a row."""
    with tempfile.TemporaryDirectory() as folder:
        result = training.train(name, out=Path(folder), device="cpu", **options)
        size = result.checkpoint.stat().st_size
    return {"test": result.metrics["test"], "epochs": result.epochs, "seconds": round(result.seconds, 1), "bytes": size}


def shortcuts() -> dict[str, Any]:
    """What the shortcuts are worth: 1,000 training images, 5 epochs, batch 64, one row of accuracies per network."""
    rows: dict[str, list[float]] = {"resnet18": [], "resnet18-plain": []}
    for seed in range(SEEDS):
        for name, found in rows.items():
            found.append(trained(name, seed=seed, limit=1000, epochs=5, batch_size=64)["test"])
            click.echo(f"seed {seed} {name:15} {found[-1]:.4f}", err=True)
    return {name: {"mean": statistics.mean(found), "each": found} for name, found in rows.items()}


def _samples(data: str) -> str:
    """How many digits the folder has, in words."""
    found = datasets.load(data)
    count = sum(len(split) for split in (found.train, found.validation, found.test))
    return f"{count:,} digits ({len(found.train):,} to learn from, {len(found.validation):,} to choose the epoch, {len(found.test):,} to test)"


def markdown(document: dict[str, Any]) -> str:
    """The tables, drawn from whatever has been measured so far."""
    lines = ["| network | test accuracy | epochs | seconds | checkpoint | before this project |", "|---|---|---|---|---|---|"]
    for name, row in sorted(document.get("classifiers", {}).items(), key=lambda item: item[1]["bytes"]):
        size = f"{row['bytes'] / 1e6:.1f} MB"
        before = BEFORE.get(name, "")
        lines.append(f"| `{name}` | {row['test']:.1%} | {row['epochs']} | {row['seconds']:.0f} | {size} | {before} |")
    missing = [name for name in classifiers() if name not in document.get("classifiers", {})]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(f'`{name}`' for name in missing)}."]
    if "shortcuts" in document:
        lines += [
            "",
            f"1,000 training images, 5 epochs, batch 64, {SEEDS} seeds:",
            "",
            "| network | mean | each |",
            "|---|---|---|",
        ]
        for name, row in document["shortcuts"].items():
            lines.append(f"| `{name}` | {row['mean']:.1%} | {', '.join(f'{value:.1%}' for value in row['each'])} |")
    if document.get("digits"):
        told = document["digits"]
        lines += ["", f"MNIST, {told['samples']}, beside what the networks' owner reached on MNIST before:", ""]
        lines += _digits.lines(told["runs"])
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--only", multiple=True, type=click.Choice(classifiers()), help="Just this network; may be repeated.")
@click.option("--shortcuts", "residual", is_flag=True, help="Compare resnet18 with resnet18-plain.")
@click.option("--data", metavar="FOLDER", help="MNIST's four files: train lenet, lenet5, resnet18-plain and resnet18 on them.")
@click.option("--seeds", type=click.IntRange(1, 100), default=SEEDS, show_default=True, help="With --data: how many.")
@click.option("--format", "form", type=click.Choice(["markdown", "json"]), default="markdown", show_default=True)
def main(only: tuple[str, ...], residual: bool, data: str | None, seeds: int, form: str) -> None:
    """Train, keep the results, print the table."""
    kept = RESULTS / "classifiers.json"
    document: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {"classifiers": {}}

    def keep() -> None:
        write_text(kept, json.dumps(document, indent=2) + "\n")
        write_text(kept.with_suffix(".md"), markdown(document))

    conditions = {"torch": torch.__version__.split("+")[0], "threads": torch.get_num_threads()}
    if data is not None:
        told = document.setdefault("digits", {"samples": _samples(data), "runs": {}})
        told["conditions"] = conditions
        _digits.measure(told["runs"], data, seeds, only, trained, keep)
        click.echo(markdown(document) if form == "markdown" else json.dumps(document, indent=2))
        return
    document["conditions"] = conditions
    if residual:
        document["shortcuts"] = shortcuts()
        write_text(kept, json.dumps(document, indent=2) + "\n")
    for name in () if residual and not only else only or classifiers():
        document["classifiers"][name] = trained(name)
        click.echo(f"{name:20} {document['classifiers'][name]}", err=True)
        write_text(kept, json.dumps(document, indent=2) + "\n")
    write_text(kept, json.dumps(document, indent=2) + "\n")
    write_text(kept.with_suffix(".md"), markdown(document))
    click.echo(markdown(document) if form == "markdown" else json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
