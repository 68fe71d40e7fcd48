"""Plain data does not change under its readers: every dataclass is frozen, but for those that are here with the reason."""

from __future__ import annotations

import re
from pathlib import Path

import deploykit

CHANGING = {
    "runtime/batching.py Figures": "counts go up",
    "runtime/bounds.py _Tensor": "filled in node by node",
    "runtime/waiting.py Waiting": "known by itself and held by its future",
    "network/first_calls.py _Left": "filled in pass by pass",
    "verdict/channels.py Channels": "filled in batch by batch",
    "verdict/open_sizes.py Tried": "filled in size by size",
    "verdict/preprocessing.py _Found": "filled in node by node",
    "verdict/file_sizes.py Asked": "filled in size by size",
    "training/state.py State": "a training goes on",
    "profiler/onnx/flow.py _Names": "filled in node by node",
    "profiler/onnx/flow.py Flow": "filled in node by node",
    "profiler/onnx/bodies.py Inside": "filled in node by node",
    "profiler/pytorch/tracing.py Call": "filled in call by call",
    "datasets/_plain_pickle.py _Array": "a pickle sets its state after it is made",
    "datasets/_plain_pickle.py _Dtype": "a pickle sets its state after it is made",
    "serving/bodies.py Limits": "a program that embeds the server may set its own",
    "serving/models.py Model": "versions are loaded and exchanged",
    "serving/listening.py Listening": "handed to whoever started the server, to do with as they like",
    "tuner/candidates/_quantized.py Quantized": "files are planned one after the other",
}


# The decorator with its options, what other decorators there are, and the name of the class.
DATACLASS = re.compile(r"^ *@dataclass(\(.*\))?\n(?: *@.*\n)*? *class (\w+)", re.MULTILINE)


def test_every_dataclass_is_frozen_but_for_those_that_change():
    root, changing, count = Path(deploykit.__file__).parent, set(), 0
    for file in sorted(root.rglob("*.py")):
        for options, name in DATACLASS.findall(file.read_text()):
            count += 1
            if "frozen=True" not in options:
                changing.add(f"{file.relative_to(root).as_posix()} {name}")
    assert changing == set(CHANGING)
    assert count > 150
