"""A network in another arithmetic, for as long as a block lasts: float64 as the truth, float16 and plain sums as what may be lost.

All work in place, so that a large network is never in memory twice, and give the weights back bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

Precision = Literal["fp32", "fp16"]


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
    """What the network itself makes or turns into float32, such as ``x.float()`` of bytes, is float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        wide = {key: torch.float64 if value is torch.float32 else value for key, value in (kwargs or {}).items()}
        return func(*(torch.float64 if value is torch.float32 else value for value in args), **wide)


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


class PlainSums(TorchDispatchMode):
    """Sums over many numbers are added up one after the other in float32, as onnxruntime's pooling and reductions do.

    PyTorch adds in pairs, whose error grows with the logarithm of the number of terms instead of with the number (Higham,
    Accuracy and Stability of Numerical Algorithms, chapter 4). With it alone as the measure, a mean over a large image would
    be called wrong wherever it is not computed by PyTorch. `longest`: terms of the longest sum that was met.
    """

    def __init__(self, active: bool = True) -> None:
        super().__init__()
        self.active = active
        self.longest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        if name not in _SUMS or not isinstance(args[0], Tensor) or args[0].dtype != torch.float32:
            return func(*args, **kwargs)
        if name in _MADE_OF_SUMS:
            with self:
                return _MADE_OF_SUMS[name](func)(*args, **kwargs)
        given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        axes = _axes(args[0], given.get("dim"))
        terms = math.prod(args[0].shape[axis] for axis in axes)
        self.longest = max(self.longest, terms)
        return _SUMS[name](args[0], axes, terms, given) if self.active and terms > 1 else func(*args, **kwargs)


class _Rounding(TorchDispatchMode):
    """Rounds at the dispatcher, where functional calls and operators inside modules all pass."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        return tree_map_only(Tensor, _round, result)


def _round(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32 or not tensor.is_contiguous():
        return tensor if tensor.dtype != torch.float32 else tensor.half().float()
    return tensor.copy_(tensor.half())


def _axes(tensor: Tensor, dim: Any) -> tuple[int, ...]:
    chosen = range(tensor.ndim) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    return tuple(axis % tensor.ndim for axis in chosen) if tensor.ndim else ()


def _plain_sum(tensor: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """One after the other; numpy's accumulate cannot do otherwise."""
    kept = [axis for axis in range(tensor.ndim) if axis not in axes]
    rows = tensor.permute(*kept, *axes).reshape(math.prod(tensor.shape[axis] for axis in kept), -1)
    total = torch.stack([torch.from_numpy(np.add.accumulate(row.numpy(), dtype=np.float32)[-1:]) for row in rows]).flatten()
    shape = [1 if axis in axes else size for axis, size in enumerate(tensor.shape)]
    return total.reshape(shape if keep else [tensor.shape[axis] for axis in kept])


def _sum(tensor: Tensor, axes: tuple[int, ...], terms: int, given: dict[str, Any]) -> Tensor:
    del terms
    return _plain_sum(tensor, axes, given.get("keepdim", False))


def _mean(tensor: Tensor, axes: tuple[int, ...], terms: int, given: dict[str, Any]) -> Tensor:
    return _plain_sum(tensor, axes, given.get("keepdim", False)) / terms


def _var_mean(tensor: Tensor, axes: tuple[int, ...], terms: int, given: dict[str, Any]) -> tuple[Tensor, Tensor]:
    correction = given.get("correction", int(given.get("unbiased", True)))
    mean = _plain_sum(tensor, axes, True) / terms
    squares = _plain_sum((tensor - mean) ** 2, axes, True) / (terms - (1 if correction is None else correction))
    return (squares, mean) if given.get("keepdim", False) else (squares.squeeze(axes), mean.squeeze(axes))


def _var(tensor: Tensor, axes: tuple[int, ...], terms: int, given: dict[str, Any]) -> Tensor:
    return _var_mean(tensor, axes, terms, given)[0]


def _std(tensor: Tensor, axes: tuple[int, ...], terms: int, given: dict[str, Any]) -> Tensor:
    return _var(tensor, axes, terms, given).sqrt()


def _decomposed(func: Any) -> Any:
    from torch._decomp import get_decompositions  # loads hundreds of modules, which few networks need

    return get_decompositions([func])[func]


# Operators of torch whose sums are long where images are large; those of the second table are written in terms of the first.
_MADE_OF_SUMS: dict[str, Callable[[Any], Any]] = dict.fromkeys(
    ("native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit"), _decomposed
)
_SUMS: dict[str, Callable[..., Any]] = {
    "sum": _sum, "mean": _mean, "var": _var, "std": _std, "var_mean": _var_mean, **_MADE_OF_SUMS,
}  # fmt: skip
