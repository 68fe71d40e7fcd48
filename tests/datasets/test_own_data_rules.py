"""Own masks and own arrays: which samples are held out, for good, and what is said of each thing that does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deploykit import datasets
from deploykit.datasets import arrays, masks
from deploykit.errors import DatasetError


def pairs(folder, names, values=(0, 1), images="images", over="masks"):
    for sub in (images, over):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (4, 3)).save(folder / images / f"{name}.png")
        Image.fromarray(np.resize(np.asarray(values, np.uint8), (3, 4))).save(folder / over / f"{name}.png")
    return folder


def names_of(split):
    return "".join(path.stem for path in split.samples.paths)


def test_which_pairs_are_held_out_stays_so_for_good(tmp_path):
    found = masks.load(pairs(tmp_path / "m", "abcdefghijklmnopqrst"))
    assert (names_of(found.validation), names_of(found.test), names_of(found.train)) == MASKS
    assert [path.stem for path in found.train.masks.paths] == list(MASKS[2]), "each with its own mask"
    assert found.train.targets.shape == (16, 0)


def test_which_rows_are_held_out_stays_so_for_good(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(20.0), y=np.arange(20.0))
    found = arrays.load(tmp_path / "a.npz")
    assert [found.validation.targets.ravel().tolist(), found.test.targets.ravel().tolist()] == ARRAYS
    np.savez(tmp_path / "c.npz", x=np.arange(20.0), y=np.arange(20) % 2)
    found = arrays.load(tmp_path / "c.npz")
    assert [sorted(int(sample) % 2 for sample in part.samples) for part in (found.validation, found.test)] == [[0, 1], [0, 1]]
    assert len(found.train) == 16


@pytest.mark.parametrize(("images", "over"), [("images", "masks"), ("Image", "MASK"), ("imgs", "segmentation")])
def test_folders_have_one_of_three_names(tmp_path, images, over):
    assert masks.recognizes(pairs(tmp_path / "m", "abc", images=images, over=over))
    assert len(masks.load(tmp_path / "m").train) == 1
    assert not masks.recognizes(pairs(tmp_path / "n", "abc", images=images, over="labels"))
    with pytest.raises(DatasetError, match="has no folders images and masks; put the pairs there, by the same names"):
        masks.load(tmp_path / "n")


@pytest.mark.parametrize(
    ("values", "classes", "shown"),
    [
        ((0, 255), ("background", "foreground"), [0, 1]), ((255, 255), ("background", "foreground"), [1]),
        ((0, 1, 255), ("0", "1"), [0, 1, 255]), ((0, 3), ("0", "1", "2", "3"), [0, 3]), ((1, 1), ("0", "1"), [1]),
    ],
)  # fmt: skip
def test_classes_follow_from_the_values(tmp_path, values, classes, shown):
    found = masks.load(pairs(tmp_path / "m", "abc", values))
    assert found.classes == classes
    assert np.unique(found.train.masks[0]).tolist() == shown
    assert found.train.masks[0].dtype == np.uint8
    assert found.train.masks[:1].binary == (classes[-1] == "foreground")


def test_what_does_not_fit_is_told_with_its_number_and_what_to_do(tmp_path):
    pairs(tmp_path / "m", "abcd")
    (tmp_path / "m" / "masks" / "a.png").unlink()
    with pytest.raises(DatasetError, match=r"images/a.png has no mask of its name; add it, or remove a.png"):
        masks.load(tmp_path / "m")
    for name in "bc":
        (tmp_path / "m" / "masks" / f"{name}.png").unlink()
    with pytest.raises(DatasetError, match=r"images/a.png has no mask of its name \(nor have 2 more\)"):
        masks.load(tmp_path / "m")
    pairs(tmp_path / "n", "abc", (0, 2))
    (tmp_path / "n" / "classes.txt").write_text("a\nb\n")
    with pytest.raises(DatasetError, match=r"classes.txt names 2 classes, the masks go up to 2; name each of them"):
        masks.load(tmp_path / "n")
    (tmp_path / "n" / "classes.txt").write_text("a\n b \n\nc\nd\n")
    assert masks.load(tmp_path / "n").classes == ("a", "b", "c", "d"), "one that no mask has"
    (tmp_path / "n" / "classes.txt").write_bytes(b"\xff\n")
    with pytest.raises(DatasetError, match="cannot be read as UTF-8; one name a line"):
        masks.load(tmp_path / "n")
    with pytest.raises(DatasetError, match="have one class .'0'.; a segmentation needs two or more"):
        masks.load(pairs(tmp_path / "o", "abc", (0, 0)))
    low = pairs(tmp_path / "p", "abc")
    (low / "masks" / "a.png").unlink()
    Image.fromarray(np.full((3, 4), -1, np.int32)).save(low / "masks" / "a.tif")
    with pytest.raises(DatasetError, match="has the value -1; classes are 0 to 254"):
        masks.load(low)


@pytest.mark.parametrize(
    ("arrays_given", "sizes"),
    [
        ({"x_train": 20, "y_train": 20}, (16, 2, 2)),
        ({"x": 20, "y": 20, "x_val": 5, "y_val": 5}, (18, 5, 2)),
        ({"X": 20, "Y": 20, "inputs_valid": 4, "targets_valid": 4, "data_test": 3, "target_test": 3}, (20, 4, 3)),
        ({"x": 20, "y": 20, "x_test": 3}, (16, 2, 2)),
    ],
)
def test_names_and_splits_of_arrays(tmp_path, arrays_given, sizes):
    np.savez(tmp_path / "a.npz", **{name: np.arange(float(count)) for name, count in arrays_given.items()})
    found = datasets.load(str(tmp_path / "a.npz"))
    assert (len(found.train), len(found.validation), len(found.test)) == sizes


@pytest.mark.parametrize(("high", "fits"), [(1, True), (arrays.MOST_CLASSES - 1, True), (arrays.MOST_CLASSES, False), (0, False)])
def test_numbers_of_classes_have_bounds(tmp_path, high, fits):
    targets = [np.array([0, high]), np.array([[0], [0]])]
    if fits:
        assert arrays._classes(targets, tmp_path) == tuple(map(str, range(high + 1)))
    else:
        with pytest.raises(DatasetError, match=f"from 0 to {high} for targets|has one class"):
            arrays._classes(targets, tmp_path)
    assert arrays._classes([*targets, np.array([0.5])], tmp_path) is None
    with pytest.raises(DatasetError, match="classes are \\(n,\\), 0 to 9999; give values to be told as float32"):
        arrays._classes([np.zeros((3, 2), int)], tmp_path)
    assert arrays.MOST_CLASSES == 10_000


@pytest.mark.parametrize(
    ("shape", "dtype", "kept"),
    [
        ((4, 5, 6), np.uint8, np.uint8), ((4, 5, 6, 3), np.uint8, np.uint8), ((4, 5, 6, 2), np.uint8, np.float32),
        ((4, 5), np.uint8, np.float32), ((4, 5, 6), np.int64, np.float32), ((4,), np.float64, np.float32),
    ],
)  # fmt: skip
def test_bytes_of_two_axes_or_of_three_colours_are_images(shape, dtype, kept):
    found = arrays._split(np.zeros(shape, dtype), np.zeros((4, 1)), False)
    assert found.samples[0].dtype == kept
    assert (found.targets.shape, found.targets.dtype) == ((4, 1), np.float32)
    classes = arrays._split(np.zeros(shape, dtype), np.zeros((4, 1)), True)
    assert (classes.targets.shape, classes.targets.dtype) == ((4,), np.int64)


MASKS = ("pr", "hm", "dkjlqbtonsafceig")  # of validation, test and training
ARRAYS = [[19.0, 3.0], [14.0, 13.0]]  # of validation and test
