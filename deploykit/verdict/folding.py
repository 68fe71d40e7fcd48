"""BatchNorm that the exporter folded into the convolution before it: what the folded weights must be."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit.onnx_file import external_data
from deploykit.verdict.deployed import Deployed

# Folding multiplies and divides once in float32, and the bias subtracts.
TOLERANCE = 8.0 * float(np.finfo(np.float32).eps)


def expected(weight: NDArray[Any], bias: NDArray[Any] | None, norm: nn.Module) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weight w g / sqrt(v + eps), bias (b - m) g / sqrt(v + eps) + beta: BatchNorm at inference (Ioffe and Szegedy, 2015).

    weight: float64 (out_channels, ...); bias: float64 (out_channels,) or `None`.
    """
    mean, factor, shift = _affine(norm)
    start = np.zeros_like(mean) if bias is None else bias
    return weight * factor.reshape(-1, *([1] * (weight.ndim - 1))), (start - mean) * factor + shift


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


def scaled_modules(deployed: Deployed, module: nn.Module) -> frozenset[str]:
    """Paths of the modules whose weight is stored times one factor per output or input channel, as folding leaves it.

    The exporter multiplies what follows a layer or precedes it into its weight: the batch norm of a subclass or of
    `F.batch_norm`, the scale of a residual branch, the scale of an image. The layer's value then means what came of it later.
    """
    own = {f"{path}.weight": child for path, child in module.named_modules() if isinstance(getattr(child, "weight", None), Tensor)}
    found = set()
    for tensor in deployed.model.graph.initializer:
        child = own.get(tensor.name)
        if (
            child is None
            or not isinstance(child.weight, Tensor)
            or list(child.weight.shape) != list(tensor.dims)
            or len(tensor.dims) < 2
        ):
            continue
        stored, right = external_data.array(tensor, deployed.folder), child.weight.detach().numpy()
        if stored is None or np.array_equal(stored, right):
            continue
        a, b = stored.astype(np.float64), right.astype(np.float64)
        if one_factor_per_channel(a, b) or one_factor_per_channel(a.swapaxes(0, 1), b.swapaxes(0, 1)):
            found.add(tensor.name.removesuffix(".weight"))
    return frozenset(found)


def one_factor_per_channel(found: NDArray[Any], right: NDArray[Any]) -> bool:
    """Whether each part of `found` along the first axis is a multiple of the same part of `right`."""
    a, b = found.reshape(len(found), -1), right.reshape(len(right), -1)
    factors = np.sum(a * b, axis=1) / np.maximum(np.sum(b * b, axis=1), np.finfo(np.float64).tiny)
    return close(a, b * factors[:, None], 4 * TOLERANCE)
