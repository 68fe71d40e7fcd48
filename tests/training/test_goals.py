"""What is learned: the goal by recipe and data, and how much rare classes count in data of the user's own."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from deploykit.training import plan, preparing
from deploykit.training.plan import class_weights


def data(counts, task="classification", classes=("cat", "dog", "emu")):
    targets = np.repeat(np.arange(len(counts)), counts)
    return SimpleNamespace(task=task, classes=classes[: len(counts)], train=SimpleNamespace(targets=targets))


def goal(dataset, brought, loss="cross-entropy", head=None):
    return preparing.goal_of(SimpleNamespace(loss=loss), dataset, brought, head)


def test_rare_classes_count_more_in_data_that_were_brought_and_not_in_the_networks_own():
    found, notes = goal(data([30, 10]), True)
    assert (found.task, found.spread) == ("classification", None)
    assert found.weights == (0.666667, 2.0), "three times as much, and 1 on average over the samples"
    assert notes == ("the classes are unbalanced (30 cat and 10 dog): the rare ones count more in the loss",)
    found, notes = goal(data([30, 10]), False)
    assert (found.task, found.weights, notes) == ("classification", None, ())


@pytest.mark.parametrize(("counts", "weighted"), [([20, 10], False), ([21, 10], True), ([10, 0], False), ([21, 0, 10], True)])
def test_up_to_twice_as_many_is_balanced_and_a_class_without_samples_is_none(counts, weighted):
    weights, notes = class_weights(data(counts))
    assert (weights is not None, len(notes)) == (weighted, weighted)
    if weights is not None:
        assert sum(w * c for w, c in zip(weights, counts, strict=True)) == pytest.approx(sum(counts), abs=1e-3)


def test_no_class_counts_more_than_the_most():
    weights, _ = class_weights(data([100_000, 1]))
    assert weights[1] / weights[0] == pytest.approx(plan.MOST_WEIGHT, rel=0.01)
    assert plan.UNBALANCED == 2


def test_other_tasks_have_no_weights():
    assert class_weights(data([30, 10], "segmentation")) == (None, ())
    found, notes = goal(data([30, 10], "segmentation"), True)
    assert (found.task, found.weights, notes) == ("segmentation", None, ())
    values = SimpleNamespace(task="regression", classes=None, train=SimpleNamespace(targets=np.array([[0.0, 5.0], [2.0, 5.0]])))
    found, notes = goal(values, True, "mse", SimpleNamespace(scaled=True))
    assert (found.task, found.spread, notes) == ("regression", (1.0, 1.0), ())
    assert goal(values, True, "mse", SimpleNamespace(scaled=False))[0].spread is None
    assert goal(values, True, "mse")[0].spread is None
    spread, mean = preparing.unit(values)
    assert (spread.tolist(), mean.tolist()) == ([1.0, 1.0], [1.0, 5.0]), "what is always the same is divided by 1"
