"""Fashion-MNIST: 70,000 pieces of clothing, grey 28x28 (Xiao et al., 2017); read from a folder, or downloaded.

Looked for in ``data/fashion-mnist`` (or where DEPLOYKIT_DATA points), plain or gzipped, in the folder itself or in
``FashionMNIST/raw`` as torchvision puts it. Where it is not there, torchvision downloads it.
"""

from __future__ import annotations

from pathlib import Path

from deploykit.datasets import _idx, _local
from deploykit.datasets._types import Dataset

NAME = "fashion-mnist"
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
TORCHVISION_NAME = "FashionMNIST"


def recognizes(folder: Path) -> bool:
    """Whether `folder` holds the four IDX files and says that it is this dataset: MNIST's files have the same names."""
    place = _idx.find(folder, TORCHVISION_NAME)
    return place is not None and any(
        "fashion" in part.lower() for part in (folder.resolve().name, *place.relative_to(folder).parts)
    )


def load(folder: Path | None = None) -> Dataset:
    """54,000 / 6,000 / 10,000 uint8 images (28, 28). Raises `DatasetError` where there are no files and no network."""
    place = folder or _local.home(NAME)
    found = _idx.find(place, TORCHVISION_NAME)
    if found is None:
        from torchvision.datasets import FashionMNIST

        _local.download(NAME, lambda: FashionMNIST(place, download=True), place)
        found = Path(place, TORCHVISION_NAME, "raw")
    return _idx.read_dataset(NAME, found, CLASSES)
