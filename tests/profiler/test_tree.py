"""The tree of a network's modules: every row with the sums of all below it."""

from __future__ import annotations

import json

import torch
from torch import nn

from deploykit import reports
from deploykit.profiler import Layer, profile
from deploykit.profiler.tree import tree_of
from deploykit.views.profile import report


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU()))
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(self.fc(self.block(x)))


def test_every_module_has_the_sums_of_all_in_it():
    module = Twice()
    module.example_inputs = [torch.zeros(2, 4)]
    found = profile(module, untrained=True, latency=False, tree=True)
    rows = [(row.path, row.type, row.depth, row.params, row.ops) for row in found.table.tree]
    assert rows == [
        ("", "Twice", 0, 20 + 16 + 20, 4 * 16),
        ("block", "Sequential", 1, 36, 32),
        ("block.0", "Linear", 2, 20, 16),
        ("block.1", "Sequential", 2, 16, 16),
        ("block.1.0", "Linear", 3, 16, 16),
        ("block.1.1", "ReLU", 3, 0, 0),
        ("fc", "Linear", 1, 20, 16),
        ("fc@1", "Linear", 1, 0, 16),
    ]
    assert found.table.tree[1].output_shape == (1, 4)
    shown = report(found)
    lines = [row["path"] for row in shown.tables[0].rows]
    assert lines == ["(the network)", "├─ block", "│  ├─ 0", "│  └─ 1", "│     ├─ 0", "│     └─ 1", "├─ fc", "└─ fc@1"]
    document = json.loads(reports.render(shown, "json"))
    assert document["tree"][1] == {
        "path": "block", "type": "Sequential", "depth": 1, "output_shape": [1, 4], "params": 36, "ops": 32, "torch_ms": None,
        "onnxruntime_ms": None,
    }  # fmt: skip
    assert len(document["layers"]) == 5
    assert profile(module, untrained=True, latency=False).document()["tree"] == []


def test_times_add_up_and_what_was_not_measured_stays_open():
    rows = [
        Layer("a.b", "B", (1,), (1,), torch_ms=1.0, onnxruntime_ms=None),
        Layer("a.c", "C", (1,), (1,), torch_ms=2.0, onnxruntime_ms=None),
        Layer("(onnxruntime)", "ReorderOutput", None, None, own=True, torch_ms=None),
    ]
    found = {branch.path: branch for branch in tree_of(rows, {"a": "A"})}
    assert (found["a"].torch_ms, found[""].torch_ms, found["a"].onnxruntime_ms) == (3.0, 3.0, None)
    assert (found["a"].type, found["(onnxruntime)"].type) == ("A", "ReorderOutput")
