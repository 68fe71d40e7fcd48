"""A network in float64 for as long as a block lasts: its answers there are what float32 answers and files are judged by.

In place, so that a large network is never in memory twice; the weights come back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode

from deploykit.network import control_flow

_NARROW = (torch.float32, torch.float16, torch.bfloat16)

# Layers whose weights are most of a large network. Exactly these types: who derives from them may use the weights elsewhere.
_HEAVY = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@contextmanager
def widened(module: nn.Module, sparing: bool = True) -> Iterator[None]:
    """Every floating parameter and buffer is float64 inside the block. Widening and narrowing back loses nothing.

    `sparing`: the weights of convolutions and linear layers are float64 only while their layer runs, so that a large network
    is never in memory in float64 as a whole. A network that uses such weights outside their layer raises of mixed types then.
    """
    heavy = _heavy(module) if sparing else []
    apart = {id(parameter) for layer in heavy for parameter in layer.parameters(recurse=False)}
    light = [(p, p.dtype) for p in module.parameters() if id(p) not in apart and p.dtype.is_floating_point]
    buffers = [(owner._buffers, name, buffer) for owner in module.modules() for name, buffer in owner._buffers.items()]
    usual = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, usual)
        torch.set_default_dtype(torch.float64)
        for parameter, dtype in light:
            stack.callback(_set_dtype, parameter, dtype)
            parameter.data = parameter.data.double()
        for home, name, buffer in buffers:
            stack.callback(home.__setitem__, name, buffer)
            home[name] = buffer.double() if buffer is not None and buffer.dtype.is_floating_point else buffer
        for layer in heavy:
            for hook in _while_it_runs(layer):
                stack.callback(hook.remove)
        with _Widening():
            yield


def _set_dtype(parameter: nn.Parameter, dtype: torch.dtype) -> None:
    parameter.data = parameter.data.to(dtype)


class _Widening(TorchDispatchMode):
    """What the network itself makes or turns into a narrower type, such as ``x.float()`` of bytes, is float64."""

    supports_higher_order_operators = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        if isinstance(func, HigherOrderOperator):
            return control_flow.follow(self, func, args, kwargs or {})
        return func(*map(_wide, args), **{key: _wide(value) for key, value in (kwargs or {}).items()})


def _wide(value: Any) -> Any:
    """Float64 for a narrower floating type, and anything else as it is."""
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


def _heavy(module: nn.Module) -> list[nn.Module]:
    """Layers that alone own their weights: a tied weight is used elsewhere too."""
    owned = [(type(child) in _HEAVY, child, list(child.parameters(recurse=False))) for child in module.modules()]
    shared = {id(parameter) for is_heavy, _, parameters in owned if not is_heavy for parameter in parameters}
    return [child for is_heavy, child, parameters in owned if is_heavy and not shared & {id(p) for p in parameters}]


def _while_it_runs(layer: nn.Module) -> tuple[Any, Any]:
    """Hooks that widen a layer's weights before it runs and put the old ones back after it, also where it raises."""
    kept: list[tuple[nn.Parameter, Tensor]] = []

    def widen(*_: Any) -> None:
        for parameter in layer.parameters(recurse=False):
            kept.append((parameter, parameter.data))
            parameter.data = parameter.data.double()

    def narrow(*_: Any) -> None:
        while kept:
            parameter, values = kept.pop()
            parameter.data = values

    return layer.register_forward_pre_hook(widen), layer.register_forward_hook(narrow, always_call=True)
