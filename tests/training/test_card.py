"""The card of a trained network: what a reader of the folder needs, and no path of the machine."""

from __future__ import annotations

import json
import re

import torch

from deploykit.network.checkpoint import load_checkpoint
from deploykit.training import card, score, train
from deploykit.training.card import Background

RESULT = {"name": "net", "epochs": 1, "metric": "accuracy", "metrics": {"test": 0.75}, "history": []}
RUN = {"samples": 1, "seed": 0, "recipe": {"dataset": "/home/me/pets", "lr": 0.1}, "arguments": {}}


def text(**background):
    return card.text(RESULT, RUN, {"torch": "2"}, Background("folder pets", **background))


def test_pairs_become_a_matrix():
    counts = score.pairs(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 0]), 3)
    assert score.confusion(counts.tolist(), 3) == ((1, 1, 0), (0, 1, 0), (1, 0, 0))


def test_a_classifier_has_its_matrix_and_the_accuracy_of_each_class():
    lines = text(classes=("cat", "a|b"), confusion=((3, 1, 0), (0, 0, 0), (0, 0, 0))).splitlines()
    assert "| | cat | a\\|b | accuracy |" in lines
    assert "| **cat** | **3** | 1 | 75.0% |" in lines
    assert "| **a\\|b** | · | · | - |" in lines
    assert not any("**2**" in line for line in lines), "a class that neither came nor was named has no row"


def test_of_many_classes_the_worst_are_listed_and_what_was_mixed_up():
    many = tuple(tuple(8 * (row == column) + 2 * (column == row + 1) for column in range(30)) for row in range(30))
    lines = text(classes=[f"c{n}" for n in range(30)], confusion=many).splitlines()
    assert "The 20 of 30 classes with the lowest accuracy:" in lines
    assert "| c0 | 80.0% | 10 |" in lines
    assert "- c0 for c1: 2 samples" in lines
    assert sum(line.startswith("- ") for line in lines) == 10


def test_it_speaks_of_the_beginning_and_of_one_epoch(tmp_path):
    assert "for 1 epoch, seed 0, from fresh weights." in text()
    assert "(1 sample)" in text()
    began = text(init=tmp_path / "ima`ge.pt", best_epoch=1)
    assert "from the weights in `ima?ge.pt` (`--init`). Kept: the weights of epoch 1" in began
    assert str(tmp_path) not in began
    assert "/home" not in began


def test_a_run_writes_what_it_counted(tmp_path):
    first = train("lenet5", epochs=1, limit=100, out=tmp_path / "first", device="cpu")
    result = train("lenet5", epochs=2, limit=100, out=tmp_path / "second", device="cpu", init=first.checkpoint)
    written = (tmp_path / "second" / "card.md").read_text()
    assert "from the weights in `model.safetensors` (`--init`)" in written
    assert str(tmp_path) not in written
    rows = re.findall(r"^\| \*\*(\d)\*\* \| (.*) \| [\d.]+% \|$", written, re.M)
    counts = [[int(cell.strip("*").replace("·", "0")) for cell in cells.split(" | ")] for _, cells in rows]
    assert sum(map(sum, counts)) == 300, "the test split, each sample once"
    right = sum(counts[int(digit)][int(digit)] for digit, _ in rows)
    assert right == round(300 * result.metrics["test"])
    assert [set(row) for row in result.history] == [{"epoch", "loss", "validation_accuracy", "validation_loss", "seconds"}] * 2
    assert json.loads((tmp_path / "second" / "history.json").read_text())["result"]["history"] == result.history
    assert "confusion" not in load_checkpoint(result.checkpoint).metrics
