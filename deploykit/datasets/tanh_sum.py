"""Generated: 20 standard normal numbers, and half the tanh of a fixed weighted sum of them, a number between -0.5 and 0.5."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploykit.datasets._generated import SAMPLES, as_dataset, random_numbers
from deploykit.datasets._types import Dataset

WIDTH = 20


def load(folder: Path | None = None) -> Dataset:
    """2,000 / 500 / 500 samples of y = tanh(x . w) / 2, where w is one random direction of length 1; targets (n, 1)."""
    draw = random_numbers(20)
    weights = draw.standard_normal(WIDTH)
    inputs = draw.standard_normal((SAMPLES, WIDTH))
    targets = np.tanh(inputs @ (weights / np.linalg.norm(weights))) / 2
    return as_dataset("tanh-sum", inputs, targets[:, None])
