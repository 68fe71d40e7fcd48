"""Do both sides decide alike? Top-1 agreement and accuracy on labelled samples, and the samples that flipped."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch

from deploykit import ort
from deploykit.datasets import Split
from deploykit.target import Network
from deploykit.verdict._types import Decisions

MOST = 1000
BATCH = 50
FLIPS_SHOWN = 10


def decide(session: onnxruntime.InferenceSession, network: Network, split: Split) -> Decisions:
    """Both sides on at most `MOST` samples; a flip is reported with its index and PyTorch's margin between its two best."""
    split = split.take(MOST)
    name = session.get_inputs()[0].name
    theirs, ours = [], []
    for start in range(0, len(split), BATCH):
        part = Split(split.samples[start : start + BATCH], split.targets[start : start + BATCH])
        inputs = part.arrays(network.rules)
        with torch.no_grad():
            ours.append(network.module(torch.from_numpy(inputs)).numpy())
        theirs.append(ort.run(session, {name: inputs})[0])
    torch_logits, onnx_logits = np.concatenate(ours), np.concatenate(theirs)
    expected, found = torch_logits.argmax(axis=1), onnx_logits.argmax(axis=1)
    best = np.sort(torch_logits, axis=1)
    flips = np.flatnonzero(expected != found)[:FLIPS_SHOWN]
    return Decisions(
        samples=len(split),
        agreement=float(np.mean(expected == found)),
        torch_accuracy=float(np.mean(expected == split.targets)),
        onnx_accuracy=float(np.mean(found == split.targets)),
        flipped=tuple((int(i), float(best[i, -1] - best[i, -2])) for i in flips),
    )
