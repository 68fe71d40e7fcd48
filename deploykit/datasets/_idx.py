"""The IDX format of MNIST and its relatives, read from files that may be anything.

A file is a magic number (0, 0, type, dimensions), each dimension as a big-endian 32-bit number, then the values; type
8 is uint8. Four files make a dataset, each plain or gzipped.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploykit.datasets._local import HELD_OUT, hold_out
from deploykit.datasets._types import Dataset, Split
from deploykit.errors import DatasetError

TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
UINT8 = 8
LARGEST = 1 << 28  # bytes of values in a file; MNIST has 47 million


def find(folder: Path, torchvision_name: str) -> Path | None:
    """Where under `folder` the training images lie: in itself, in ``raw``, or as torchvision puts them; `None` if nowhere."""
    for candidate in (folder, folder / "raw", folder / torchvision_name / "raw", folder / torchvision_name):
        if _file(candidate, TRAIN_IMAGES) is not None:
            return candidate
    return None


def read_dataset(name: str, folder: Path, classes: tuple[str, ...]) -> Dataset:
    """The four files in `folder`: the test set as it is, of the training set a tenth held out for validation.

    Raises `DatasetError` for a file that is missing, is no IDX file, or does not fit the others.
    """
    images, labels = _pair(folder, TRAIN_IMAGES, TRAIN_LABELS, len(classes))
    test_images, test_labels = _pair(folder, TEST_IMAGES, TEST_LABELS, len(classes))
    kept, held = hold_out(labels, HELD_OUT, seed=1998)
    train, validation = (Split(list(images[i]), labels[i]) for i in (kept, held))
    return Dataset(name, train, validation, Split(list(test_images), test_labels), classes)


def _pair(folder: Path, image_file: str, label_file: str, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images = _read(folder, image_file, dimensions=3)
    labels = _read(folder, label_file, dimensions=1)
    if len(images) != len(labels):
        raise DatasetError(f"{folder} has {len(images)} images in {image_file} but {len(labels)} labels", "are both files whole?")
    if not images.size:
        raise DatasetError(f"{folder / image_file} has no images", "is it the right file?")
    if labels.max() >= classes:
        raise DatasetError(
            f"{folder / label_file} has the label {labels.max()}, expected 0 to {classes - 1}", "is it another dataset?"
        )
    return images, labels.astype(np.int64)


def _read(folder: Path, name: str, dimensions: int) -> NDArray[np.uint8]:
    path = _file(folder, name)
    if path is None:
        raise DatasetError(f"{folder} has no file {name} or {name}.gz", "all four files of the dataset are needed")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(4 + 4 * dimensions)
            if len(head) != 4 + 4 * dimensions or head[:4] != bytes([0, 0, UINT8, dimensions]):
                raise DatasetError(f"{path} is no IDX file of {dimensions}-dimensional bytes", "is it the right file?")
            shape = tuple(int(size) for size in np.frombuffer(head, ">u4", offset=4))
            size = int(np.prod(shape, dtype=object))
            if size > LARGEST:
                raise DatasetError(f"{path} claims to hold {size} bytes, more than {LARGEST} are not read", "is it the right file?")
            values = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read ({error or type(error).__name__})", "is it whole? fetch it again") from error
    if len(values) != size:
        found = "more" if len(values) > size else str(len(values))
        raise DatasetError(f"{path} should hold {size} values and holds {found}", "is it whole? fetch it again")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _file(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`, plain or gzipped; also as ``train-images.idx3-ubyte``, which some archives unpack to."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for path in (folder / spelling, folder / f"{spelling}.gz"):
            if path.is_file():
                return path
    return None
