"""`call_times`: milliseconds of each module call in PyTorch, without the modules it calls; they add up to the whole run."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.network.tf32 import without_tf32
from deploykit.profiler import statistics

SECONDS = 1.5
MAX_RUNS, MIN_RUNS = 200, 8


def call_times(network: nn.Module, inputs: Sequence[Tensor], seconds: float = SECONDS) -> dict[str, float]:
    """Exclusive milliseconds by call: ``fc``, ``fc@1`` for its second call, "" for what the network runs itself.

    The mean over the middle half of the runs that fit in `seconds`, at least 8: a mean, so that the layers add up to the run;
    the middle, so that a run that something disturbed does not count. `network` and `inputs` are on the device to be measured;
    on CUDA every module waits for its own work, which costs some overlap. Modules are watched through a wrapper around
    `forward` that is taken off again: torch's own hooks cost more, and switch off its fused attention.
    """
    watch = _Watch(torch.cuda.synchronize if inputs and inputs[0].is_cuda else None)
    runs: list[Mapping[str, int]] = []
    with watch.on(network), torch.inference_mode(), without_tf32():
        for _ in range(2):
            watch.run(network, inputs)
        until = time.monotonic() + seconds
        while len(runs) < MIN_RUNS or (len(runs) < MAX_RUNS and time.monotonic() < until):
            runs.append(watch.run(network, inputs))
    kept = statistics.middle_half([sum(run.values()) for run in runs])
    found: dict[str, float] = defaultdict(float)
    for index in kept:
        for path, nanoseconds in runs[index].items():
            found[path] += nanoseconds / 1e6 / len(kept)
    return dict(found)


class _Watch:
    def __init__(self, wait: Callable[[], None] | None) -> None:
        self.wait = wait
        self.below: list[int] = []  # for each running call: nanoseconds spent in calls below it
        self.found: dict[str, int] = {}
        self.count: Counter[str] = Counter()

    def run(self, network: nn.Module, inputs: Sequence[Tensor]) -> Mapping[str, int]:
        """Nanoseconds by call of one run."""
        self.found, self.count = {}, Counter()
        network(*inputs)
        return self.found

    @contextlib.contextmanager
    def on(self, network: nn.Module) -> Iterator[None]:
        wrapped: list[nn.Module] = []
        try:
            for path, module in network.named_modules():
                if "forward" in vars(module) or isinstance(module, torch.jit.ScriptModule):
                    continue  # somebody else's wrapper, or compiled code: its time stays with the caller
                module.forward = self._timed(path, module.forward)
                wrapped.append(module)
            yield
        finally:
            for module in wrapped:
                del module.forward

    def _timed(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        clock, below, wait = time.perf_counter_ns, self.below, self.wait

        def timed(*args: Any, **kwargs: Any) -> Any:
            if wait is not None:
                wait()
            call = self.count[path]
            self.count[path] = call + 1
            below.append(0)
            began = clock()
            try:
                return forward(*args, **kwargs)
            finally:
                if wait is not None:
                    wait()
                spent = clock() - began
                self.found[f"{path}@{call}" if call else path] = spent - below.pop()
                if below:
                    below[-1] += spent

        return timed
