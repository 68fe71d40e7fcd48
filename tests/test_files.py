"""Files are whole or not there."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import stat
import time

import pytest

from deploykit import files
from deploykit.errors import OutputError


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="half"), files.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise ValueError("half way")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_a_write_makes_the_folders_and_the_usual_permissions(tmp_path):
    path = tmp_path / "a" / "b" / "model.onnx"
    files.write_bytes(path, b"new")
    mask = os.umask(0)
    os.umask(mask)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_folder_or_a_file_in_the_way_is_an_output_error(tmp_path):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        files.write_bytes(tmp_path / "folder.onnx", b"x")
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OutputError, match=r"cannot write .*--out"):
        files.write_bytes(tmp_path / "file" / "model.onnx", b"x")
    with pytest.raises(OutputError):
        files.writable_folder(tmp_path / "file")


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match="no space left on device"):
        files.write_bytes(tmp_path / "x", b"x")
    assert os.listdir(tmp_path) == []


def _hang_while_writing(path, started):
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        started.set()
        time.sleep(60)


def test_what_a_killed_writer_left_is_removed_by_the_next_one_but_a_living_writer_is_not_disturbed(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    writer = context.Process(target=_hang_while_writing, args=(path, started))
    writer.start()
    assert started.wait(30)
    files.write_bytes(path, b"other")
    assert len(list(tmp_path.glob(".model.onnx.*.tmp"))) == 1, "the living writer's file was taken away"
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert path.read_bytes() == b"other"
    files.write_bytes(path, b"new")
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_a_temporary_file_is_locked_while_it_is_written(tmp_path):
    with files.replacing(tmp_path / "x") as temporary:
        handle = os.open(temporary, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)


def _hang_with_a_scratch_folder(names):
    with files.scratch_folder() as folder:
        (folder / "large").write_bytes(b"x")
        names.put(str(folder))
        time.sleep(60)


def test_a_killed_process_leaves_no_scratch_folder_for_long_and_a_living_one_keeps_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(files.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "deploykit-mine").mkdir()
    (tmp_path / "deploykit-mine" / "notes").write_bytes(b"kept: nothing of deploykit's was ever locked here")
    context = multiprocessing.get_context("spawn")
    names = context.Queue()
    other = context.Process(target=_hang_with_a_scratch_folder, args=(names,))
    other.start()
    theirs = names.get(timeout=30)
    with files.scratch_folder() as folder:
        assert sorted(os.listdir(tmp_path)) == sorted(["deploykit-mine", os.path.basename(theirs), folder.name])
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    with files.scratch_folder() as folder:
        assert sorted(os.listdir(tmp_path)) == sorted(["deploykit-mine", folder.name])
    assert os.listdir(tmp_path) == ["deploykit-mine"]
