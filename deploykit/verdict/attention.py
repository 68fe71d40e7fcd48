"""Attention that has nothing to attend to: PyTorch gives zeros there, ONNX's definition NaN, onnxruntime a mean over everything.

A decoder meets it at every place before the first one in a mask, as in a batch that is padded on the left. Nobody reads what comes
out at such a place, so that a difference there is none of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode

from deploykit.network import control_flow

_SOFTMAX = frozenset({"_safe_softmax", "_softmax"})


class Attending(TorchDispatchMode):
    """`to_nothing`: whether some row of an attention within the block, in PyTorch, was hidden as a whole."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.to_nothing = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if isinstance(func, HigherOrderOperator):
            return control_flow.follow(self, func, args, kwargs)
        scores = _scores(func, args, kwargs)
        if scores is not None and scores.ndim and scores.shape[-1]:
            self.to_nothing = self.to_nothing or bool((scores == -torch.inf).all(dim=-1).any())
        return func(*args, **kwargs)


def _scores(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Tensor | None:
    """What hides with -inf: the numbers that a softmax is taken of, or what is added to them; `None` for other operators."""
    name = func.overloadpacket.__name__
    if name in _SOFTMAX:
        found = args[0]
    elif "scaled_dot_product" in name:
        given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | dict(kwargs)
        found = given.get("attn_mask", given.get("attn_bias"))
    else:
        return None
    return found if isinstance(found, Tensor) and found.dtype.is_floating_point else None
