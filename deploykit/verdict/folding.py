"""BatchNorm that the exporter folded into the convolution before it: what the folded weights must be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit.onnx_file import external_data
from deploykit.verdict.deployed import Deployed

MULTIPLYING = ("Conv", "ConvTranspose", "MatMul", "Gemm")
# Folding multiplies and divides once in float32, and the bias subtracts.
TOLERANCE = 8.0 * float(np.finfo(np.float32).eps)


def expected(
    weight: NDArray[Any], bias: NDArray[Any] | None, norm: nn.Module, layer: nn.Module | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weight w g / sqrt(v + eps), bias (b - m) g / sqrt(v + eps) + beta: BatchNorm at inference (Ioffe and Szegedy, 2015).

    weight: float64 (out_channels, ...), or (in_channels, out_channels / groups, ...) of a transposed convolution, which `layer`
    says; bias: float64 (out_channels,) or `None`.
    """
    mean, factor, shift = _affine(norm)
    start = np.zeros_like(mean) if bias is None else bias
    if isinstance(layer, nn.modules.conv._ConvTransposeNd):
        per_group = factor.reshape(layer.groups, 1, -1).repeat(len(weight) // layer.groups, axis=1)
        factors = per_group.reshape(len(weight), -1, *([1] * (weight.ndim - 2)))
    else:
        factors = factor.reshape(-1, *([1] * (weight.ndim - 1)))
    return weight * factors, (start - mean) * factor + shift


def channels(weight: NDArray[Any], layer: nn.Module) -> int:
    """How many channels come out of a layer with that weight."""
    return weight.shape[1] * layer.groups if isinstance(layer, nn.modules.conv._ConvTransposeNd) else len(weight)


def close(found: NDArray[Any], right: NDArray[Any], tolerance: float = TOLERANCE) -> bool:
    """Whether two tensors are equal up to rounding, relative to the scale of the right one. NaN never is."""
    scale = float(np.max(np.abs(right), initial=0.0)) or 1.0
    return bool(np.max(np.abs(found - right), initial=0.0) <= tolerance * scale)


def float64_array(tensor: Any) -> Any:
    """A float64 array, `None` for none."""
    return tensor.detach().double().numpy() if isinstance(tensor, Tensor) else None


def _affine(norm: nn.Module) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    mean, variance, gain, shift = (float64_array(getattr(norm, name)) for name in ("running_mean", "running_var", "weight", "bias"))
    gain = np.ones_like(mean) if gain is None else gain
    shift = np.zeros_like(mean) if shift is None else shift
    return mean, gain / np.sqrt(variance + norm.eps), shift


def scaled_modules(deployed: Deployed, module: nn.Module, folds: Mapping[str, str]) -> frozenset[str]:
    """Paths of the modules whose weight is stored times one factor per output or input channel, as folding leaves it.

    The exporter multiplies what follows a layer or precedes it into its weight: the batch norm of a subclass or of
    `F.batch_norm`, the scale of a residual branch, the scale of an image. The layer's value then means what came of it later.
    Of a convolution that holds the BatchNorm behind it, see `folds` of `Naming`, only what is multiplied in beside that counts.
    """
    weights = {path: each.weight for path, each in module.named_modules() if isinstance(getattr(each, "weight", None), Tensor)}
    stored_as = {tensor.name: tensor for tensor in deployed.model.graph.initializer}
    found = set()
    for path, name in _weights_of_modules(deployed, weights):
        tensor, right = stored_as[name], weights[path].detach().double().numpy()
        if right.ndim < 2 or sorted(right.shape) != sorted(tensor.dims):
            continue
        array = external_data.array(tensor, deployed.folder)
        if array is None:
            continue
        stored = array.astype(np.float64)
        if path in folds and _holds(stored, right, module.get_submodule(folds[path]), module.get_submodule(path)):
            continue
        if any(_is_scaled(stored, each) for each in (right, right.swapaxes(0, 1))):
            found.add(path)
    return frozenset(found)


def _weights_of_modules(deployed: Deployed, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """The path of a module, and the name of a stored tensor that may be its weight.

    That is one called so, or the second operand of a node of the module: what multiplies a weight gives the product another name.
    """
    graph = deployed.model.graph
    names = [tensor.name for tensor in graph.initializer]
    yield from ((name.removesuffix(".weight"), name) for name in names if name.removesuffix(".weight") in known)
    others = {name for name in names if name.removesuffix(".weight") not in known}
    for node in graph.node:
        path = node.name.split("/")[0].split("@")[0]
        if path in known and node.op_type in MULTIPLYING and len(node.input) > 1 and node.input[1] in others:
            yield path, node.input[1]


def _holds(stored: NDArray[Any], right: NDArray[Any], norm: nn.Module, layer: nn.Module) -> bool:
    """Whether a convolution's weight is stored with the BatchNorm behind it, and with nothing else."""
    return stored.shape == right.shape and close(stored, expected(right, None, norm, layer)[0])


def _is_scaled(stored: NDArray[Any], right: NDArray[Any]) -> bool:
    """Whether `stored` is `right` but for a factor per row or per column, and not `right` itself."""
    if stored.shape != right.shape or np.array_equal(stored, right):
        return False
    return one_factor_per_channel(stored, right) or one_factor_per_channel(stored.swapaxes(0, 1), right.swapaxes(0, 1))


def one_factor_per_channel(found: NDArray[Any], right: NDArray[Any]) -> bool:
    """Whether each part of `found` along the first axis is a multiple of the same part of `right`."""
    a, b = found.reshape(len(found), -1), right.reshape(len(right), -1)
    factors = np.sum(a * b, axis=1) / np.maximum(np.sum(b * b, axis=1), np.finfo(np.float64).tiny)
    return close(a, b * factors[:, None], 4 * TOLERANCE)
