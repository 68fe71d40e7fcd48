"""Pairs of images and masks: what is read, what is held out, and the one line for what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deploykit import datasets
from deploykit.architectures import ImageInput
from deploykit.errors import DatasetError
from deploykit.training.batches import Batches


def write(folder, count=10, values=(0, 1, 2), size=(8, 6), ending=""):
    """`count` pairs; a mask has `values` in its columns, its image its number in the first pixel."""
    for sub in ("images", "masks"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", size, (number, 0, 0)).save(folder / "images" / f"{number}.png")
        mask = np.resize(np.asarray(values), (size[1], size[0])).astype(np.uint8)
        Image.fromarray(mask).save(folder / "masks" / f"{number}{ending}.png")
    return folder


def test_pairs_are_divided_and_every_pixel_keeps_its_class(tmp_path):
    found = datasets.load(str(write(tmp_path / "shapes", ending="_mask")))
    assert (found.name, found.task, found.classes) == ("folder shapes", "segmentation", ("0", "1", "2"))
    assert [len(split) for split in (found.train, found.validation, found.test)] == [8, 1, 1]
    numbers = [np.asarray(image)[0, 0, 0] for split in (found.train, found.validation, found.test) for image in split.images()]
    assert sorted(numbers) == list(range(10))
    assert found.train.masks[0].tolist() == np.resize([0, 1, 2], (6, 8)).tolist()
    assert len(found.limited(3).train.masks) == len(found.train.take(3).masks) == 3
    assert len(found.train.only(1, 2).masks) == 2


def test_black_and_white_masks_have_two_classes_and_names_come_from_a_file(tmp_path):
    found = datasets.load(str(write(tmp_path / "a", values=(0, 255))))
    assert found.classes == ("background", "foreground")
    assert set(np.unique(found.train.masks[0])) == {0, 1}
    write(tmp_path / "b", values=(0, 1, 255))
    (tmp_path / "b" / "classes.txt").write_text("ground\nhouse\n\ntree\n")
    found = datasets.load(str(tmp_path / "b"))
    assert found.classes == ("ground", "house", "tree")
    assert set(np.unique(found.train.masks[0])) == {0, 1, datasets.IGNORED}


def test_a_divided_folder_stays_divided(tmp_path):
    write(tmp_path / "d" / "train", 5)
    write(tmp_path / "d" / "val", 3)
    found = datasets.load(str(tmp_path / "d"))
    assert [len(split) for split in (found.train, found.validation, found.test)] == [4, 3, 1]


@pytest.mark.parametrize("fit", [{}, {"fit": "center-crop", "resize": 8}])
def test_masks_move_as_their_images_do_and_what_lies_beside_does_not_count(tmp_path, fit):
    """An image that is its own mask still is after both were fitted; what a crop adds around it is ignored."""
    draw = np.random.default_rng(0)
    for sub in ("images", "masks"):
        (tmp_path / "m" / sub).mkdir(parents=True)
    for number in range(3):
        pixels = draw.integers(0, 2, (8, 10)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "m" / "images" / f"{number}.png")
        Image.fromarray(pixels).save(tmp_path / "m" / "masks" / f"{number}.png")
    found = datasets.load(str(tmp_path / "m"))
    rules = ImageInput(1, 12, 14, interpolation="nearest", scale=1.0, **fit)
    inputs, masks = Batches(found.train, rules).__getitems__([0])
    counted = masks[0] != datasets.IGNORED
    assert (inputs[0, 0][counted] == masks[0][counted]).all()
    assert bool(counted.all()) == (not fit)
    assert masks.shape == (1, 12, 14)


def broken(folder, what):
    write(folder)
    masks, images = folder / "masks", folder / "images"
    if what == "no mask":
        (masks / "3.png").unlink()
        return r"images/3.png has no mask of its name"
    if what == "no image":
        (images / "4.png").unlink()
        return r"masks/4.png has no image of its name"
    if what == "size":
        Image.new("L", (7, 6)).save(masks / "5.png")
        return r"masks/5.png is 7x6 pixels, its image 5.png is 8x6"
    if what == "colours":
        Image.new("RGB", (8, 6)).save(masks / "5.png")
        return r"5.png has the channels 'RGB': a mask has one whole number per pixel"
    if what == "damaged":
        (masks / "6.png").write_bytes((masks / "6.png").read_bytes()[:45])
        return r"6.png is not a readable image"
    if what == "names":
        (folder / "classes.txt").write_text("only\n")
        return r"names 1 classes, the masks go up to 2"
    if what == "two of a name":
        Image.new("L", (8, 6)).save(masks / "6.bmp")
        return r"have one name"
    if what == "large":
        Image.fromarray(np.full((6, 8), 300, np.int32)).save(masks / "6.tif")
        (masks / "6.png").unlink()
        return r"has the value 300"
    for path in masks.iterdir():
        Image.new("L", (8, 6), 0).save(path)
    return r"the masks in .* have one class \('0'\)"


@pytest.mark.parametrize(
    "what", ["no mask", "no image", "size", "colours", "damaged", "names", "two of a name", "large", "one class"]
)
def test_what_does_not_fit_is_one_line(tmp_path, what):
    reason = broken(tmp_path / "x", what)
    with pytest.raises(DatasetError, match=reason):
        datasets.load(str(tmp_path / "x"))


def test_without_a_folder_it_says_what_it_is():
    with pytest.raises(DatasetError, match="images and masks"):
        datasets.load("masks")
