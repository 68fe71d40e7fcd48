"""Whose fault is it that a layer's output differs? A folded BatchNorm's is told from its convolution's."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from deploykit.onnx_file import external_data
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.folding import close, expected, one_factor_per_channel, wide
from deploykit.verdict.naming import Naming


def culprit(deployed: Deployed, module: nn.Module, naming: Naming, path: str) -> str:
    """`path` is the first layer whose output differs. If it is a folded BatchNorm, tell it from its convolution.

    Every weight of a channel off by one factor, or the bias alone: the BatchNorm. Anything else, and also stored weights that
    are right although the output is wrong (padding, stride): the convolution.
    """
    model = deployed.model
    owners = {norm: conv for conv, norm in naming.folds.items()}
    if path not in owners:
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
    bias = np.zeros(len(weight)) if added is None else added.astype(np.float64)
    own_bias = wide(conv.bias)
    norm = module.get_submodule(path)
    right_weight, right_bias = expected(wide(conv.weight), own_bias, norm)
    if weight.shape != right_weight.shape:
        return owners[path]
    if not close(weight, right_weight):
        return path if one_factor_per_channel(weight, right_weight) else owners[path]
    if close(bias, right_bias):
        return owners[path]
    without = expected(wide(conv.weight), None, norm)[1]
    return owners[path] if own_bias is not None and close(bias, without) else path
