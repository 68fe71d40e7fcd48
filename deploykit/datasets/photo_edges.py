"""Two real photographs that come with scikit-learn, cut into tiles, and the edges in them.

A Chinese temple and a flower, 427x640 pixels; four tiles of 200x300 from each. The target is 8 times a pixel minus
its eight neighbours, in grey, computed here from whole numbers. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deploykit.datasets._types import Dataset, Split

HEIGHT, WIDTH = 200, 300


def load(folder: Path | None = None) -> Dataset:
    """4 / 2 / 2 uint8 tiles (200, 300, 3); float32 targets (n, 1, 198, 298), -8 to 8. The temple trains, the flower checks."""
    from sklearn.datasets import load_sample_images

    temple, flower = (_tiles(photograph) for photograph in load_sample_images().images)
    return Dataset("photo-edges", _split(temple), _split(flower[:2]), _split(flower[2:]), None)


def _tiles(photograph: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    corners = [(top, left) for top in (0, HEIGHT) for left in (0, WIDTH)]
    return [np.ascontiguousarray(photograph[top : top + HEIGHT, left : left + WIDTH]) for top, left in corners]


def _split(tiles: list[NDArray[np.uint8]]) -> Split:
    return Split(list(tiles), np.stack([_edges(tile) for tile in tiles])[:, None])


def _edges(tile: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = np.asarray(Image.fromarray(tile).convert("L")).astype(np.int32)
    rows, columns = grey.shape[0] - 2, grey.shape[1] - 2
    square = sum(grey[r : r + rows, c : c + columns] for r in range(3) for c in range(3))
    return ((9 * grey[1:-1, 1:-1] - square) / 255).astype(np.float32)
