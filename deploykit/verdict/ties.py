"""Equal numbers in the order of ONNX: its TopK gives the one with the lower index first, PyTorch's topk promises no order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode

from deploykit.network import control_flow


class InOrder(TorchDispatchMode):
    """A context manager in which torch.topk takes and gives equal numbers by their index, the lower one first."""

    supports_higher_order_operators = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if isinstance(func, HigherOrderOperator):
            return control_flow.follow(self, func, args, kwargs)
        if func is not torch.ops.aten.topk.default:
            return func(*args, **kwargs)
        given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        return _largest(given["self"], given["k"], given.get("dim", -1), given.get("largest", True))


def _largest(tensor: Tensor, count: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    if not tensor.ndim:
        return tensor.clone(), torch.zeros((), dtype=torch.int64)
    values, places = torch.sort(tensor, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)
