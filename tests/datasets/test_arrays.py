"""Arrays from a file of numpy's: classes or values by the type of the targets, and the one line for what is neither."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit import datasets
from deploykit.errors import DatasetError

X = np.arange(60, dtype=np.float64).reshape(20, 3)


def load(tmp_path, **arrays):
    np.savez(tmp_path / "own.npz", **arrays)
    return datasets.load(str(tmp_path / "own.npz"))


def test_numbers_are_values_and_whole_numbers_are_classes(tmp_path):
    values = load(tmp_path, x=X, y=X[:, 0])
    assert (values.name, values.task, values.classes) == ("file own.npz", "regression", None)
    assert (values.train.targets.shape, values.train.targets.dtype) == ((16, 1), np.float32)
    assert values.train.samples[0].dtype == np.float32
    classes = load(tmp_path, inputs=X, targets=np.arange(20) % 3)
    assert (classes.task, classes.classes) == ("classification", ("0", "1", "2"))
    assert sorted(classes.test.targets) == [0, 1, 2], "some of each class is held out"
    many = load(tmp_path, data=X, target=X[:, :2])
    assert many.train.targets.shape == (16, 2)


def test_every_sample_keeps_its_target_and_is_in_one_split(tmp_path):
    found = load(tmp_path, x=X, y=X[:, 0])
    pairs = [
        (s[0], t[0])
        for part in (found.train, found.validation, found.test)
        for s, t in zip(part.samples, part.targets, strict=True)
    ]
    assert all(s == t for s, t in pairs)
    assert sorted(s for s, _ in pairs) == X[:, 0].tolist()


def test_splits_that_are_given_stay_and_bytes_are_images(tmp_path):
    images = np.zeros((12, 5, 4), np.uint8)
    found = load(tmp_path, x_train=images, y_train=np.arange(12) % 2, x_test=images[:4], y_test=np.arange(4) % 2)
    assert (len(found.test), len(found.train) + len(found.validation)) == (4, 12)
    assert found.train.samples[0].dtype == np.uint8


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"a": X}, "has the arrays a, not x and y"),
        ({"x": X, "y": X[:5, 0]}, r"x of shape \(20, 3\) and y of shape \(5,\)"),
        ({"x": np.float64(3), "y": X[:, 0]}, r"x of shape \(\) and y of shape \(20,\)"),
        ({"x": X, "y": np.float64(3)}, r"x of shape \(20, 3\) and y of shape \(\)"),
        ({"x": X, "y": np.full(20, np.nan)}, "y in .* has NaN"),
        ({"x": X + np.inf, "y": X[:, 0]}, "x in .* has NaN"),
        ({"x": X, "y": np.zeros(20, int)}, "has one class"),
        ({"x": X, "y": np.arange(20) - 1}, "whole numbers from -1 to 18"),
        ({"x": X, "y": np.arange(20) * 10**6}, "no numbers of classes"),
        ({"x": X, "y": np.array(["a"] * 20)}, "are no numbers"),
        ({"x": X[:0], "y": X[:0, 0]}, "give one target for each sample"),
        ({"x": X[:1], "y": X[:1, 0]}, "none can be held out"),
    ],
)
def test_what_cannot_be_learned_is_one_line(tmp_path, arrays, reason):
    with pytest.raises(DatasetError, match=reason):
        load(tmp_path, **arrays)


def test_files_that_are_no_arrays(tmp_path):
    for name, reason in (("x.npz", "is no .npz file"), ("x.txt", "is no dataset")):
        (tmp_path / name).write_bytes(b"PK nothing")
        with pytest.raises(DatasetError, match=reason):
            datasets.load(str(tmp_path / name))
    with pytest.raises(DatasetError, match=r"FILE\.npz"):
        datasets.load("arrays")
