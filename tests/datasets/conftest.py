"""Small datasets in the real formats of the large ones, written file by file."""

from __future__ import annotations

import gzip
import pickle
import struct

import numpy as np
import pytest
from PIL import Image

IDX = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def idx_bytes(values):
    """An IDX file: 0, 0, type 8 (uint8), dimensions; the sizes as big-endian 32-bit numbers; the values."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.astype(np.uint8).tobytes()


@pytest.fixture
def write_idx():
    """Write the four files of MNIST with random images; gives what was written, by split."""

    def write(folder, samples=40, test_samples=12, compress=False, labels=10):
        folder.mkdir(parents=True, exist_ok=True)
        draw, written = np.random.default_rng(4), {}
        for split, count in (("train", samples), ("test", test_samples)):
            images = draw.integers(0, 256, (count, 28, 28)).astype(np.uint8)
            images[:, 0, 0], images[:, 0, 1] = np.arange(count) % 256, np.arange(count) // 256  # each is the only one of its kind
            classes = (np.arange(count) % labels).astype(np.uint8)
            for name, values in zip(IDX[split], (images, classes), strict=True):
                content = idx_bytes(values)
                path = folder / (f"{name}.gz" if compress else name)
                path.write_bytes(gzip.compress(content) if compress else content)
            written[split] = (images, classes)
        return written

    return write


@pytest.fixture
def write_cifar():
    """Write batches as the Python version of CIFAR-10 has them; gives (rows, labels) by file name."""

    def write(folder, batches=5, samples=20, protocol=2):
        folder.mkdir(parents=True, exist_ok=True)
        draw, written = np.random.default_rng(5), {}
        for name in [*(f"data_batch_{n}" for n in range(1, batches + 1)), "test_batch"]:
            rows = draw.integers(0, 256, (samples, 3072)).astype(np.uint8)
            labels = [n % 10 for n in range(samples)]
            content = {b"batch_label": name.encode(), b"labels": labels, b"data": rows, b"filenames": [b"x.png"] * samples}
            (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))
            written[name] = (rows, labels)
        return written

    return write


@pytest.fixture
def write_images():
    """Write `count` small images of each class; each has its number in its first pixel."""

    def write(folder, classes, count=10, ending="png", mode="RGB", size=(9, 7)):
        for label, name in enumerate(classes):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image = Image.new("RGB", size, (number, 40 * label, 7)).convert(mode)
                image.save(folder / name / f"{number:03}.{ending}")
        return folder

    return write
