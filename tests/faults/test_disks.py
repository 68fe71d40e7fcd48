"""A disk that is full, a folder that is read-only, files that vanish, two writers at once: one line, and no file is lost."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess

import pytest
from warm import Job

pytestmark = pytest.mark.slow

CAN_MOUNT = os.geteuid() == 0 and shutil.which("mount") is not None


@contextlib.contextmanager
def mounted(folder, options):
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this machine cannot mount a tmpfs: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def writers(trained, exported, out):
    """Every command that writes, writing into `out`."""
    return {
        "export": ("export", trained / "model.safetensors", "--out", out / "m.onnx"),
        "simplify": ("simplify", exported, "--out", out / "s.onnx"),
        "train": ("train", "lenet5", "--limit", "64", "--epochs", "1", "--device", "cpu", "--out", out / "t"),
        "profile": ("profile", exported, "--no-latency", "--output", out / "p.txt"),
        "plot": ("profile", exported, "--no-latency", "--plot", out / "p.png"),
    }


def is_one_line(done, *words):
    lines = [line for line in done.error.splitlines() if line]
    assert len(lines) == 1, done.error
    assert lines[0].startswith("error: ")
    assert any(word in lines[0] for word in words), lines[0]


def files_in(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.skipif(not CAN_MOUNT, reason="needs root to mount a small tmpfs")
def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_half_written(warm, trained, exported, tmp_path):
    with mounted(tmp_path / "small", "size=200k") as small:
        (small / "t").mkdir()
        for name in ("m.onnx", "s.onnx", "p.txt", "p.png", "t/model.safetensors"):
            (small / name).write_bytes(b"old")
        with (small / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(bytes(512))
        before = files_in(small)
        for name, arguments in writers(trained, exported, small).items():
            done = warm.command(tmp_path, *arguments)
            assert done.status == 2, (name, done)
            is_one_line(done, "no space left", "cannot write")
            after = files_in(small)
            # Training may have set the earlier run aside before it found the disk full: another name for the same bytes.
            aside = {path: digest for path, digest in after.items() if path.startswith("t/previous-")}
            assert set(aside.values()) <= {before["t/model.safetensors"]}, name
            assert {path: digest for path, digest in after.items() if path not in aside} == before, name


@pytest.mark.skipif(not CAN_MOUNT, reason="needs root to mount a small tmpfs")
def test_a_disk_that_is_full_halfway_is_left_as_it_was(warm, trained, tmp_path):
    with mounted(tmp_path / "small", "size=100k") as small:
        done = warm.command(tmp_path, "export", trained / "model.safetensors", "--out", small / "m.onnx")
        assert done.status == 2
        is_one_line(done, "no space left")
        assert os.listdir(small) == []
        done = warm.command(tmp_path, "train", "lenet5", "--limit", "64", "--epochs", "1", "--device", "cpu", "--out", small / "t")
        assert done.status == 2
        is_one_line(done, "no space left")
        assert not files_in(small)


@pytest.mark.skipif(not CAN_MOUNT, reason="needs root to mount a read-only file system")
def test_a_read_only_folder_is_one_line_before_the_work_begins(warm, trained, exported, tmp_path):
    with mounted(tmp_path / "fixed", "size=1m") as fixed:
        (fixed / "m.onnx").write_bytes(b"old")
        subprocess.run(["mount", "-o", "remount,ro", fixed], check=True)
        before = files_in(fixed)
        for name, arguments in writers(trained, exported, fixed).items():
            done = warm.command(tmp_path, *arguments)
            assert done.status == 2, (name, done)
            is_one_line(done, "read-only")
            assert files_in(fixed) == before, name
        # What only reads works there, and so does what writes elsewhere.
        assert warm.command(fixed, "predict", exported, "--help").status == 0
        assert warm.command(fixed, "validate", exported, "--against", trained / "model.safetensors", "--quiet").status == 0


def test_two_writers_at_once_leave_one_whole_file(warm, trained, exported, tmp_path):
    weights = trained / "model.safetensors"
    variants = [("export", weights, "--out", "m.onnx", "--quiet", *more) for more in ((), ("--opset", "21"))]
    alone = []
    for variant in variants:
        assert warm.command(tmp_path, *variant).status == 0
        alone.append((tmp_path / "m.onnx").read_bytes())
    assert alone[0] != alone[1]
    (tmp_path / "m.onnx").unlink()
    for done in warm.run(*(Job(tuple(map(str, variant)), str(tmp_path)) for variant in variants)):
        assert done.status == 0, done.error
    assert (tmp_path / "m.onnx").read_bytes() in alone
    assert os.listdir(tmp_path) == ["m.onnx"]


def test_files_that_vanish_are_one_line(warm, exported, tmp_path):
    from PIL import Image

    for label in ("cats", "dogs"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(60):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "pets" / label / f"{number}.png")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    done = warm.command(tmp_path, "predict", exported, "link.png", "pets/cats/1.png", "--format", "json")
    assert done.status == 2
    is_one_line(done, "1 of 2")
    for number in range(60):
        (tmp_path / "pets" / "dogs" / f"{number}.png").unlink()
        (tmp_path / "pets" / "dogs" / f"{number}.png").symlink_to("nowhere")
    done = warm.command(tmp_path, "train", "lenet5", "--data", "pets", "--epochs", "1", "--out", "run")
    assert done.status == 2
    is_one_line(done, "readable image")
    assert not (tmp_path / "run").exists()
