"""Which step broke the file, and which module's output differs because of it.

Each step that could have broken the file is tried apart, in the order in which they are taken. A folded BatchNorm is told from
the convolution that it was folded into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor, nn

from deploykit.onnx_file import external_data, sessions
from deploykit.runtime.providers import name_of
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.folding import close, expected, float64_array, one_factor_per_channel
from deploykit.verdict.naming import Naming

Agrees = Callable[[Deployed, sessions.Level, str], bool]


def blamed_step(steps: Sequence[tuple[str, Deployed]], agrees: Agrees, device: str = sessions.CPU) -> str:
    """The first step after which the network is no longer the same: "export", "simplify", "precision", an optimization level
    of onnxruntime such as "optimizer:extended", or "provider:CUDAExecutionProvider".

    `steps`: (name, model after that step). `agrees(model, level, device)`: whether outputs and layers are within tolerance.
    Every step is tried without optimization on the CPU first, then the last model level by level, then the device.
    """
    for name, model in steps:
        if not agrees(model, "disabled", sessions.CPU):
            return name
    last = steps[-1][1]
    for level in sessions.LEVELS[1:]:
        if not agrees(last, level, sessions.CPU):
            return f"optimizer:{level}"
    if device != sessions.CPU and not agrees(last, "all", device):
        return f"provider:{name_of(device)}"
    return "unknown"


def culprit(deployed: Deployed, module: nn.Module, naming: Naming, path: str) -> str:
    """`path` is the first layer whose output differs. If it is a folded BatchNorm, tell it from its convolution.

    Every weight of a channel off by one factor, or the bias alone: the BatchNorm. Anything else, and also stored weights that
    are right although the output is wrong (padding, stride): the convolution.
    """
    model = deployed.model
    owners = {norm: conv for conv, norm in naming.folds.items()}
    if path not in owners or path not in naming.values:
        return path
    conv = module.get_submodule(owners[path])
    node = next(node for node in model.graph.node if naming.values[path] in node.output)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    if not isinstance(conv.weight, Tensor) or len(node.input) < 2 or node.input[1] not in stored:
        return owners[path]
    values = external_data.array(stored[node.input[1]], deployed.folder)
    if values is None:
        return owners[path]
    weight = values.astype(np.float64)
    bias_name = node.input[2] if len(node.input) > 2 else ""
    added = external_data.array(stored[bias_name], deployed.folder) if bias_name in stored else None
    norm = module.get_submodule(path)
    bias = np.zeros_like(float64_array(norm.running_mean)) if added is None else added.astype(np.float64)
    own_bias = float64_array(conv.bias)
    right_weight, right_bias = expected(float64_array(conv.weight), own_bias, norm, conv)
    if weight.shape != right_weight.shape:
        return owners[path]
    if not close(weight, right_weight):
        return path if one_factor_per_channel(weight, right_weight) else owners[path]
    if close(bias, right_bias):
        return owners[path]
    without = expected(float64_array(conv.weight), None, norm, conv)[1]
    return owners[path] if own_bias is not None and close(bias, without) else path
