"""A folder of the user's own images: how it is divided, and what is said where it cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploykit import architectures, datasets
from deploykit.datasets import folder
from deploykit.errors import DatasetError

PETS = ["cats", "dogs", "mice"]


def files(split):
    return {str(path) for path in split.samples.paths}


def refused(path, match):
    with pytest.raises(DatasetError, match=match) as caught:
        datasets.load(str(path))
    assert "\n" not in str(caught.value)
    return caught


def test_classes_are_folders_and_every_split_has_some_of_each(tmp_path, write_images):
    data = datasets.load(str(write_images(tmp_path, PETS, count=20)))
    assert (data.name, data.classes) == (f"folder {tmp_path.name}", ("cats", "dogs", "mice"))
    parts = [data.train, data.validation, data.test]
    assert [np.bincount(part.targets).tolist() for part in parts] == [[16] * 3, [2] * 3, [2] * 3]
    assert len(set.union(*map(files, parts))) == 60, "no image is in two splits, none is lost"
    for part in parts:
        assert [PETS.index(path.parent.name) for path in part.samples.paths] == part.targets.tolist()


def test_the_division_is_fixed_and_training_images_are_mixed(tmp_path, write_images):
    write_images(tmp_path, PETS, count=30)
    first, second = (datasets.load(str(tmp_path)) for _ in range(2))
    assert first.train.samples.paths == second.train.samples.paths
    assert first.test.samples.paths == second.test.samples.paths
    limited = first.limited(20)
    assert len(limited.train) == 20
    assert set(limited.train.targets.tolist()) == {0, 1, 2}


def test_images_are_opened_only_when_they_are_asked_for(tmp_path, write_images, monkeypatch):
    write_images(tmp_path, PETS)
    data = datasets.load(str(tmp_path))
    opened = []
    monkeypatch.setattr(folder, "open_image", lambda path, real=folder.open_image: opened.append(path) or real(path))
    first = data.train.samples[0]
    assert opened == [data.train.samples.paths[0]]
    assert first.getpixel((0, 0)) == (int(opened[0].stem), 40 * data.train.targets[0], 7)
    assert len(data.train.samples[2:5]) == 3
    assert data.train.samples[-1].size == (9, 7)
    assert len(opened) == 2


def test_no_file_stays_open(tmp_path, write_images):
    data = datasets.load(str(write_images(tmp_path, PETS, ending="gif", mode="P")))
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    images = [data.train.samples[index] for index in range(len(data.train))]
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert len(images) == len(data.train)
    assert after == before


def test_given_splits_are_taken_as_they_are(tmp_path, write_images):
    for name, count in (("train", 8), ("val", 3), ("test", 2)):
        write_images(tmp_path / name, PETS, count=count)
    data = datasets.load(str(tmp_path))
    assert data.classes == ("cats", "dogs", "mice")
    for split, name, count in ((data.train, "train", 24), (data.validation, "val", 9), (data.test, "test", 6)):
        assert len(split) == count
        assert all(f"/{name}/" in path for path in files(split))


@pytest.mark.parametrize(("given", "sizes"), [(["validation"], (27, 6, 3)), (["test"], (27, 3, 6)), ([], (24, 3, 3))])
def test_what_is_missing_is_held_out_of_train(tmp_path, write_images, given, sizes):
    write_images(tmp_path / "train", PETS, count=10)
    for name in given:
        write_images(tmp_path / name, PETS, count=2)
    data = datasets.load(str(tmp_path))
    assert (len(data.train), len(data.validation), len(data.test)) == sizes
    assert not files(data.train) & (files(data.validation) | files(data.test))
    assert not files(data.validation) & files(data.test)


def test_a_class_may_be_called_train_or_test(tmp_path, write_images):
    data = datasets.load(str(write_images(tmp_path, ["bus", "test", "train"])))
    assert data.classes == ("bus", "test", "train")


def test_images_in_folders_of_a_class_belong_to_it_and_other_files_are_left_alone(tmp_path, write_images):
    write_images(tmp_path, PETS)
    write_images(tmp_path / "cats", ["siamese"], count=5)
    (tmp_path / "cats" / ".hidden.png").write_bytes(b"x")
    (tmp_path / "cats" / "notes.txt").write_text("nine lives")
    (tmp_path / ".cache").mkdir()
    data = datasets.load(str(tmp_path))
    labels = np.concatenate([part.targets for part in (data.train, data.validation, data.test)])
    assert np.bincount(labels).tolist() == [15, 10, 10]


@pytest.mark.parametrize(
    ("ending", "mode"),
    [
        ("png", "L"),
        ("png", "LA"),
        ("png", "P"),
        ("png", "RGBA"),
        ("png", "1"),
        ("png", "I;16"),
        ("jpg", "CMYK"),
        ("tif", "F"),
        ("bmp", "RGB"),
    ],
)
@pytest.mark.parametrize("name", ["lenet5", "resnet18-cifar"])
def test_channels_and_size_follow_the_network(tmp_path, write_images, ending, mode, name):
    data = datasets.load(str(write_images(tmp_path, PETS, count=3, ending=ending, mode=mode)))
    rules = architectures.get(name).input
    found = data.train.arrays(rules)
    assert found.shape == (3, rules.channels, rules.height, rules.width)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_an_empty_folder(tmp_path):
    refused(tmp_path, "the dataset folder .* is empty; put the images of each class in a folder of its own")


def test_a_folder_with_images_and_no_classes(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    refused(tmp_path, "has no images in folders of classes")


def test_folders_without_images(tmp_path):
    for name in PETS:
        (tmp_path / name).mkdir()
    refused(tmp_path, "has no images in folders of classes")


def test_one_class(tmp_path, write_images):
    refused(write_images(tmp_path, ["cats"]), r"has one class \('cats'\); a classifier needs two or more")


def test_a_class_without_images(tmp_path, write_images):
    write_images(tmp_path, PETS)
    (tmp_path / "rats").mkdir()
    refused(tmp_path, "the class 'rats' in .* has 0 images; at least 3 are needed")


def test_a_class_with_too_few_images_to_be_divided(tmp_path, write_images):
    write_images(tmp_path, PETS)
    write_images(tmp_path, ["rats"], count=2)
    refused(tmp_path, "the class 'rats' in .* has 2 images; at least 3 are needed")


def test_a_class_that_train_does_not_have(tmp_path, write_images):
    write_images(tmp_path / "train", PETS)
    write_images(tmp_path / "test", ["cats", "rats"])
    refused(tmp_path, "has the class 'rats', which the training images do not have")


def test_a_test_folder_without_a_train_folder(tmp_path, write_images):
    write_images(tmp_path / "test", PETS)
    write_images(tmp_path / "val", PETS)
    refused(tmp_path, "has the folder 'val' of a divided dataset, but no 'train'")


@pytest.mark.parametrize("content", [b"", b"not an image at all", b"\x89PNG\r\n\x1a\nno more"])
def test_files_that_are_no_images_are_named_and_counted(tmp_path, write_images, content):
    write_images(tmp_path, PETS)
    for name in ("dogs/a.jpg", "dogs/b.png", "mice/c.png"):
        (tmp_path / name).write_bytes(content)
    refused(tmp_path, r"dogs/a\.jpg is not a readable image \(.*\) \(and 2 more files\)")


def test_a_link_to_nowhere_is_no_image(tmp_path, write_images):
    write_images(tmp_path, PETS)
    (tmp_path / "cats" / "z.png").symlink_to(tmp_path / "gone.png")
    refused(tmp_path, r"cats/z\.png is not a readable image \(.*no such file or directory.*\)")


def test_an_image_that_turns_out_to_be_cut_short_is_named_when_it_is_opened(tmp_path, write_images):
    write_images(tmp_path, PETS, size=(64, 64))
    whole = (tmp_path / "cats" / "003.png").read_bytes()
    (tmp_path / "cats" / "003.png").write_bytes(whole[: len(whole) - 40])
    data = datasets.load(str(tmp_path))
    with pytest.raises(DatasetError, match=r"cats/003\.png is not a readable image") as caught:
        for part in (data.train, data.validation, data.test):
            part.arrays(architectures.get("lenet5").input)
    assert "\n" not in str(caught.value)


def test_channels_that_are_neither_grey_nor_colours(tmp_path, write_images):
    write_images(tmp_path, PETS)
    Image.new("LAB", (4, 4)).save(tmp_path / "cats" / "lab.tif")
    refused(tmp_path, r"cats/lab\.tif has the channels 'LAB', which are neither grey nor colours")


def test_the_dataset_is_named_without_a_folder():
    with pytest.raises(DatasetError, match="--data DIR"):
        datasets.load("folder")


def test_a_folder_that_is_not_there():
    with pytest.raises(DatasetError, match="is not there"):
        folder.load(Path("no/such/place"))
