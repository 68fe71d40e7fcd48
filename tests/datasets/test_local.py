"""Where datasets lie, what a download that fails leaves behind, and which samples are held out."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from deploykit.datasets import _local
from deploykit.errors import DatasetError


def test_the_folder_of_a_dataset(monkeypatch, tmp_path):
    monkeypatch.delenv("DEPLOYKIT_DATA", raising=False)
    assert _local.home("mnist") == Path("data/mnist")
    monkeypatch.setenv("DEPLOYKIT_DATA", "")
    assert _local.home("mnist") == Path("data/mnist")
    monkeypatch.setenv("DEPLOYKIT_DATA", str(tmp_path))
    assert _local.home("mnist") == tmp_path / "mnist"


@pytest.mark.parametrize("before", [None, 3.0])
def test_sockets_give_up_during_a_download_and_are_as_before_afterwards(tmp_path, capsys, before):
    outside = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before)
    seen = []

    def fetch():
        print("Downloading")
        seen.append(socket.getdefaulttimeout())

    def fail():
        seen.append(socket.getdefaulttimeout())
        raise OSError("no route")

    try:
        _local.download("mnist", fetch, tmp_path)
        assert socket.getdefaulttimeout() == before
        with pytest.raises(DatasetError, match="no route"):
            _local.download("mnist", fail, tmp_path)
        assert socket.getdefaulttimeout() == before
    finally:
        socket.setdefaulttimeout(outside)
    assert seen == [20.0, 20.0]
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "Downloading\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [(OSError("first\n\nlast \n\n"), r"\(last \)"), (EOFError(), r"\(EOFError\)"), (ValueError("  "), r"\(ValueError\)")],
)
def test_a_download_that_got_nothing_leaves_no_empty_folders(tmp_path, error, said):
    folder = tmp_path / "data" / "mnist"

    def fail():
        (folder / "raw" / "deep").mkdir(parents=True)
        raise error

    with pytest.raises(DatasetError, match=said) as caught:
        _local.download("mnist", fail, folder)
    assert f"the dataset mnist is not in {folder}" in str(caught.value)
    assert "DEPLOYKIT_DATA" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_or_has_files_stays(tmp_path):
    folder = tmp_path / "data" / "mnist"
    folder.parent.mkdir()

    def fail():
        (folder / "raw").mkdir(parents=True)
        (folder / "empty").mkdir()
        (folder / "raw" / "half").write_text("x")
        raise OSError("broken off")

    with pytest.raises(DatasetError):
        _local.download("mnist", fail, folder)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == [
        "data",
        "data/mnist",
        "data/mnist/raw",
        "data/mnist/raw/half",
    ]
    (folder / "raw" / "half").unlink()
    (folder / "raw").rmdir()
    with pytest.raises(DatasetError):
        _local.download("mnist", lambda: (_ for _ in ()).throw(OSError("no")), folder)
    assert folder.is_dir(), "it was there before, empty"


def test_a_mistake_in_the_program_is_not_taken_for_a_failed_download(tmp_path):
    def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        _local.download("mnist", fail, tmp_path)


@pytest.mark.parametrize(
    ("counts", "share", "held"),
    [
        ((100, 50), 0.1, (10, 5)),
        ((10, 4), 0.1, (1, 1)),  # one at least
        ((26, 34), 0.1, (3, 3)),  # rounded
        ((3, 2), 0.9, (2, 1)),  # one is kept
        ((1, 20), 0.1, (0, 2)),  # of a single one none
    ],
)
def test_a_share_of_each_class_is_held_out(counts, share, held):
    labels = np.repeat(np.arange(len(counts)), counts)
    kept, out = _local.hold_out(labels, share, 0)
    assert [int((labels[out] == label).sum()) for label in range(len(counts))] == list(held)
    assert sorted([*kept, *out]) == list(range(len(labels)))
    again = _local.hold_out(labels, share, 0)
    assert np.array_equal(again[0], kept)
    assert np.array_equal(again[1], out)
    assert not np.array_equal(_local.hold_out(labels, share, 1)[0], kept)


def test_the_order_is_mixed_and_the_same_for_good():
    kept, held = _local.hold_out(np.repeat([0, 1], 6), 0.3, 7)
    assert kept.tolist() == [3, 1, 9, 10, 4, 7, 0, 8]
    assert held.tolist() == [6, 5, 11, 2]


def test_where_every_class_has_one_sample_none_can_be_held_out():
    with pytest.raises(DatasetError, match="of 3 samples none can be held out"):
        _local.hold_out(np.arange(3), 0.5, 0)
