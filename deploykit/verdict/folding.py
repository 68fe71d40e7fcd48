"""BatchNorm that the exporter folded into the convolution before it: the right folded weights, and whose fault wrong ones are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit import external_data
from deploykit.verdict.deployed import Deployed

# Folding multiplies and divides once in float32, and the bias subtracts.
TOLERANCE = 8.0 * float(np.finfo(np.float32).eps)


def folded(model: onnx.ModelProto, module: nn.Module) -> dict[str, str]:
    """Path of a convolution -> path of the BatchNorm whose output its node now gives."""
    modules = dict(module.named_modules())
    found: dict[str, str] = {}
    for node in model.graph.node:
        for output in node.output:
            if isinstance(modules.get(output), nn.modules.batchnorm._BatchNorm) and node.name != output:
                found[node.name] = output
    return found


def expected(weight: NDArray[Any], bias: NDArray[Any] | None, norm: nn.Module) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weight w g / sqrt(v + eps), bias (b - m) g / sqrt(v + eps) + beta: BatchNorm at inference (Ioffe and Szegedy, 2015).

    weight: float64 (out_channels, ...); bias: float64 (out_channels,) or `None`.
    """
    mean, factor, shift = _affine(norm)
    start = np.zeros_like(mean) if bias is None else bias
    return weight * factor.reshape(-1, *([1] * (weight.ndim - 1))), (start - mean) * factor + shift


def culprit(deployed: Deployed, module: nn.Module, path: str) -> str:
    """`path` is the first layer whose output differs. If it is a folded BatchNorm, tell it from its convolution.

    Every weight of a channel off by one factor, or the bias alone: the BatchNorm. Anything else, and also stored weights that
    are right although the output is wrong (padding, stride): the convolution.
    """
    model = deployed.model
    owners = {norm: conv for conv, norm in folded(model, module).items()}
    if path not in owners:
        return path
    conv = module.get_submodule(owners[path])
    node = next(node for node in model.graph.node if path in node.output)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    if not isinstance(conv.weight, Tensor) or len(node.input) < 2 or node.input[1] not in stored:
        return owners[path]
    values = external_data.array(stored[node.input[1]], deployed.folder)
    if values is None:
        return owners[path]
    weight = values.astype(np.float64)
    bias_name = node.input[2] if len(node.input) > 2 else ""
    added = external_data.array(stored[bias_name], deployed.folder) if bias_name in stored else None
    bias = np.zeros(len(weight)) if added is None else added.astype(np.float64)
    own_bias = wide(conv.bias)
    norm = module.get_submodule(path)
    right_weight, right_bias = expected(wide(conv.weight), own_bias, norm)
    if weight.shape != right_weight.shape:
        return owners[path]
    if not close(weight, right_weight):
        return path if _one_factor_per_channel(weight, right_weight) else owners[path]
    if close(bias, right_bias):
        return owners[path]
    without = expected(wide(conv.weight), None, norm)[1]
    return owners[path] if own_bias is not None and close(bias, without) else path


def close(found: NDArray[Any], right: NDArray[Any], tolerance: float = TOLERANCE) -> bool:
    """Whether two tensors are equal up to rounding, relative to the scale of the right one. NaN never is."""
    scale = float(np.max(np.abs(right), initial=0.0)) or 1.0
    return bool(np.max(np.abs(found - right), initial=0.0) <= tolerance * scale)


def wide(tensor: Any) -> Any:
    """A float64 array, `None` for none."""
    return tensor.detach().double().numpy() if isinstance(tensor, Tensor) else None


def _affine(norm: nn.Module) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    mean, variance, gain, shift = (wide(getattr(norm, name)) for name in ("running_mean", "running_var", "weight", "bias"))
    gain = np.ones_like(mean) if gain is None else gain
    shift = np.zeros_like(mean) if shift is None else shift
    return mean, gain / np.sqrt(variance + norm.eps), shift


def _one_factor_per_channel(found: NDArray[Any], right: NDArray[Any]) -> bool:
    """Whether each output channel of `found` is a multiple of the same channel of `right`."""
    a, b = found.reshape(len(found), -1), right.reshape(len(right), -1)
    factors = np.sum(a * b, axis=1) / np.maximum(np.sum(b * b, axis=1), np.finfo(np.float64).tiny)
    return close(a, b * factors[:, None], 4 * TOLERANCE)
