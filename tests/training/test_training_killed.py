"""SIGKILL at random moments of a training run: every file stays readable, and resuming gives the uninterrupted run's weights."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time

import pytest

from deploykit.network.checkpoint import load_checkpoint, read_resume
from deploykit.training import train

pytestmark = pytest.mark.slow

KILLS = 20


@pytest.fixture(scope="module")
def start():
    """Start a run in a process of its own, forked from one that has imported all it needs: every kill lands in the run itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deploykit.training", "deploykit.architectures.lenet5", "sklearn.datasets", "torch._dynamo"])

    def run(folder):
        options = {"epochs": 8, "limit": 600, "device": "cpu", "out": folder, "resume": (folder / "resume.pt").exists()}
        child = context.Process(target=train, args=("lenet5",), kwargs=options)
        child.start()
        return child

    return run


def finish(child):
    child.join(timeout=300)
    assert child.exitcode == 0


def every_file_is_readable(folder):
    for checkpoint in folder.rglob("model.safetensors"):  # also those of runs that had ended, in previous-1 and so on
        load_checkpoint(checkpoint).build()
    for resume in folder.rglob("resume.pt"):
        assert read_resume(resume)["state"]["epoch"] >= 1


def test_twenty_kills_and_the_weights_are_those_of_an_uninterrupted_run(tmp_path, start):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(start(whole))  # also starts the process that the others are forked from
    began = time.monotonic()
    finish(start(tmp_path / "again"))
    duration = time.monotonic() - began
    moments = random.Random(7)
    killed = 0
    while killed < KILLS:
        child = start(cut)
        child.join(timeout=duration * moments.uniform(0.05, 1.05))
        if child.exitcode is None:
            child.kill()
            child.join()
        if child.exitcode == -signal.SIGKILL:
            killed += 1
            every_file_is_readable(cut)
        else:
            assert child.exitcode == 0
            assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    finish(start(cut))
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not list(cut.glob(".*.tmp")), "the next run removes what a killed one left"
