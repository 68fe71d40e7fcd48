"""What the two PyTorch engines share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deploykit.backends._types import Arrays, Engine, TensorSpec, own
from deploykit.network import outputs as network_outputs
from deploykit.network.running import refusal, torch_device
from deploykit.network.target import Network
from deploykit.network.tf32 import without_tf32
from deploykit.runtime.cores import cores


class PyTorchEngine(Engine):
    """Runs `forward` on tensors that share memory with the caller's arrays, by PyTorch's own defaults, but without TF32.

    Of TF32 and of the number of threads PyTorch has one setting per process: both are set here and put back by `close`. The
    network's weights move to the device and back likewise.
    """

    def __init__(
        self, network: Network, forward: Callable[..., Any], device: str, threads: int | None, settings: dict[str, str]
    ) -> None:
        self._device = torch_device(device)
        self._network = network
        self._forward = forward
        self._put_back = ExitStack()
        self._put_back.enter_context(without_tf32())
        self._put_back.callback(torch.set_num_threads, torch.get_num_threads())
        threads = threads or cores().usable
        torch.set_num_threads(threads)
        network.module.eval().to(self._device)
        inputs = [TensorSpec(s.name, s.open_shape, _numpy(s.dtype), str(s.dtype)) for s in network.inputs]
        settings = {"version": torch.__version__, "precision": _precision(network), **settings}
        if self._device.type == "cuda":
            settings["tf32"] = "off"
        super().__init__(inputs, str(self._device), threads, settings)

    def _run(self, arrays: Sequence[NDArray[Any]]) -> Arrays:
        tensors = [torch.from_numpy(a if a.flags.writeable and a.flags.c_contiguous else a.copy()).to(self._device) for a in arrays]
        try:
            with torch.inference_mode():
                outputs = self._forward(*tensors)
        except Exception as error:  # whatever the network's own code raises
            raise refusal(error, self._network.module, [array.shape for array in arrays]) from error
        return [own(array, arrays) for array in network_outputs.arrays(outputs)]

    def _close(self) -> None:
        self._put_back.close()
        if self._device.type != "cpu":
            self._network.module.to("cpu")


def _precision(network: Network) -> str:
    """The type of most of the weights; of a network without any, that of its input."""
    found: Counter[torch.dtype] = Counter({spec.dtype: 1 for spec in network.inputs[:1]})
    for parameter in network.module.parameters():
        found[parameter.dtype] += parameter.numel()
    return str(found.most_common(1)[0][0]).removeprefix("torch.") if found else "unknown"


def _numpy(dtype: torch.dtype) -> np.dtype[Any] | None:
    try:
        return np.dtype(str(dtype).removeprefix("torch."))
    except TypeError:
        return None
