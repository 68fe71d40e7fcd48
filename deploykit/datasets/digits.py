"""Real handwritten digits that come with scikit-learn: 1,797 grey images of 8x8 pixels, 10 classes.

They are the test half of UCI's "Optical recognition of handwritten digits" (Alpaydin and Kaynak, 1998): 43 people wrote
them, 32x32 bitmaps were counted down to 8x8 cells of 0..16. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploykit.datasets._types import Dataset, Split

VALIDATION = 300
TEST = 300


def load(folder: Path | None = None) -> Dataset:
    """1,197 / 300 / 300 images, drawn once with a fixed seed; the same images for everybody, always."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    images = np.floor(values.reshape(-1, 8, 8) * (255 / 16) + 0.5).astype(np.uint8)
    order = np.random.Generator(np.random.PCG64(1998)).permutation(len(images))
    test, validation, train = np.split(order, [TEST, TEST + VALIDATION])

    def split(indices: NDArray[np.int64]) -> Split:
        return Split(list(images[indices]), labels[indices].astype(np.int64))

    return Dataset("digits", split(train), split(validation), split(test), tuple("0123456789"))
