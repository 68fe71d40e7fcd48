"""Where a process computes: its device, its precision, and what is refused."""

from __future__ import annotations

import pytest
import torch

from deploykit import architectures
from deploykit.errors import DeviceUnavailable, InputError
from deploykit.training import loop, train
from deploykit.training.processes import Processes, processes_for


@pytest.fixture
def recipe():
    return architectures.get("lenet5").recipe


@pytest.fixture
def gpus(monkeypatch):
    """A machine with two GPUs, as far as PyTorch tells."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


def launched(monkeypatch, rank, world_size):
    """The variables that torchrun sets, and `accelerate launch` too."""
    for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", world_size)):
        monkeypatch.setenv(name, str(value))


def test_each_process_has_a_gpu_of_its_own(monkeypatch, gpus, recipe):
    assert processes_for("auto", "bf16", recipe) == Processes(torch.device("cuda", 1), torch.bfloat16)
    launched(monkeypatch, 1, 2)
    assert processes_for("cuda", "fp16", recipe) == Processes(torch.device("cuda", 1), torch.float16, 1, 2)
    assert processes_for("cpu", "fp32", recipe) == Processes(torch.device("cpu"), torch.float32, 1, 2)
    launched(monkeypatch, 2, 4)
    with pytest.raises(DeviceUnavailable, match=r"cuda:2.*2 devices.*fewer processes"):
        processes_for("auto", "fp32", recipe)


def test_what_cannot_be_is_refused(monkeypatch, recipe):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="unknown precision 'int3'"):
        processes_for("cpu", "int3", recipe)
    with pytest.raises(InputError, match="fp16 training needs a CUDA device"):
        processes_for("auto", "fp16", recipe)
    launched(monkeypatch, 0, 3)
    with pytest.raises(InputError, match=r"a batch of \d+ cannot be shared evenly by 3 processes"):
        processes_for("cpu", "fp32", recipe)


def test_every_sample_is_evaluated_once_by_one_process():
    shards = [list(Processes(torch.device("cpu"), rank=rank, world_size=3).shard(1000)) for rank in range(3)]
    assert max(len(batch) for shard in shards for batch in shard) == 256
    assert sorted(index for shard in shards for batch in shard for index in batch) == list(range(1000))


@pytest.mark.parametrize("name", ["laplacian", "edge-kernel", "centered", "lenet5"])
def test_the_network_lies_on_the_device_before_it_is_evaluated_also_without_anything_to_learn(tmp_path, monkeypatch, name):
    """The meta device stands for a GPU: tensors lie there or not, as on any other."""
    seen = []

    def look(network, batches, split, plan, processes):
        seen.extend((split, tensor.device.type) for tensor in network.state_dict().values())
        return 0.0

    monkeypatch.setattr(loop, "processes_for", lambda *_: Processes(torch.device("meta")))
    monkeypatch.setattr(loop, "_evaluate", look)
    monkeypatch.setattr(loop, "_finish", lambda *_: None)
    train(name, epochs=0, limit=4, out=tmp_path)
    assert set(seen) == {(split, "meta") for split in ("train", "validation", "test")}


@pytest.mark.parametrize("name", ["laplacian", "mlp"])
def test_what_is_evaluated_goes_to_the_device_of_the_network(tmp_path, monkeypatch, name):
    moved = []
    real = torch.Tensor.to

    def to(tensor, *args, **kwargs):
        if args and args[0] is device:
            moved.append(tensor.shape[0])
        return real(tensor, *args, **kwargs)

    device = torch.device("cpu")
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(loop, "processes_for", lambda *_: Processes(device))
    train(name, epochs=0, limit=4, out=tmp_path)
    assert len(moved) >= 6, "samples and targets of three splits"
