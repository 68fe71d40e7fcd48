"""Several processes share one run: one checkpoint, every sample counted once, and an end when one of them dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from deploykit.exporter import export
from deploykit.network.checkpoint import load_checkpoint
from deploykit.training import train

pytestmark = pytest.mark.slow


def torchrun(*args, cwd, processes=2):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(processes),
        "-m",
        "deploykit",
        *map(str, args),
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


def test_two_processes_make_one_checkpoint_as_good_as_one_process(tmp_path):
    done = torchrun("train", "lenet5", "--epochs", "10", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout)  # one document: only the first process speaks
    one = train("lenet5", epochs=10, out=tmp_path / "alone", device="cpu")
    assert abs(two["metrics"]["test"] - one.metrics["test"]) <= 0.03
    # 300 validation samples, each counted once: the accuracy is a multiple of 1/300.
    for row in two["history"]:
        assert abs(row["validation_accuracy"] * 300 - round(row["validation_accuracy"] * 300)) < 1e-6
    assert load_checkpoint(tmp_path / "trained" / "lenet5" / "model.safetensors").metrics["test"] == two["metrics"]["test"]


def test_batch_norm_statistics_agree_and_uneven_shares_do_not_hang(tmp_path):
    done = torchrun("train", "cnn2", "--epochs", "2", "--limit", "515", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)["metrics"]
    exported = export(str(tmp_path / "trained" / "cnn2" / "model.safetensors"))
    assert exported.verdict.same, exported.verdict
    assert exported.verdict.decisions.torch_accuracy == pytest.approx(metrics["test"], abs=1e-6)


def test_a_batch_that_cannot_be_shared_is_one_line_and_exit_2(tmp_path):
    done = torchrun("train", "lenet5", "--batch-size", "33", "--epochs", "1", cwd=tmp_path)
    assert done.returncode != 0
    assert "cannot be shared evenly by 2 processes" in done.stderr
    assert not (tmp_path / "trained").exists()


def test_a_process_that_dies_ends_the_run_and_leaves_a_resumable_state(tmp_path):
    code = (
        "import os, sys, deploykit.training.loop as t\n"
        "train_epoch = t._train_epoch\n"
        "def dying(*a):\n"
        "    if os.environ['RANK'] == '1' and a[1].batch_sampler is not None and dying.epochs == 2: os._exit(9)\n"
        "    dying.epochs += 1\n"
        "    return train_epoch(*a)\n"
        "dying.epochs = 0\n"
        "t._train_epoch = dying\n"
        "from deploykit.cli import main; main()\n"
    )
    (tmp_path / "dying.py").write_text(code)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "dying.py",
        "train",
        "lenet5",
        "--epochs",
        "6",
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert (tmp_path / "trained" / "lenet5" / "resume.pt").is_file()
    resumed = torchrun("train", "lenet5", "--epochs", "6", "--resume", "--format", "json", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["epochs"] == 6
