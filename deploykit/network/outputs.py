"""What a network gives back, as a flat list: the order of the outputs of its ONNX file."""

from __future__ import annotations

import dataclasses
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
    """Those of `named`, beside the `inputs`, with which they share one name space: a `state` comes out as `state_out`.

    Raises `InputError` also for complex numbers.
    """
    tensors = named(outputs)
    require_real(tensors)
    found = list(tensors)
    for place in range(len(found)):
        while found[place] in inputs or found.count(found[place]) > 1:
            found[place] += "_out"
    return found


def arrays(outputs: Any) -> list[NDArray[Any]]:
    """The values, in the order of `named`; bfloat16, which numpy does not have, as float32."""
    return [to_numpy(tensor) for tensor in named(outputs).values()]


def require_real(tensors: Mapping[str, Tensor]) -> None:
    """Raise `InputError` for a complex output."""
    for place, (name, tensor) in enumerate(tensors.items()):
        if tensor.is_complex():
            called = f"output {place}" if name == LONE else f"output {place}, {name!r}"
            raise InputError(
                f"the network returns complex numbers ({called}), ONNX has none",
                "return torch.view_as_real(...) of them, or their abs() and angle()",
            )


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
        raise _no_tensor(value, f" in {path}" if path else "")


def _no_tensor(value: object, where: str) -> InputError:
    kind = type(value).__name__
    if dataclasses.is_dataclass(value):
        names = ", ".join(field.name for field in dataclasses.fields(value))[:200]
        problem = f"the network returns a dataclass, {kind}{where}"
        return InputError(problem, f"return a dict or a named tuple of its fields ({names})")
    if isinstance(value, (bool, int, float)):
        hint = "return it as a tensor, or leave it out"
    else:
        hint = "return a tensor, or lists and dicts of tensors"
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    return InputError(f"the network returns {article} {kind}{where}", hint)
