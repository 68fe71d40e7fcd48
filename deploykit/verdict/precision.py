"""A network in another precision, for as long as a block lasts: float64 as the truth, float16 as what rounding may cost.

Both work in place, so that a large network is never in memory twice, and give the weights back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

Precision = Literal["fp32", "fp16"]


@contextmanager
def widened(module: nn.Module) -> Iterator[None]:
    """Every float32 parameter and buffer is float64 inside the block. Widening and narrowing back loses nothing."""
    dtypes = [(parameter, parameter.dtype) for parameter in module.parameters()]
    # torch widens parameters in place, and puts new tensors in the place of buffers.
    buffers = [(owner._buffers, name, buffer) for owner in module.modules() for name, buffer in owner._buffers.items()]
    module.double()
    try:
        yield
    finally:
        for parameter, dtype in dtypes:
            parameter.data = parameter.data.to(dtype)
        for home, name, buffer in buffers:
            home[name] = buffer


@contextmanager
def rounded(module: nn.Module) -> Iterator[None]:
    """Weights, and whatever an operator gives, are rounded to float16 inside the block; sums are kept in float32.

    That is how float16 files are run: onnxruntime and GPUs store in half precision and accumulate in single.
    """
    stored = (*module.parameters(), *module.buffers())
    before = [(tensor, tensor.data) for tensor in stored if tensor.dtype == torch.float32]
    for tensor, values in before:
        tensor.data = values.half().float()
    try:
        with _Rounding():
            yield
    finally:
        for tensor, values in before:
            tensor.data = values


class _Rounding(TorchDispatchMode):
    """Rounds at the dispatcher, where functional calls and operators inside modules all pass."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return tree_map_only(Tensor, _round, result)


def _round(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32 or not tensor.is_contiguous():
        return tensor if tensor.dtype != torch.float32 else tensor.half().float()
    return tensor.copy_(tensor.half())
