"""SIGKILL at random moments of a training run: every file stays readable, and resuming gives the uninterrupted run's weights."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from deploykit.checkpoint import load_checkpoint, read_resume

pytestmark = pytest.mark.slow

OPTIONS = ("--epochs", "8", "--limit", "600", "--device", "cpu", "--quiet")
KILLS = 20


def start(folder, *more):
    command = [sys.executable, "-m", "deploykit", "train", "lenet5", *OPTIONS, "--out", str(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def every_file_is_readable(folder):
    checkpoint, resume = folder / "model.safetensors", folder / "resume.pt"
    if checkpoint.exists():
        load_checkpoint(checkpoint).build()
    if resume.exists():
        assert read_resume(resume)["state"]["epoch"] >= 1


def test_twenty_kills_and_the_weights_are_those_of_an_uninterrupted_run(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    began = time.monotonic()
    child = start(whole)
    assert child.wait(timeout=300) == 0
    duration = time.monotonic() - began
    moments = random.Random(7)
    finished = killed = 0
    while killed < KILLS:
        child = start(cut, *(["--resume"] if (cut / "resume.pt").exists() else []))
        try:
            # Most of a run is the start of Python and torch; aim at what comes after, from the first epoch to the last write.
            assert child.wait(timeout=duration * moments.uniform(0.35, 1.05)) == 0
            finished += 1
            assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            killed += 1
            every_file_is_readable(cut)
    child = start(cut, *(["--resume"] if (cut / "resume.pt").exists() else []))
    assert child.wait(timeout=300) == 0
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not list(cut.glob(".*.tmp")), "the next run removes what a killed one left"
