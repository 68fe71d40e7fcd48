"""Generated: ten classes of 20 numbers, each class three clouds of points, so that no straight cut parts them.

Thirty centres are drawn from a normal distribution of deviation 1.2 in 20 dimensions; centres 0, 10 and 20 are class 0,
centres 1, 11 and 21 class 1, and so on. A sample is a centre plus standard normal noise. A linear classifier gets 82 %.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploykit.datasets._generated import SAMPLES, as_dataset, random_numbers
from deploykit.datasets._types import Dataset

CLASSES, CLOUDS, WIDTH = 10, 3, 20


def load(folder: Path | None = None) -> Dataset:
    """2,000 / 500 / 500 float32 vectors of 20 numbers with a class of 0..9."""
    draw = random_numbers(10)
    centres = 1.2 * draw.standard_normal((CLOUDS * CLASSES, WIDTH))
    which = draw.integers(0, len(centres), SAMPLES)
    inputs = centres[which] + draw.standard_normal((SAMPLES, WIDTH))
    return as_dataset("blobs", inputs, np.asarray(which % CLASSES), tuple(str(c) for c in range(CLASSES)))
