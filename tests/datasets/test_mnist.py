"""MNIST and Fashion-MNIST are read from files in their real format, whatever state these are in."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torchvision

from deploykit import datasets
from deploykit.datasets import fashion_mnist, folder, mnist
from deploykit.errors import DatasetError

MAKERS = {"mnist": ("MNIST", mnist), "fashion-mnist": ("FashionMNIST", fashion_mnist)}


def pixels(split):
    return {np.asarray(sample).tobytes() for sample in split.samples}


@pytest.fixture
def no_network(monkeypatch):
    """torchvision's downloads fail at once, as they do without a network."""
    asked = []

    def fail(url, download_root, **_):
        asked.append(url)
        assert Path(download_root).is_dir()
        print("Downloading", url)  # as torchvision does
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fail)
    return asked


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("inside", [".", "raw", "MNIST/raw"])
def test_the_files_are_found_plain_or_gzipped_here_or_where_torchvision_puts_them(tmp_path, write_idx, compress, inside):
    written = write_idx(tmp_path / inside, compress=compress)
    data = datasets.load(str(tmp_path))
    assert data.name == "mnist"
    assert data.classes == tuple("0123456789")
    assert (len(data.train), len(data.validation), len(data.test)) == (30, 10, 12)  # one of each class is held out
    assert pixels(data.train) | pixels(data.validation) == {image.tobytes() for image in written["train"][0]}
    assert not pixels(data.train) & pixels(data.validation)
    np.testing.assert_array_equal(np.stack(data.test.samples), written["test"][0])
    np.testing.assert_array_equal(data.test.targets, written["test"][1])
    assert data.test.samples[0].dtype == np.uint8
    assert data.train.targets.dtype == np.int64


def test_every_image_keeps_its_label(tmp_path, write_idx):
    images, labels = write_idx(tmp_path)["train"]
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    data = datasets.load(str(tmp_path))
    for split in (data.train, data.validation):
        assert [known[np.asarray(s).tobytes()] for s in split.samples] == split.targets.tolist()


def test_torchvisions_own_class_reads_what_the_test_wrote(tmp_path, write_idx):
    images, labels = write_idx(tmp_path / "MNIST" / "raw")["train"]
    theirs = torchvision.datasets.MNIST(tmp_path)
    np.testing.assert_array_equal(theirs.data.numpy(), images)
    np.testing.assert_array_equal(theirs.targets.numpy(), labels)


def test_the_order_is_the_same_every_time_and_mixed(tmp_path, write_idx):
    write_idx(tmp_path, samples=400)
    first, second = (datasets.load(str(tmp_path)) for _ in range(2))
    assert first.train.targets.tolist() == second.train.targets.tolist()
    np.testing.assert_array_equal(np.stack(first.validation.samples), np.stack(second.validation.samples))
    assert len(set(first.limited(50).train.targets.tolist())) == 10
    assert np.bincount(first.validation.targets).tolist() == [4] * 10


@pytest.mark.parametrize("name", MAKERS)
def test_by_name_they_are_read_from_the_data_folder(name, tmp_path, monkeypatch, write_idx):
    torchvision_name, _ = MAKERS[name]
    monkeypatch.chdir(tmp_path)
    write_idx(tmp_path / "data" / name / torchvision_name / "raw")
    assert datasets.load(name).name == name
    write_idx(tmp_path / "elsewhere" / name, test_samples=21)
    monkeypatch.setenv("DEPLOYKIT_DATA", str(tmp_path / "elsewhere"))
    assert len(datasets.load(name).test) == 21


def test_the_same_files_are_fashion_only_where_the_folder_says_so(tmp_path, write_idx):
    for place, name in (
        ("a/FashionMNIST/raw", "fashion-mnist"),
        ("fashion", "fashion-mnist"),
        ("b/MNIST/raw", "mnist"),
        ("c", "mnist"),
    ):
        write_idx(tmp_path / place)
        top = tmp_path / place.split("/")[0]
        assert datasets.load(str(top)).name == name
        assert not folder.recognizes(top)


def test_a_folder_of_something_else_is_not_recognized(tmp_path, write_images, write_cifar):
    write_images(tmp_path / "pets", ["cats", "dogs"])
    write_cifar(tmp_path / "cifar")
    for other in (tmp_path / "pets", tmp_path / "cifar", tmp_path):
        assert not mnist.recognizes(other)
        assert not fashion_mnist.recognizes(other)


@pytest.mark.parametrize("name", MAKERS)
def test_without_files_and_network_one_line_says_where_to_put_them(name, tmp_path, monkeypatch, no_network, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError) as caught:
        datasets.load(name)
    assert f"{name} is not in data/{name}, and downloading it failed (<urlopen error Name or service" in str(caught.value)
    assert "DEPLOYKIT_DATA" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert no_network, "torchvision was asked to download"
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == [], "no empty folders are left behind"


@pytest.mark.parametrize("name", MAKERS)
def test_with_a_network_torchvision_fills_the_folder(name, tmp_path, monkeypatch, write_idx):
    torchvision_name, _ = MAKERS[name]
    monkeypatch.chdir(tmp_path)

    def fetch(url, download_root, filename, md5):
        (tmp_path / download_root).mkdir(parents=True, exist_ok=True)
        write_idx(tmp_path / download_root)

    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fetch)
    assert len(datasets.load(name).test) == 12
    assert (tmp_path / "data" / name / torchvision_name / "raw").is_dir()


def spoil(path, change):
    path.write_bytes(change(path.read_bytes()))


SPOILED = {
    "a label of 10": ("train-labels-idx1-ubyte", lambda b: b[:-1] + bytes([10]), "has the label 10, expected 0 to 9"),
    "cut short": ("train-images-idx3-ubyte", lambda b: b[:-5], "should hold 31360 values and holds 31355"),
    "too long": ("t10k-images-idx3-ubyte", lambda b: b + b"x", "should hold 9408 values and holds more"),
    "empty": ("train-images-idx3-ubyte", lambda b: b"", "is no IDX file of 3-dimensional bytes"),
    "another format": ("train-images-idx3-ubyte", lambda b: b"PK" + b[2:], "is no IDX file"),
    "floats": ("train-images-idx3-ubyte", lambda b: bytes([0, 0, 13, 3]) + b[4:], "is no IDX file"),
    "labels for images": ("train-images-idx3-ubyte", lambda b: bytes([0, 0, 8, 1]) + b[4:], "is no IDX file"),
    "fewer labels": (
        "train-labels-idx1-ubyte", lambda b: b[:4] + struct.pack(">I", 39) + b[8:-1], "40 images in train-images-idx3-ubyte but 39 labels",
    ),
    "a bomb": ("t10k-images-idx3-ubyte", lambda b: b[:4] + struct.pack(">3I", *[2**32 - 1] * 3) + b[16:], "claims to hold"),
    "no images": ("t10k-images-idx3-ubyte", lambda b: b[:4] + struct.pack(">3I", 0, 28, 28), "but 12 labels"),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILED)
def test_a_damaged_file_is_one_clear_line(how, tmp_path, write_idx):
    name, change, message = SPOILED[how]
    write_idx(tmp_path)
    spoil(tmp_path / name, change)
    with pytest.raises(DatasetError, match=message) as caught:
        datasets.load(str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path, write_idx):
    write_idx(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DatasetError, match="has no file t10k-labels-idx1-ubyte or t10k-labels-idx1-ubyte.gz"):
        datasets.load(str(tmp_path))


@pytest.mark.parametrize(
    "change", [lambda b: b[: len(b) // 2], lambda b: b"no gzip at all", lambda b: b[:40] + b"\0" * 40 + b[80:]]
)
def test_a_damaged_archive_is_one_clear_line(tmp_path, write_idx, change):
    write_idx(tmp_path, compress=True)
    spoil(tmp_path / "train-images-idx3-ubyte.gz", change)
    with pytest.raises(DatasetError, match=r"train-images-idx3-ubyte\.gz cannot be read"):
        datasets.load(str(tmp_path))


def test_an_archive_that_unpacks_to_far_too_much_is_not_unpacked(tmp_path, write_idx):
    write_idx(tmp_path, compress=True)
    head = bytes([0, 0, 8, 1]) + struct.pack(">I", 40)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(head + bytes(50_000_000)))
    with pytest.raises(DatasetError, match="should hold 40 values and holds more"):
        datasets.load(str(tmp_path))


def test_too_few_images_to_hold_any_out(tmp_path, write_idx):
    write_idx(tmp_path, samples=10)
    with pytest.raises(DatasetError, match="of 10 samples none can be held out"):
        datasets.load(str(tmp_path))
