"""CIFAR-10: 60,000 colour photographs of 32x32, ten classes (Krizhevsky, 2009); read from a folder, or downloaded.

Looked for in ``data/cifar10`` (or where DEPLOYKIT_DATA points), in the folder itself or in ``cifar-10-batches-py``,
the "Python version" of the dataset. Where it is not there, torchvision downloads it. Its files are pickles; they are
read as data, and never run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploykit.datasets import _local, _plain_pickle
from deploykit.datasets._types import Dataset, Split
from deploykit.errors import DatasetError

NAME = "cifar10"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER = "cifar-10-batches-py"
TEST = "test_batch"
SIDE = 32


def recognizes(folder: Path) -> bool:
    """Whether `folder` holds the batches of the Python version."""
    return _find(folder) is not None


def load(folder: Path | None = None) -> Dataset:
    """45,000 / 5,000 / 10,000 uint8 images (32, 32, 3). Raises `DatasetError` where there are no files and no network."""
    place = folder or _local.home(NAME)
    found = _find(place)
    if found is None:
        from torchvision.datasets.cifar import CIFAR10, download_and_extract_archive

        def fetch() -> None:
            # Not `CIFAR10(download=True)`: that would go on to unpickle the files without a check.
            download_and_extract_archive(CIFAR10.url, str(place), filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)

        _local.download(NAME, fetch, place)
        found = place / FOLDER
    batches = [_batch(path) for path in _training_files(found)]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    test_images, test_labels = _batch(found / TEST)
    kept, held = _local.hold_out(labels, _local.HELD_OUT, seed=2009)
    train, validation = (Split(list(images[i]), labels[i]) for i in (kept, held))
    return Dataset(NAME, train, validation, Split(list(test_images), test_labels), CLASSES)


def _find(folder: Path) -> Path | None:
    return next((place for place in (folder, folder / FOLDER) if _training_files(place)), None)


def _training_files(folder: Path) -> list[Path]:
    return [path for number in range(1, 6) if (path := folder / f"data_batch_{number}").is_file()]


def _batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, 32, 32, 3) and labels (n,) of one file."""
    if not path.is_file():
        raise DatasetError(f"{path} is not there", "all batches of the dataset are needed")
    content = _plain_pickle.read(path)
    if not isinstance(content, dict):
        raise DatasetError(f"{path} is no batch of CIFAR-10", "is it the right file?")
    rows, labels = (content.get(key, content.get(key.encode())) for key in ("data", "labels"))
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != 3 * SIDE * SIDE or not len(rows):
        raise DatasetError(f"{path} has no rows of {3 * SIDE * SIDE} bytes under 'data'", "is it a batch of CIFAR-10?")
    if not isinstance(labels, list) or len(labels) != len(rows):
        raise DatasetError(f"{path} has no list of {len(rows)} 'labels', one for each image", "is it a batch of CIFAR-10?")
    for label in labels:
        if type(label) is not int or not 0 <= label < len(CLASSES):
            raise DatasetError(
                f"{path} has the label {str(label)[:20]}, expected 0 to {len(CLASSES) - 1}", "is it a batch of CIFAR-10?"
            )
    images = rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.asarray(labels, np.int64)
