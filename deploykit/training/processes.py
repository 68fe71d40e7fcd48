"""One process or several, on the CPU or on GPUs: what the loop must know about where it runs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from deploykit.architectures import Recipe
from deploykit.errors import DeviceUnavailable, InputError

if TYPE_CHECKING:
    from accelerate import Accelerator

EVALUATION_BATCH = 256
NEW_MEMORY: Any = torch.utils.deterministic  # its one setting is made by a trick that type checkers cannot see


def is_main_process() -> bool:
    """Whether this process is the one of a `torchrun` that speaks and writes; true without torchrun."""
    return os.environ.get("RANK", "0") == "0"


def accelerator_for(device: str, precision: str, recipe: Recipe) -> Accelerator:
    """accelerate, set up for `device` ("auto", "cpu", "cuda") and `precision` ("fp32", "fp16", "bf16").

    Raises `InputError` for another name or a batch that the processes cannot share evenly, `DeviceUnavailable`.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DataLoaderConfiguration

    modes = {"fp32": "no", "fp16": "fp16", "bf16": "bf16"}
    if precision not in modes:
        raise InputError(f"unknown precision {precision!r}", f"choose one of {', '.join(modes)}")
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"unknown device {device!r}", "choose auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable(device, "PyTorch has no such device", "run `deploykit doctor`, or use --device cpu")
    if device != "cpu" and precision == "fp16" and not torch.cuda.is_available():
        raise InputError("fp16 training needs a CUDA device", "use --precision bf16 or fp32")
    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # accelerate keeps the options of the first run in a process
    accelerator = Accelerator(
        # Said outright where there is no accelerator: only then does accelerate share the work of a `torchrun` between CPUs.
        cpu=device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        mixed_precision=modes[precision],
        # The recipe's batch is the whole batch, however many processes share it.
        dataloader_config=DataLoaderConfiguration(split_batches=True, even_batches=True),
    )
    if recipe.batch_size % accelerator.num_processes:
        raise InputError(
            f"a batch of {recipe.batch_size} cannot be shared evenly by {accelerator.num_processes} processes",
            "choose another --batch-size",
        )
    return accelerator


def prepare(network: nn.Module, optimizer: Any, loader: Any, accelerator: Accelerator) -> tuple[nn.Module, Any, Any]:
    """Network, optimizer and loader as this process trains with them: on its device, gradients shared, its share of a batch.

    accelerate's wrapper around the optimizer does something only where gradients are scaled (fp16). In every step it looks
    for packages on the disk and reads a signature, 4 % of a step of a small network, so elsewhere it comes off again.
    """
    model, wrapped, loader = accelerator.prepare(network, optimizer, loader)
    return model, optimizer if accelerator.scaler is None else wrapped, loader


def agree(network: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the weights and BatchNorm statistics of the first one; each has seen other samples."""
    if accelerator.num_processes > 1:
        for tensor in network.state_dict().values():
            torch.distributed.broadcast(tensor, src=0)


def shard(samples: int, processes: int, process: int) -> Iterator[list[int]]:
    """The indices that one of several processes evaluates, in batches; together they are every sample once."""
    indices = list(range(process, samples, processes))
    for start in range(0, len(indices), EVALUATION_BATCH):
        yield indices[start : start + EVALUATION_BATCH]


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
