"""Several processes share one run: one checkpoint, every sample counted once, and an end when one of them dies."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deploykit.errors import InputError
from deploykit.exporter import export
from deploykit.network.checkpoint import load_checkpoint
from deploykit.training import train
from deploykit.training.processes import Processes

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


AGENT = """
import os, pathlib, signal, sys
import deploykit.training.loop as loop

train_epoch, epochs = loop._train_epoch, []

def dying(*given):
    epochs.append(0)
    once = pathlib.Path("killed")
    if os.environ["RANK"] == "1" and len(epochs) == 3 and not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return train_epoch(*given)

loop._train_epoch = dying
with open(f"epochs-{os.environ['RANK']}", "a") as log:
    try:
        from deploykit.cli import main
        main()
    finally:
        log.write(f"{len(epochs)}\\n")
"""


def test_two_agents_go_on_by_themselves_when_a_rank_is_killed(tmp_path):
    """`torchrun --nnodes=2`, each agent as on a machine of its own; the weights are those of a run that nothing disturbed.

    Three processes, two of one agent and one of the other: sums of two numbers are the same in any order.
    """
    options = (
        "train",
        "lenet5",
        "--epochs",
        "4",
        "--batch-size",
        "63",
        "--limit",
        "300",
        "--device",
        "cpu",
        "--quiet",
        "--format",
        "json",
    )
    done = torchrun(*options, "--out", tmp_path / "whole", cwd=tmp_path, processes=3)
    assert done.returncode == 0, done.stderr

    (tmp_path / "agent.py").write_text(AGENT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    meeting = (
        "--nnodes=2",
        "--max-restarts=3",
        "--rdzv-backend=c10d",
        "--rdzv-id=two",
        f"--rdzv-endpoint={endpoint}",
    )
    run = [sys.executable, "-m", "torch.distributed.run", *meeting]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    agents = [
        subprocess.Popen([*run, f"--nproc-per-node={count}", "agent.py", *options, "--out", "cut"], cwd=tmp_path, env=env, **pipes)
        for count in (2, 1)
    ]
    try:
        said = [agent.communicate(timeout=300) for agent in agents]
    finally:
        for agent in agents:
            agent.kill()
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert (tmp_path / "killed").exists()
    documents = [json.loads(out) for out, _ in said if out.strip()]
    assert [document["epochs"] for document in documents] == [4], "one document, of the process that speaks"
    assert "2" in (tmp_path / "epochs-1").read_text().split(), "epochs 1 and 2 were not learned again"
    whole, cut = (load_checkpoint(tmp_path / folder / "model.safetensors") for folder in ("whole", "cut"))
    assert all(torch.equal(tensor, cut.tensors[name]) for name, tensor in whole.tensors.items())


def test_processes_that_find_another_state_each_are_one_line(monkeypatch):
    """As on machines that do not share the folder of the run."""
    monkeypatch.setattr(Processes, "most", lambda self, number: max(number, 0))  # the others have found nothing
    Processes(torch.device("cpu"), world_size=2).require_same(0, Path("out"))
    with pytest.raises(
        InputError, match="process 1 finds 3 epochs in out, others another number; choose an --out that all machines share"
    ):
        Processes(torch.device("cpu"), rank=1, world_size=2).require_same(3, Path("out"))


def test_accelerate_launches_it_as_well(tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is not installed: pip install accelerate")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    plain = ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "deploykit"]
    options = ["train", "lenet5", "--epochs", "1", "--limit", "300", "--device", "cpu", "--quiet"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, *plain, *options, "--batch-size", "33"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode != 0
    assert "cannot be shared evenly by 2 processes" in done.stderr
    assert not (tmp_path / "trained").exists()
    done = subprocess.run([*launch, *plain, *options], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(tmp_path / "trained" / "lenet5" / "model.safetensors").metrics["epoch"] == 1


OWN = """
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))
"""


def test_an_own_network_learns_a_folder_in_two_processes(tmp_path):
    (tmp_path / "mynet.py").write_text(OWN)
    draw = np.random.default_rng(0)
    for label, bright in (("day", 200), ("night", 30)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(15):
            pixels = draw.integers(bright, bright + 40, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    options = ["--data", "photos", "--epochs", "4", "--batch-size", "4", "--lr", "0.05", "--device", "cpu", "--out", "learned"]
    done = torchrun("train", "mynet:Net", *options, "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)  # one document: only the first process speaks
    assert len(found["history"]) == 4
    assert sum("was replaced by one of 2 outputs" in note for note in found["notes"]) == 1
    assert found["metrics"]["test"] == 1.0
    assert {"model.safetensors", "card.md"} <= {path.name for path in (tmp_path / "learned").iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "deploykit", "export", "learned/model.safetensors", "--out", "m.onnx", "--format", "json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["verdict"]["decisions"]["torch_accuracy"] == 1.0
