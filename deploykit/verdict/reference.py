"""What PyTorch says: in float32 as the user runs it, and in float64 as the truth that both sides are judged by."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit.target import Network

Values = dict[str, NDArray[Any]]


class Reference:
    """The network twice, float32 and float64, in eval mode."""

    def __init__(self, network: Network) -> None:
        self.single = network.module.eval()
        self.double: nn.Module | None = None
        self.note = ""
        try:
            self.double = copy.deepcopy(self.single).double().eval()
            with torch.no_grad():
                self.double(*(_widen(spec.random(1)) for spec in network.inputs))
        except Exception as error:  # a network may insist on float32 inside; then float32 is all there is
            self.double = None
            self.note = f"no float64 reference: {type(error).__name__}; PyTorch in float32 stands in for it"

    def outputs(self, tensors: Sequence[Tensor]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """All outputs in order, as (float64, float32)."""
        with torch.no_grad():
            narrow = _arrays(self.single(*tensors))
            wide = narrow if self.double is None else _arrays(self.double(*(_widen(t) for t in tensors)))
        return wide, narrow

    def layers(self, tensors: Sequence[Tensor]) -> tuple[Values, Values]:
        """The output of every module call by path, as (float64, float32); the second call of ``fc`` is ``fc@1``."""
        narrow = _record(self.single, tensors)
        return (narrow if self.double is None else _record(self.double, [_widen(t) for t in tensors])), narrow


def _record(module: nn.Module, tensors: Sequence[Tensor]) -> Values:
    found: Values = {}
    with _recording(module, found), torch.no_grad():
        module(*tensors)
    return found


@contextmanager
def _recording(module: nn.Module, found: Values) -> Iterator[None]:
    """Keep a copy of what every module gives back; a copy, since an in-place ReLU may write over it."""
    calls: dict[str, int] = {}

    def keep(path: str, output: Any) -> None:
        count = calls.get(path, 0)
        calls[path] = count + 1
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor):
            found[f"{path}@{count}" if count else path] = first.detach().numpy().copy()

    paths = {id(child): path for path, child in module.named_modules()}
    hooks = [
        child.register_forward_hook(lambda owner, _args, output: keep(paths[id(owner)], output))
        for path, child in module.named_modules()
        if path
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _arrays(output: Any) -> list[NDArray[Any]]:
    if isinstance(output, Tensor):
        return [output.detach().numpy()]
    values = output.values() if isinstance(output, Mapping) else output
    return [np.asarray(value.detach().numpy()) for value in values]


def _widen(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.dtype.is_floating_point else tensor
