"""The textbook's one image of 6x8 with a black bar in the middle, and its vertical edges.

An image is white (1) but for a bar of black columns (0). Its target is its cross-correlation with [1, -1]: 1 where
white turns to black, -1 where black turns to white, 0 elsewhere. One image to learn from, the bar in columns 2 to 5;
bars in other places to check with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploykit.datasets._types import Dataset, Split

HEIGHT, WIDTH = 6, 8


def load(folder: Path | None = None) -> Dataset:
    """1 / 2 / 3 uint8 images (6, 8), 255 for white; float32 targets (n, 1, 6, 7)."""
    return Dataset("edge-image", _split((2, 5)), _split((1, 4), (3, 6)), _split((3, 3), (1, 6), (4, 5)), None)


def _split(*bars: tuple[int, int]) -> Split:
    images = [_image(first, last) for first, last in bars]
    values = np.stack(images).astype(np.float32)[:, None] / 255
    return Split(images, values[..., :-1] - values[..., 1:])


def _image(first: int, last: int) -> NDArray[np.uint8]:
    """White, with black columns `first` to `last`."""
    image = np.full((HEIGHT, WIDTH), 255, np.uint8)
    image[:, first : last + 1] = 0
    return image
