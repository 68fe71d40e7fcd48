"""Sums over many numbers, added up one after the other in float32: how far a network's answers move is what a file may lose.

A context manager at torch's dispatcher (`PlainSums`), the sums it replaces, and the operators that torch decomposes into them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode

from deploykit.network import control_flow

FEW = 16  # terms: rows of so many are added up all at once, term by term
ADDED_AT_ONCE = 1 << 20  # numbers of longer ones


class PlainSums(TorchDispatchMode):
    """Sums over many numbers are added up one after the other in float32, as onnxruntime's pooling and reductions do.

    PyTorch adds in pairs, whose error grows with the logarithm of the number of terms instead of with the number (Higham,
    Accuracy and Stability of Numerical Algorithms, chapter 4). With it alone as the measure, a mean over a large image would
    be called wrong wherever it is not computed by PyTorch. `longest`: terms of the longest sum that was met.
    `taken`: the sides of each torch.cond that were taken, by its place in the code. `operators`: names of those that were met.
    """

    supports_higher_order_operators = True

    def __init__(self, active: bool = True) -> None:
        super().__init__()
        self.active = active
        self.longest = 0
        self.taken: dict[str, set[bool]] = {}
        self.operators: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if isinstance(func, HigherOrderOperator):
            found = control_flow.branch(func, args)
            if found is not None:
                self.taken.setdefault(found[0], set()).add(found[1])
            return control_flow.follow(self, func, args, kwargs)
        name = func.overloadpacket.__name__
        self.operators.add(name)
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


def _axes(tensor: Tensor, dim: Any) -> tuple[int, ...]:
    chosen = range(tensor.ndim) if dim is None or dim == [] else [dim] if isinstance(dim, int) else dim
    return tuple(axis % tensor.ndim for axis in chosen) if tensor.ndim else ()


def _plain_sum(tensor: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    """One after the other; numpy's accumulate cannot do otherwise."""
    kept = [axis for axis in range(tensor.ndim) if axis not in axes]
    count, terms = (math.prod(tensor.shape[axis] for axis in some) for some in (kept, axes))
    total = torch.from_numpy(_added(tensor.permute(*kept, *axes).reshape(count, terms).numpy()))
    shape = [1 if axis in axes else size for axis, size in enumerate(tensor.shape)]
    return total.reshape(shape if keep else [tensor.shape[axis] for axis in kept])


def _added(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum of each row. Of long rows some at a time: accumulate keeps what it adds up to on the way."""
    count, terms = rows.shape
    if terms <= FEW:
        return np.asarray(functools.reduce(np.add, rows.T))
    total = np.empty(count, np.float32)
    at_once = max(1, ADDED_AT_ONCE // terms)
    for start in range(0, count, at_once):
        total[start : start + at_once] = np.add.accumulate(rows[start : start + at_once], axis=1, dtype=np.float32)[:, -1]
    return total


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


def _norm(tensor: Tensor, axes: tuple[int, ...], terms: int, given: dict[str, Any]) -> Tensor:
    del terms
    order, keep = float(given.get("ord", 2)), given.get("keepdim", False)
    if order not in (1.0, 2.0):
        return torch.linalg.vector_norm(tensor, order, axes, keep)
    return _plain_sum(tensor.abs(), axes, keep) if order == 1.0 else _plain_sum(tensor * tensor, axes, keep).sqrt()


def _cumsum(tensor: Tensor, axes: tuple[int, ...], terms: int, given: dict[str, Any]) -> Tensor:
    del terms, given
    return torch.from_numpy(np.add.accumulate(tensor.numpy(), axis=axes[0], dtype=np.float32))


def _decomposed(func: Any) -> Any:
    from torch._decomp import get_decompositions  # loads hundreds of modules, which few networks need

    return get_decompositions([func])[func]


# Operators of torch whose sums are long where images are large; those of the second table are written in terms of the first.
_MADE_OF_SUMS: dict[str, Callable[[Any], Any]] = dict.fromkeys(
    ("native_layer_norm", "native_group_norm", "native_batch_norm", "_native_batch_norm_legit"), _decomposed
)
_SUMS: dict[str, Callable[..., Any]] = {
    "sum": _sum, "mean": _mean, "var": _var, "std": _std, "var_mean": _var_mean, "cumsum": _cumsum,
    "linalg_vector_norm": _norm, **_MADE_OF_SUMS,
}  # fmt: skip
