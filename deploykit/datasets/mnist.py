"""MNIST: 70,000 handwritten digits, grey 28x28 (LeCun, Cortes and Burges, 1998); read from a folder, or downloaded.

Looked for in ``data/mnist`` (or where DEPLOYKIT_DATA points), plain or gzipped, in the folder itself or in
``MNIST/raw`` as torchvision puts it. Where it is not there, torchvision downloads it.
"""

from __future__ import annotations

from pathlib import Path

from deploykit.datasets import _idx, _local
from deploykit.datasets._types import Dataset

NAME = "mnist"
CLASSES = tuple("0123456789")
TORCHVISION_NAME = "MNIST"


def recognizes(folder: Path) -> bool:
    """Whether `folder` holds the four IDX files."""
    return _idx.find(folder, TORCHVISION_NAME) is not None


def load(folder: Path | None = None) -> Dataset:
    """54,000 / 6,000 / 10,000 uint8 images (28, 28). Raises `DatasetError` where there are no files and no network."""
    place = folder or _local.home(NAME)
    found = _idx.find(place, TORCHVISION_NAME)
    if found is None:
        from torchvision.datasets import MNIST

        _local.download(NAME, lambda: MNIST(place, download=True), place)
        found = Path(place, TORCHVISION_NAME, "raw")
    return _idx.read_dataset(NAME, found, CLASSES)
