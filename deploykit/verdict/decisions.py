"""Do both sides decide alike? Top-1 agreement and accuracy on labelled samples, and the samples that flipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploykit.datasets import Split
from deploykit.onnx_file import sessions
from deploykit.runtime.contract import ArrayInput, ImageInput
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.result import Decisions

MAX_SAMPLES = 1000
BATCH = 50  # samples at once
FLIPS_SHOWN = 10


def decide(
    deployed: Deployed,
    device: str,
    logits: Callable[[NDArray[Any]], NDArray[Any]],
    rules: ImageInput | ArrayInput,
    split: Split,
) -> Decisions:
    """The file, run on `device`, and the network behind `logits` on at most `MAX_SAMPLES` samples.

    A flip is reported with its index and the network's margin between its two best.
    """
    split = split.take(MAX_SAMPLES)
    session = deployed.answering(device)
    size = deployed.fixed_batch or BATCH
    name = session.get_inputs()[0].name
    theirs, ours = [], []
    for start in range(0, len(split), size):
        part = Split(split.samples[start : start + size], split.targets[start : start + size])
        inputs = part.arrays(rules)
        ours.append(logits(inputs))
        # The last batch is filled up for a file that takes whole batches only.
        missing = size - len(inputs) if deployed.fixed_batch else 0
        padded = np.concatenate([inputs, np.repeat(inputs[-1:], missing, axis=0)]) if missing else inputs
        theirs.append(sessions.run(session, {name: padded})[0][: len(inputs)])
    own_logits, onnx_logits = np.concatenate(ours), np.concatenate(theirs)
    expected, found = own_logits.argmax(axis=1), onnx_logits.argmax(axis=1)
    best = np.sort(own_logits, axis=1)
    flips = np.flatnonzero(expected != found)[:FLIPS_SHOWN]
    return Decisions(
        samples=len(split),
        agreement=float(np.mean(expected == found)),
        torch_accuracy=float(np.mean(expected == split.targets)),
        onnx_accuracy=float(np.mean(found == split.targets)),
        flipped=tuple((int(i), _margin(best[i])) for i in flips),
    )


def _margin(ascending: NDArray[Any]) -> float:
    """How far the best of at least two logits is above the next; the largest finite number where that one is -inf."""
    second, first = float(ascending[-2]), float(ascending[-1])
    return 0.0 if first == second else float(np.nan_to_num(first - second))
