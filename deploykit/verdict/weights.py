"""The stored weights beside the network's own: equal to the bit, or folded with the BatchNorm that follows."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
from torch import nn

from deploykit.onnx_file import external_data
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.folding import TOLERANCE, close, expected, float64_array
from deploykit.verdict.naming import Naming
from deploykit.verdict.result import Check


def compare_weights(
    deployed: Deployed, module: nn.Module, naming: Naming, proven: Container[str], moved: Container[str] = ()
) -> tuple[Check, str | None]:
    """Compare every tensor that still has its name and shape; gives the check and the path of the first module that differs.

    `proven`: modules whose own output was seen to be right. In a file that deploykit did not make, such a module may keep its
    weights in another form under the old name, as with a scale that some tool multiplied into them. `moved`: modules whose value
    was seen to be another one that is right, as where the exporter folded a scale into them. Tensors that the simplifier merged
    or turned have another name or shape; the layers' outputs judge those.
    """
    stored = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    model = deployed.model
    norms = naming.folds
    compared = 0
    for tensor in model.graph.initializer:
        own = stored.get(tensor.name)
        found = external_data.array(tensor, deployed.folder) if own is not None and list(own.shape) == list(tensor.dims) else None
        if found is None or tensor.name.rpartition(".")[0] in moved:
            continue
        right, tolerance = float64_array(own), 0.0
        owner, _, kind = tensor.name.rpartition(".")
        if owner in norms:
            conv = module.get_submodule(owner)
            pair = expected(float64_array(conv.weight), float64_array(conv.bias), module.get_submodule(norms[owner]))
            right, tolerance = pair[kind == "bias"], TOLERANCE
        if found.dtype == np.float16:
            tolerance = max(tolerance, float(np.finfo(np.float16).eps))
        if not close(found.astype(np.float64), right, tolerance):
            if not naming.trusted and (owner in proven or norms.get(owner) in proven):
                continue
            apart = float(np.max(np.abs(found - right))) / (float(np.max(np.abs(right))) or 1.0)
            return Check(
                "weights", False, f"{tensor.name} differs from the network's by {apart:.1e} of its scale"
            ), owner or tensor.name
        compared += 1
    return Check("weights", True, f"{compared} of {len(stored)} tensors compared with the network's own"), None
