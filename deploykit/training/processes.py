"""One process or several, on the CPU or on GPUs: what the loop must know about where it runs.

Several processes are started by `torchrun`, or by whatever else sets its variables: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR
and MASTER_PORT.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from deploykit.architectures import Recipe
from deploykit.errors import DeviceUnavailable, InputError, Unavailable, counted, first_line
from deploykit.training.launch import meeting_place

EVALUATION_BATCH = 256
NEW_MEMORY: Any = torch.utils.deterministic  # its one setting is made by a trick that type checkers cannot see
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def is_main_process() -> bool:
    """Whether this process is the one of a `torchrun` that speaks and writes; true without torchrun."""
    return os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """How many processes `torchrun` started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Processes:
    """The processes that share a run, seen from one of them. `rank`: its number among `world_size`, from 0."""

    device: torch.device
    precision: torch.dtype = torch.float32
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def autocast(self) -> torch.autocast:
        """A context in which forward passes compute in `precision`, where PyTorch finds that safe."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)

    def scaler(self) -> torch.amp.GradScaler:
        """What keeps small gradients from vanishing in float16; in other precisions it passes everything through."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)

    def sharing_gradients(self, network: nn.Module) -> nn.Module:
        """The network to train an epoch with: its backward pass averages the gradients over all processes.

        A new one for each epoch, when the one before is let go: after its first step PyTorch sorts the gradients anew, and three
        processes or more add them in the order in which they lie; so a run that goes on after an epoch adds as if it never ended.
        """
        if self.world_size == 1:
            return network
        gc.collect()  # the one before holds itself, and as long as it is there it listens to the gradients
        return DistributedDataParallel(network, device_ids=[self.device] if self.device.type == "cuda" else None)

    def agree(self, network: nn.Module) -> None:
        """Give every process the weights and BatchNorm statistics of the first one; each has seen other samples."""
        if self.world_size > 1:
            for tensor in network.state_dict().values():
                distributed.broadcast(tensor, src=0)

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over all processes, in float64."""
        if self.world_size == 1:
            return list(numbers)
        summed = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        distributed.all_reduce(summed)
        return summed.tolist()

    def most(self, number: int) -> int:
        """The largest of the processes' numbers."""
        if self.world_size == 1:
            return number
        largest = torch.tensor(number, dtype=torch.int64, device=self.device)
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return int(largest)

    def require_same(self, epoch: int, folder: Path) -> None:
        """Raise `InputError` unless all processes found the same state of the run, in epochs that are done."""
        if self.most(epoch) != -self.most(-epoch):
            raise InputError(
                f"process {self.rank} finds {counted(epoch, 'epoch')} in {folder}, others another number",
                "choose an --out that all machines share",
            )

    def wait(self) -> None:
        """Go on when every process has come here."""
        if self.world_size > 1:
            distributed.barrier()

    def shard(self, samples: int) -> Iterator[list[int]]:
        """The indices that this process evaluates, in batches; those of all processes together are every sample once."""
        indices = list(range(self.rank, samples, self.world_size))
        for start in range(0, len(indices), EVALUATION_BATCH):
            yield indices[start : start + EVALUATION_BATCH]


def processes_for(device: str, precision: str, recipe: Recipe) -> Processes:
    """Where this process computes: `device` is "auto", "cpu" or "cuda", `precision` "fp32", "fp16" or "bf16".

    Raises `InputError` for another name or a batch that the processes cannot share evenly, `DeviceUnavailable`.
    """
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision {precision!r}", f"choose one of {', '.join(PRECISIONS)}")
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"unknown device {device!r}", "choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable(device, "PyTorch has no such device", "run `deploykit doctor`, or use --device cpu")
    if device == "auto" and precision == "fp16" and not torch.cuda.is_available():
        raise InputError("fp16 training needs a CUDA device", "use --precision bf16 or fp32")
    count = world_size()
    if recipe.batch_size % count:
        raise InputError(
            f"a batch of {recipe.batch_size} cannot be shared evenly by {count} processes", "choose another --batch-size"
        )
    chosen = _local_device(device, count)
    return Processes(chosen, PRECISIONS[precision], int(os.environ.get("RANK", "0")) if count > 1 else 0, count)


def _local_device(device: str, count: int) -> torch.device:
    """The device of this process; of several on one machine each has a GPU of its own. Raises `DeviceUnavailable`."""
    if device != "cpu" and torch.cuda.is_available():
        if count == 1:
            return torch.device("cuda", torch.cuda.current_device())
        number, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if number >= there:
            raise DeviceUnavailable(f"cuda:{number}", f"PyTorch sees {there} devices", "start fewer processes, or use --device cpu")
        return torch.device("cuda", number)
    # Processes cannot share gradients between Apple's GPUs.
    return torch.device("mps" if device == "auto" and count == 1 and torch.backends.mps.is_available() else "cpu")


@contextlib.contextmanager
def together(processes: Processes) -> Iterator[None]:
    """Connect the processes, and part at the end, unless they were connected already.

    After an exception they stay connected: parting waits for the others, who may be waiting for this one, until torchrun sees
    it end and stops them. Raises `Unavailable` where another process is lost.
    """
    if processes.world_size == 1 or distributed.is_initialized():
        yield
        return
    try:
        _connect(processes)
        yield
        distributed.destroy_process_group()
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error).lower():
            raise Unavailable(
                "stopping", f"process {processes.rank} lost another one of the {processes.world_size}: {_reason(error)}",
                "torchrun --max-restarts starts them again by itself, else add --resume",
            ) from error  # fmt: skip
        raise


def _reason(error: RuntimeError) -> str:
    """What gloo or NCCL says, without the lines of their sources."""
    return re.sub(r"\[/[^\]]*\] ?", "", first_line(error, 300)).split(". ")[0]


def _connect(processes: Processes) -> None:
    rank, count = processes.rank, processes.world_size
    store = meeting_place(rank, count)
    where = {} if store is None else {"store": store, "rank": rank, "world_size": count}
    if processes.device.type == "cuda":
        torch.cuda.set_device(processes.device)
        distributed.init_process_group("nccl", device_id=processes.device, **where)
    else:
        distributed.init_process_group("gloo", **where)


class Interruptible:
    """Ctrl-C inside the block is kept until `check` is called, between two steps.

    Python raises KeyboardInterrupt wherever it happens to be, also in callbacks of native code that swallow it; then the run
    would go on. A second Ctrl-C is not kept. Outside the main thread signals are not ours, and nothing changes.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: Any = None

    def __enter__(self) -> Interruptible:
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # so do the background jobs of a script
        if threading.current_thread() is threading.main_thread() and not ignored:
            self._before = signal.signal(signal.SIGINT, self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raise KeyboardInterrupt if it was asked for."""
        if self._asked:
            raise KeyboardInterrupt

    def _keep(self, *_: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


class Deterministic:
    """The same sums in the same order inside the block; the caller's settings come back after it."""

    def __enter__(self) -> None:
        self._algorithms = torch.are_deterministic_algorithms_enabled()
        self._warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        self._benchmark = torch.backends.cudnn.benchmark
        self._fill = NEW_MEMORY.fill_uninitialized_memory
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        # That finds code which reads memory before it is written, by writing to all new memory; it is no part of the sums.
        NEW_MEMORY.fill_uninitialized_memory = False

    def __exit__(self, *_: object) -> None:
        torch.use_deterministic_algorithms(self._algorithms, warn_only=self._warn_only)
        torch.backends.cudnn.benchmark = self._benchmark
        NEW_MEMORY.fill_uninitialized_memory = self._fill
