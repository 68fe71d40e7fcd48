"""What a network gives back, as a flat list: the order of the outputs of its ONNX file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deploykit.errors import InputError

LONE = "logits"


def named(outputs: Any) -> dict[str, Tensor]:
    """`logits` for a single tensor; the keys of a dict, the fields of a named tuple, `output_0`, ... for a sequence.

    What lies deeper has the path to it: ``states.0.hidden``. `None` is left out, as in the file. Raises `InputError` for
    anything else than tensors, and for two of one name.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in _leaves(outputs, ""):
        if name in found:
            raise InputError(f"the network returns two outputs called {name!r}", "give its outputs different names")
        found[name] = tensor
    if not found:
        raise InputError("the network returns no tensor", "return a tensor, or lists and dicts of tensors")
    return found


def names(outputs: Any, inputs: Collection[str]) -> list[str]:
    """Those of `named`, beside the `inputs`, with which they share one name space: a `state` comes out as `state_out`."""
    found = list(named(outputs))
    for place in range(len(found)):
        while found[place] in inputs or found.count(found[place]) > 1:
            found[place] += "_out"
    return found


def arrays(outputs: Any) -> list[NDArray[Any]]:
    """The values, in the order of `named`; bfloat16, which numpy does not have, as float32."""
    return [to_numpy(tensor) for tensor in named(outputs).values()]


def to_numpy(tensor: Tensor) -> NDArray[Any]:
    """On the CPU, without gradients; shares memory with a tensor that lies there already."""
    tensor = tensor.detach().cpu()
    return np.asarray(tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy())


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path or LONE, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        fields = getattr(value, "_fields", None) or range(len(value))
        for key, inner in zip(fields, value, strict=True):
            start = key if isinstance(key, str) else f"output_{key}"
            yield from _leaves(inner, f"{path}.{key}" if path else start)
    elif value is not None:
        raise InputError(
            f"the network returns a {type(value).__name__}{f' in {path}' if path else ''}",
            "return a tensor, or lists and dicts of tensors",
        )
