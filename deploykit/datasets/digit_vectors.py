"""The real handwritten digits of `digits` as 64 plain numbers, and how low on the page their ink lies, as one number.

The images are given as vectors, 0 (white) to 1 (black) row by row. The target is the row in which the ink has its centre:
0 for all ink in the top row, 7 for the bottom row. It is no linear function of the pixels, because the centre is divided
by the amount of ink.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deploykit.datasets import digits
from deploykit.datasets._types import Dataset, Split


def load(folder: Path | None = None) -> Dataset:
    """1,197 / 300 / 300 float32 vectors of 64 numbers; targets (n, 1), 0 to 7."""
    images = digits.load()
    return Dataset("digit-vectors", _split(images.train), _split(images.validation), _split(images.test), None)


def _split(images: Split) -> Split:
    pixels = np.stack([np.asarray(sample) for sample in images.samples]).astype(np.float32) / 255
    rows = np.arange(pixels.shape[1], dtype=np.float32)
    ink = pixels.sum(axis=2)
    centre = (ink @ rows) / ink.sum(axis=1)
    return Split(list(pixels.reshape(len(pixels), -1)), centre[:, None].astype(np.float32))
