"""The card of a trained network: what it was trained on and how, how well it does, and what it takes for what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploykit.errors import counted
from deploykit.training.score import Confusion
from deploykit.training.tasks import SHARES, ious

MOST_CLASSES = 20  # of more, the matrix is too wide to be read, and only the worst classes are listed
PAIRS = 10  # mix-ups that are listed where there is no matrix


@dataclass(frozen=True)
class Background:
    """What the card and the curves tell beside the result.

    `dataset`: its name; `classes`: theirs. `init`: the file whose weights the run began with. `best_epoch`: whose weights were
    kept, 0 where there was nothing to learn. `confusion`: of the test split (`Score`).
    """

    dataset: str
    classes: Sequence[str] = ()
    init: Path | None = None
    best_epoch: int = 0
    confusion: Confusion = ()


def text(result: Mapping[str, Any], run: Mapping[str, Any], made_with: Mapping[str, str], background: Background) -> str:
    """The card as Markdown, without a path of the machine."""
    return "\n".join([*_lines(result, run, made_with, background), ""])


def _lines(
    result: Mapping[str, Any], run: Mapping[str, Any], made_with: Mapping[str, str], background: Background
) -> Iterator[str]:
    recipe, metrics, metric = run["recipe"], result["metrics"], result["metric"]
    shown = "{:.1%}" if metric in SHARES else "{:.4g}"
    begun = "fresh weights" if background.init is None else f"the weights in {_code(background.init.name)} (`--init`)"
    yield from (f"# {result['name']}", "")
    yield (
        f"Trained on {_code(background.dataset)} ({counted(run['samples'], 'sample')}) for {counted(result['epochs'], 'epoch')}, "
        f"seed {run['seed']}, from {begun}."
        + (f" Kept: the weights of epoch {background.best_epoch}, the best on validation." if background.best_epoch else "")
    )
    yield from ("", f"| split | {metric.replace('_', ' ')} |", "|---|---:|")
    yield from (f"| {split} | {shown.format(value)} |" for split, value in metrics.items())
    yield ""
    if background.confusion:
        yield from _pixels(background) if metric == "mean_iou" else _classes(background)
    yield "Recipe: " + ", ".join(f"{key} {value}" for key, value in recipe.items() if value is not None and key != "dataset") + "."
    yield from ("", "Arguments: " + (", ".join(f"{key}={value}" for key, value in run["arguments"].items()) or "none") + ".")
    yield from ("", "Made with " + ", ".join(f"{name} {version}" for name, version in made_with.items()) + ".")
    if result["history"]:
        yield from ("", "![curves](curves.png)")


def _pixels(background: Background) -> Iterator[str]:
    """Intersection over union per class of the test split."""
    names = [_cell(name) for name in background.classes]
    names += [str(number) for number in range(len(names), len(background.confusion))]
    yield from ("## Test, class by class", "", "| class | IoU | pixels |", "|---|---:|---:|")
    for index, found in enumerate(ious(background.confusion)):
        yield f"| {names[index]} | {'-' if found is None else f'{found:.1%}'} | {sum(background.confusion[index]):,} |"
    yield ""


def _classes(background: Background) -> Iterator[str]:
    """Accuracy per class and the confusion matrix of the test split; of many classes the worst, and the most frequent mix-ups."""
    confusion = background.confusion
    names = [_cell(name) for name in background.classes]
    names += [str(number) for number in range(len(names), len(confusion))]
    used = [index for index, row in enumerate(confusion) if sum(row) or any(other[index] for other in confusion)]
    yield "## Test, class by class"
    yield ""
    if len(used) <= MOST_CLASSES:
        yield "A row is what a sample is, a column what the network took it for."
        yield from (
            "",
            "| | " + " | ".join(names[column] for column in used) + " | accuracy |",
            "|---|" + "---:|" * (len(used) + 1),
        )
        for row in used:
            cells = [_count(confusion[row][column], row == column) for column in used]
            yield f"| **{names[row]}** | " + " | ".join(cells) + f" | {_accuracy(confusion, row)} |"
        yield ""
        return
    tested = [row for row in used if sum(confusion[row])]
    worst = sorted(tested, key=lambda row: confusion[row][row] / sum(confusion[row]))
    yield f"The {MOST_CLASSES} of {len(used)} classes with the lowest accuracy:"
    yield from ("", "| class | accuracy | samples |", "|---|---:|---:|")
    yield from (f"| {names[row]} | {_accuracy(confusion, row)} | {sum(confusion[row])} |" for row in worst[:MOST_CLASSES])
    pairs = [(confusion[row][column], row, column) for row in used for column in used if row != column and confusion[row][column]]
    if pairs:
        yield from ("", "Taken for another most often:", "")
        frequent = sorted(pairs, key=lambda pair: -pair[0])[:PAIRS]
        yield from (f"- {names[row]} for {names[column]}: {counted(count, 'sample')}" for count, row, column in frequent)
    yield ""


def _accuracy(confusion: Confusion, row: int) -> str:
    return f"{confusion[row][row] / sum(confusion[row]):.1%}" if sum(confusion[row]) else "-"


def _count(count: int, right: bool) -> str:
    return f"**{count}**" if right and count else str(count) if count else "·"


def _cell(name: str) -> str:
    """A name from a stranger's folder, in a cell of a table."""
    return "".join(c if c.isprintable() else "?" for c in name).replace("\\", "\\\\").replace("|", "\\|")


def _code(name: str) -> str:
    return "`" + "".join(c if c.isprintable() and c != "`" else "?" for c in name) + "`"
