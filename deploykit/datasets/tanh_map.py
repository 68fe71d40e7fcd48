"""Generated: 20 standard normal numbers, and 16 smooth functions of them, each the tanh of a fixed weighted sum."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploykit.datasets._generated import SAMPLES, as_dataset, random_numbers
from deploykit.datasets._types import Dataset

WIDTH, OUTPUTS = 20, 16


def load(folder: Path | None = None) -> Dataset:
    """2,000 / 500 / 500 samples of y = tanh(x W), where W (20, 16) is drawn so that x W has deviation 1; targets (n, 16)."""
    draw = random_numbers(16)
    weights = draw.standard_normal((WIDTH, OUTPUTS)) / np.sqrt(WIDTH)
    inputs = draw.standard_normal((SAMPLES, WIDTH))
    return as_dataset("tanh-map", inputs, np.tanh(inputs @ weights))
