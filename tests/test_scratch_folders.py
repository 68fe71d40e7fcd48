"""A scratch folder is removed as far as that can be, whatever lies in it."""

from __future__ import annotations

import hashlib
import os
import shutil

import pytest

from deploykit import files


def test_all_that_lies_in_it_is_removed(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    parent = tmp_path / "parent"
    parent.mkdir()
    with files.scratch_folder(parent) as folder:
        assert [path.name for path in folder.iterdir()] == [files.MARKER]
        (folder / "file").write_text("x")
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "file").write_text("x")
        (folder / "link").symlink_to(outside)
        (folder / "nowhere").symlink_to(tmp_path / "missing")
    assert list(parent.iterdir()) == []
    assert [path.name for path in outside.iterdir()] == ["kept"]


def test_what_cannot_be_removed_keeps_nothing_else_from_being_removed(tmp_path, monkeypatch):
    """Such as a file that another program holds open on Windows."""
    real = os.rmdir

    def rmdir(path, *, dir_fd=None):
        if os.path.basename(path) == "held":
            raise PermissionError(13, "Permission denied", str(path))
        real(path, dir_fd=dir_fd)

    with files.scratch_folder(tmp_path) as folder:
        for name in ("a", "held", "z"):
            (folder / name).mkdir()
            (folder / name / "file").write_text("x")
        monkeypatch.setattr(os, "rmdir", rmdir)
    assert [path.name for path in folder.iterdir()] == ["held"]
    assert list((folder / "held").iterdir()) == []
    monkeypatch.undo()
    shutil.rmtree(folder)


def test_digests(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    assert files.sha256(path) == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_replaced_file_keeps_its_permissions(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(0o640)
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert not files.WINDOWS
