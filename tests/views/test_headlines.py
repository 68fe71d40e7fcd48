"""What a report says in one line of a verdict, and the facts of a training run."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from deploykit.training import TrainingResult
from deploykit.verdict.result import Check, Verdict
from deploykit.views import training, verdict

GOOD, BAD = Check("outputs", True, "fine"), Check("weights", False, "w differs")


@pytest.mark.parametrize(
    ("word", "checks", "more", "line"),
    [
        ("same", (GOOD, GOOD), {"layers_compared": 3}, "verdict: same network (2 checks, 3 layers compared)"),
        ("same", (GOOD,), {}, "verdict: same network (1 check, its outputs compared)"),
        ("invalid", (GOOD, BAD), {}, "verdict: invalid file (weights: w differs)"),
        ("not proven", (BAD, GOOD), {}, "verdict: not proven, neither the same nor different (weights: w differs)"),
        ("different", (GOOD, BAD), {}, "verdict: not the same network (weights: w differs)"),
        ("different", (BAD,), {"blamed_step": "unknown"}, "verdict: not the same network (weights: w differs)"),
        ("different", (BAD,), {"blamed_step": "export"}, "verdict: not the same network (step: export; weights: w differs)"),
        (
            "different",
            (BAD,),
            {"blamed_step": "simplify", "first_divergent_layer": "conv1"},
            "verdict: not the same network (step: simplify; first divergent layer: conv1; weights: w differs)",
        ),
    ],
)
def test_the_verdict_in_one_line(word, checks, more, line):
    asked = Verdict("m.onnx", "net", word, checks, **more)
    assert verdict.headline(asked) == line
    found = verdict.report(asked)
    assert found.good is (word == "same")
    assert ("file", "m.onnx") in [tuple(fact) for fact in found.facts]
    assert [row["passed"] for row in found.tables[0].rows] == ["ok" if check.passed else "NO" for check in checks]


@pytest.mark.parametrize(("previous", "told"), [(None, []), ("trained/x/previous-2", ["kept in trained/x/previous-2"])])
@pytest.mark.parametrize(("epochs", "title", "shown"), [(0, None, 0), (10, "", 10), (11, "the last 10 epochs of 11", 10)])
def test_a_training_run(previous, told, epochs, title, shown):
    history = [{"epoch": n, "loss": 0.5, "validation_accuracy": 0.9, "seconds": 1.0} for n in range(1, epochs + 1)]
    values = {
        "name": "lenet5",
        "metric": "accuracy",
        "metrics": {"validation": 0.5, "test": 0.25},
        "epochs": epochs,
        "seconds": 2.0,
        "history": history,
        "checkpoint": Path("elsewhere/model.safetensors"),
        "previous": previous,
    }
    result = TrainingResult(**{each.name: values[each.name] for each in fields(TrainingResult) if each.name in values})
    found = training.report(result)
    facts = [tuple(fact) for fact in found.facts]
    assert facts[:2] == [("validation accuracy", "50.0 %"), ("test accuracy", "25.0 %")]
    assert [value for name, value in facts if name == "earlier run"] == told
    assert [table.title for table in found.tables] == ([] if title is None else [title])
    assert sum(len(table.rows) for table in found.tables) == shown
    assert found.notes == ["next: deploykit export elsewhere/model.safetensors"]
