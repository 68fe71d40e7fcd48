"""Where a training run stands: what an epoch adds to it, which weights it keeps, what of an earlier run it sets aside."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from torch import nn

from deploykit.training.state import State, _difference, no_worse


def plan(classification=True):
    return SimpleNamespace(metric="accuracy" if classification else "mse", classification=classification)


def network(value):
    module = nn.Linear(1, 1)
    nn.init.constant_(module.weight, value)
    return module


def after(values, classification=True):
    """A state after one epoch for each validation result; the weights are the number of the epoch."""
    state = State()
    for epoch, value in enumerate(values):
        state.record(epoch, 0.5, value, network(epoch + 1.0), 10.0 * epoch, plan(classification))
    return state


@pytest.mark.parametrize(
    ("values", "classification", "best", "stale"),
    [
        ([0.1], True, (1, 0.1), 0),
        ([0.1, 0.2, 0.15], True, (2, 0.2), 1),
        ([0.1, 0.2, 0.2], True, (3, 0.2), 1),  # as good: the later weights, but no progress
        ([0.2, 0.1, 0.05, 0.3], True, (4, 0.3), 0),
        ([0.2, 0.1, 0.15, 0.12], False, (2, 0.1), 2),
        ([0.1, 0.1], False, (2, 0.1), 1),
    ],
)
def test_the_best_weights_are_kept(values, classification, best, stale):
    state = after(values, classification)
    assert (state.best_epoch, state.best_value, state.stale) == (*best, stale)
    assert state.best["weight"].item() == best[0]
    assert (state.epoch, state.seconds) == (len(values), 10.0 * (len(values) - 1))
    key = "validation_accuracy" if classification else "validation_mse"
    assert [row["epoch"] for row in state.history] == list(range(1, len(values) + 1))
    assert [row[key] for row in state.history] == values
    assert {row["loss"] for row in state.history} == {0.5}


def test_the_kept_weights_do_not_change_with_the_network():
    state, module = State(), network(3.0)
    state.record(0, 0.5, 0.1, module, 1.0, plan())
    nn.init.constant_(module.weight, 9.0)
    assert state.best["weight"].item() == 3.0
    assert not state.best["weight"].requires_grad


@pytest.mark.parametrize(
    ("value", "best", "higher", "lower"), [(1.0, 1.0, True, True), (2.0, 1.0, True, False), (1.0, 2.0, False, True)]
)
def test_no_worse(value, best, higher, lower):
    assert no_worse(value, best, True) is higher
    assert no_worse(value, best, False) is lower
    assert not no_worse(math.nan, best, True)
    assert not no_worse(math.nan, best, False)


def test_an_earlier_run_is_set_aside_once_and_never_this_run(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"earlier")
    state = State()
    state.begin(tmp_path)
    assert state.begun
    assert state.previous == str(tmp_path / "previous-1")
    weights.unlink()  # a write replaces the file: the kept name goes on standing for the earlier weights
    weights.write_bytes(b"this run's")
    state.begin(tmp_path)
    assert state.previous == str(tmp_path / "previous-1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "previous-1"]
    assert (tmp_path / "previous-1" / "model.safetensors").read_bytes() == b"earlier"


def test_where_there_was_no_earlier_run_nothing_is_told_of_one(tmp_path):
    state = State()
    state.begin(tmp_path)
    assert state.begun
    assert state.previous is None
    (tmp_path / "model.safetensors").write_bytes(b"this run's")
    state.begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    resumed = State(begun=True)
    resumed.begin(tmp_path)
    assert resumed.previous is None


def test_what_is_remembered_is_put_back():
    module, given = network(1.0), []
    optimization = SimpleNamespace(load_state_dict=given.append)
    State().restore(module, optimization)
    assert given == []
    assert module.weight.item() == 1.0
    tensors = {"network": network(2.0).state_dict(), "optimizer": {}}
    State(tensors=tensors).restore(module, optimization)
    assert module.weight.item() == 2.0
    assert given == [tensors]


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"seed": 1, "recipe": {"lr": 0.1}}, "its seed is 1, not 0"),
        ({"seed": 0, "recipe": {"lr": 0.2}}, "recipe, its lr is 0.2, not 0.1"),
        ({"seed": 0, "recipe": None}, "its recipe is None, not {'lr': 0.1}"),
        ({"seed": 0}, "its recipe is None"),
        ({"seed": 0, "recipe": {"lr": 0.1}, "more": 1}, "it has more options"),
    ],
)
def test_the_first_difference_of_two_runs_is_told(kept, said):
    assert said in _difference(kept, {"seed": 0, "recipe": {"lr": 0.1}})
