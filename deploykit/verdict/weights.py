"""The stored weights beside the network's own: equal to the bit, or in a form that folding leaves."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit.onnx_file import external_data
from deploykit.verdict import twins
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.folding import TOLERANCE, close, expected, float64_array, one_factor_per_channel
from deploykit.verdict.naming import Naming
from deploykit.verdict.result import Check


def compare_weights(
    deployed: Deployed, module: nn.Module, naming: Naming, proven: Container[str], moved: Container[str] = ()
) -> tuple[Check, str | None]:
    """Compare every tensor with the network's own; gives the check and the path of the first module that differs.

    1. A tensor that still has its name and shape must be equal, or folded with the BatchNorm that follows.
    2. In a file that deploykit did not make, a module whose own output was seen to be right (`proven`) may keep its weights in
       another form under the old name, as with a scale that some tool multiplied into them; see `_in_another_form`.
    3. Tensors under other names are recognized by their numbers, see `twins`.

    `moved`: modules whose value was seen to be another one that is right, as where the exporter folded a scale into them. Tensors
    that the simplifier merged have another shape; the layers' outputs judge those.
    """
    stored = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    compared = 0
    renamed: dict[str, NDArray[Any]] = {}
    met: set[int] = set()
    for tensor in deployed.model.graph.initializer:
        found = external_data.array(tensor, deployed.folder)
        own = stored.get(tensor.name)
        if found is None:
            continue
        if own is None or own.shape != found.shape:
            renamed[tensor.name] = found
            continue
        met.add(id(own))
        owner = tensor.name.rpartition(".")[0]
        if owner in moved or naming.folds.get(owner) in moved:
            continue
        apart = _apart(tensor.name, found, own, module, naming, proven)
        if apart is None:
            continue
        if apart:
            return Check(
                "weights", False, f"{tensor.name} differs from the network's by {apart:.1e} of its scale"
            ), owner or tensor.name
        compared += 1
    equal, changed = twins.compare(renamed, {name: _array(own) for name, own in stored.items() if id(own) not in met})
    if changed is not None:
        return Check("weights", False, changed.told("the network's")), changed.own.rpartition(".")[0] or changed.own
    return Check("weights", True, f"{compared + equal} of {len(stored)} tensors compared with the network's own"), None


def _apart(name: str, found: NDArray[Any], own: Tensor, module: nn.Module, naming: Naming, proven: Container[str]) -> float | None:
    """How far a stored tensor is from the network's, of its scale; 0 for equal, `None` where it says nothing (step 2)."""
    owner, _, kind = name.rpartition(".")
    if owner not in naming.folds and _is_equal(found, own):  # most are, and float64 copies of all cost more than a run
        return 0.0
    right, tolerance = float64_array(own), 0.0
    if owner in naming.folds:
        conv = module.get_submodule(owner)
        pair = expected(float64_array(conv.weight), float64_array(conv.bias), module.get_submodule(naming.folds[owner]), conv)
        right, tolerance = pair[kind == "bias"], TOLERANCE
    if found.dtype == np.float16:
        tolerance = max(tolerance, float(np.finfo(np.float16).eps))
    stored = found.astype(np.float64)
    if close(stored, right, tolerance):
        return 0.0
    is_proven = not naming.trusted and (owner in proven or naming.folds.get(owner) in proven)
    if is_proven and _in_another_form(stored, right, module.get_submodule(owner)):
        return None
    return float(np.max(np.abs(stored - right))) / (float(np.max(np.abs(right))) or 1.0)


def _is_equal(found: NDArray[Any], own: Tensor) -> bool:
    """Whether a stored tensor has the network's type and values. NaN never is equal."""
    return own.dtype != torch.bfloat16 and found.dtype == _array(own).dtype and np.array_equal(found, _array(own))


def _array(own: Tensor) -> NDArray[Any]:
    found: NDArray[Any] = (own.detach().float() if own.dtype == torch.bfloat16 else own.detach()).numpy()
    return found


def _in_another_form(found: NDArray[Any], right: NDArray[Any], module: nn.Module) -> bool:
    """Whether what differs can be what folding makes of a weight: one factor per channel, out or in, or a turned matrix.

    Vectors are taken as they are: every element of one has a part in the output that was seen to be right. Rows of a table have
    not, and are never folded.
    """
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return False
    if right.ndim < 2:
        return True
    turned = [right] + ([right.T] if right.ndim == 2 and right.shape[0] == right.shape[1] else [])
    return any(
        one_factor_per_channel(found, each) or one_factor_per_channel(found.swapaxes(0, 1), each.swapaxes(0, 1)) for each in turned
    )
