"""Generated: four numbers between 0 and 1 and Friedman's function of them, a curved surface to fit.

Friedman, "Multivariate adaptive regression splines" (1991), section 4.3: y = 10 sin(pi a b) + 20 (c - 1/2)^2 + 10 d +
5 e + noise. What differs: without e and the noise, and divided by 10.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploykit.datasets._generated import SAMPLES, as_dataset, random_numbers
from deploykit.datasets._types import Dataset


def load(folder: Path | None = None) -> Dataset:
    """2,000 / 500 / 500 samples of y = sin(pi a b) + 2 (c - 1/2)^2 + d; targets (n, 1), 0 to 2.5."""
    inputs = random_numbers(1991).random((SAMPLES, 4))
    a, b, c, d = inputs.T
    targets = np.sin(np.pi * a * b) + 2 * (c - 0.5) ** 2 + d
    return as_dataset("friedman", inputs, targets[:, None])
