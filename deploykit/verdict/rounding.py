"""A network rounded to float16 for as long as a block lasts: how far its answers move is what a float16 file may lose.

In place, so that a large network is never in memory twice; the weights come back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from deploykit.network import control_flow


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

    supports_higher_order_operators = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if isinstance(func, HigherOrderOperator):
            return control_flow.follow(self, func, args, kwargs or {})
        result = func(*args, **(kwargs or {}))
        return tree_map_only(Tensor, _round, result)


def _round(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32 or not tensor.is_contiguous():
        return tensor if tensor.dtype != torch.float32 else tensor.half().float()
    return tensor.copy_(tensor.half())
