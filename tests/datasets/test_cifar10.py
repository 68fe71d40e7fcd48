"""CIFAR-10 is read from its pickles as data: whatever else they hold is refused and never runs."""

from __future__ import annotations

import os
import pickle
import struct
import tarfile
from urllib.error import URLError

import numpy as np
import pytest
import torchvision

from deploykit import datasets
from deploykit.datasets import cifar10, folder
from deploykit.errors import DatasetError

ROWS = np.zeros((20, 3072), np.uint8)
LABELS = list(range(10)) * 2


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("inside", [".", "cifar-10-batches-py"])
def test_the_batches_are_read_whatever_pickle_they_are(tmp_path, write_cifar, protocol, inside):
    written = write_cifar(tmp_path / inside, protocol=protocol)
    data = datasets.load(str(tmp_path))
    assert data.name == "cifar10"
    assert data.classes[3] == "cat"
    assert (len(data.train), len(data.validation), len(data.test)) == (90, 10, 20)
    rows, labels = written["test_batch"]
    assert data.test.targets.tolist() == labels
    first = data.test.samples[0]
    assert (first.shape, first.dtype) == ((32, 32, 3), np.uint8)
    # A row is the red plane, then the green, then the blue, each row by row.
    assert [first[5, 9, channel] for channel in range(3)] == [rows[0, 1024 * channel + 32 * 5 + 9] for channel in range(3)]


def test_every_image_keeps_its_label_and_comes_once(tmp_path, write_cifar):
    written = write_cifar(tmp_path)
    known = {}
    for name, (rows, labels) in written.items():
        if name != "test_batch":
            known |= {row.reshape(3, 32, 32).transpose(1, 2, 0).tobytes(): label for row, label in zip(rows, labels, strict=True)}
    data = datasets.load(str(tmp_path))
    samples = [*data.train.samples, *data.validation.samples]
    targets = [*data.train.targets, *data.validation.targets]
    assert [known[sample.tobytes()] for sample in samples] == targets
    assert len({sample.tobytes() for sample in samples}) == len(known) == 100


def python_2_batch(rows, labels):
    """What cPickle of Python 2 wrote, opcode by opcode: texts are byte strings, numpy's names those of its old layout."""
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    shape = b"(J" + struct.pack("<i", len(rows)) + b"M\x00\x0ct"
    data = b"T" + struct.pack("<i", rows.size) + rows.tobytes()
    state = b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"
    listed = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(U\x06labels" + listed + b"U\x04data" + array + state + b"u."


def test_the_original_files_pickled_by_python_2_are_read(tmp_path, write_cifar):
    write_cifar(tmp_path, batches=1)
    rows = np.random.default_rng(2).integers(0, 256, (20, 3072)).astype(np.uint8)
    content = python_2_batch(rows, LABELS)
    np.testing.assert_array_equal(pickle.loads(content, encoding="bytes")[b"data"], rows)  # numpy agrees that it is one
    (tmp_path / "test_batch").write_bytes(content)
    test = datasets.load(str(tmp_path)).test
    assert test.targets.tolist() == LABELS
    np.testing.assert_array_equal(test.samples[1], rows[1].reshape(3, 32, 32).transpose(1, 2, 0))


class Evil:
    """A pickle that runs a command when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def with_labels(rows, labels):
    return {b"data": rows, b"labels": labels}


WRONG = {
    "no dict": ([1, 2], "is no batch of CIFAR-10"),
    "no data": ({b"labels": LABELS}, "has no rows of 3072 bytes"),
    "CIFAR-100": ({b"data": ROWS, b"fine_labels": LABELS}, "has no list of 20 'labels'"),
    "a label of 10": (with_labels(ROWS, [*LABELS[:-1], 10]), "has the label 10, expected 0 to 9"),
    "a negative label": (with_labels(ROWS, [*LABELS[:-1], -1]), "has the label -1, expected 0 to 9"),
    "a text as label": (with_labels(ROWS, [*LABELS[:-1], "cat"]), "has the label cat"),
    "too few labels": (with_labels(ROWS, LABELS[:-1]), "has no list of 20 'labels'"),
    "other images": (with_labels(np.zeros((20, 784), np.uint8), LABELS), "has no rows of 3072 bytes"),
    "no images": (with_labels(ROWS[:0], []), "has no rows of 3072 bytes|was refused"),
    "floats": (with_labels(ROWS.astype(np.float32), LABELS), "an array that is not of bytes"),
    "objects": (with_labels(np.full((20, 3072), None), LABELS), "an array that is not of bytes"),
}


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_batch_of_something_else_is_one_clear_line(how, protocol, tmp_path, write_cifar):
    content, message = WRONG[how]
    write_cifar(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(DatasetError, match=message) as caught:
        datasets.load(str(tmp_path))
    assert "data_batch_3" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("where", ["data", "labels", "extra"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path, write_cifar, protocol, where):
    write_cifar(tmp_path)
    content = {b"data": ROWS, b"labels": LABELS, where.encode(): Evil(tmp_path / "was-run")}
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(content, protocol=protocol))
    with pytest.raises(DatasetError, match=r"data_batch_2 was refused: its pickle asks for \w+\.mkdir, which is not data"):
        datasets.load(str(tmp_path))
    assert not (tmp_path / "was-run").exists()


ATTACKS = {
    "a builtin": b"cbuiltins\neval\n(S'1'\ntR.",
    "through numpy": b"cnumpy\nload\n(S'x'\ntR.",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0bdtype.mro.x\x93.",
    "a state that is no state": b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\ntb.",
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"Phello\n.",
    "memory": b"cnumpy.core.multiarray\n_reconstruct\n(tR(I1\n(I99999999999\ntcnumpy\ndtype\n(S'u1'\ntRI00\nS'abc'\ntb.",
    "other encodings": b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",
    "cut": b"\x80\x04\x95",
    "nothing": b"",
    "deep": b"(" * 3 + b"l" * 2 + b"0" * 40,
}


@pytest.mark.parametrize("how", ATTACKS)
def test_a_forged_pickle_is_one_clear_line(how, tmp_path, write_cifar):
    write_cifar(tmp_path)
    (tmp_path / "test_batch").write_bytes(ATTACKS[how])
    with pytest.raises(DatasetError, match="test_batch") as caught:
        datasets.load(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_missing_test_batch_is_named(tmp_path, write_cifar):
    write_cifar(tmp_path)
    (tmp_path / "test_batch").unlink()
    with pytest.raises(DatasetError, match="test_batch is not there"):
        datasets.load(str(tmp_path))


def test_only_batches_are_recognized(tmp_path, write_cifar, write_idx, write_images):
    write_cifar(tmp_path / "cifar")
    write_idx(tmp_path / "mnist")
    write_images(tmp_path / "pets", ["cats", "dogs"])
    assert cifar10.recognizes(tmp_path / "cifar")
    assert not folder.recognizes(tmp_path / "cifar")
    assert not any(cifar10.recognizes(tmp_path / other) for other in ("mnist", "pets", "."))


def test_without_files_and_network_one_line_says_where_to_put_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def fail(*_, **__):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", fail)
    with pytest.raises(DatasetError, match="cifar10 is not in data/cifar10, and downloading it failed") as caught:
        datasets.load("cifar10")
    assert "\n" not in str(caught.value)


def test_with_a_network_the_archive_is_fetched_checked_and_read_without_running_it(tmp_path, monkeypatch, write_cifar):
    monkeypatch.chdir(tmp_path)
    asked = {}

    def fetch(url, root, filename, md5):
        asked.update(url=url, md5=md5)
        write_cifar(tmp_path / "made" / "cifar-10-batches-py")
        (tmp_path / root).mkdir(parents=True)
        with tarfile.open(tmp_path / root / filename, "w:gz") as archive:
            archive.add(tmp_path / "made" / "cifar-10-batches-py", "cifar-10-batches-py")
        with tarfile.open(tmp_path / root / filename) as archive:
            archive.extractall(tmp_path / root, filter="data")

    monkeypatch.setattr(torchvision.datasets.cifar, "download_and_extract_archive", fetch)
    assert len(datasets.load("cifar10").test) == 20
    assert asked["md5"] == torchvision.datasets.CIFAR10.tgz_md5
