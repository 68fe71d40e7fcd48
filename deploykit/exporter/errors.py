"""What went wrong when a network was tried or exported, in one line: where, why, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.errors import ExportError, InputError, first_line
from deploykit.network.target import Network


def of_inputs(error: Exception, network: Network, inputs: Sequence[Tensor]) -> InputError:
    """For a network that raised `error` when it was given `inputs`: names the layer."""
    shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in inputs)
    where = _failing_module(network.module, inputs)
    at = f" at layer {where!r}" if where else ""
    problem = f"{network.target} cannot take an input of {shapes}{at}: {str(error).strip() or type(error).__name__}"
    return InputError(problem, "choose another --input-shape or --input-dtype")


def of_export(error: Exception, network: Network) -> ExportError:
    """The first line of the innermost cause; control flow on values is the fault that people meet most."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = f"{type(cause).__name__}: {first_line(cause)}"
    hint = "see --debug for torch's own report"
    whole = f"{error} {cause}"
    if "data-dependent" in whole or "GuardOnDataDependent" in whole or "Eq(" in text:
        line = _user_line(whole)
        hint = f"{line}use torch.where, torch.cond or torch.while_loop instead of Python's if and while on tensor values"
    elif "Constraints violated" in whole or "specialized" in whole:
        hint = "the network fixes that size itself; leave it out of --dynamic, or write the forward pass without int() on sizes"
    return ExportError(f"{network.target} cannot be exported to ONNX ({text[:300]})", hint)


def _failing_module(module: nn.Module, inputs: Sequence[Tensor]) -> str:
    """The path of the innermost module whose forward raised."""
    entered: list[str] = []

    def leave(*_: Any) -> None:
        entered.pop()  # a hook that gives something back would replace the module's output

    hooks = []
    for path, child in module.named_modules():
        hooks.append(child.register_forward_pre_hook(lambda *_, path=path: entered.append(path)))
        hooks.append(child.register_forward_hook(leave))
    try:
        with torch.no_grad():
            module(*inputs)
    except Exception:
        return entered[-1] if entered else ""
    finally:
        for hook in hooks:
            hook.remove()
    return ""


def _user_line(report: str) -> str:
    found = re.findall(r'File "([^"]+)", line (\d+), in (\w+)', report)
    mine = [(Path(f).name, line) for f, line, _ in found if "torch" not in Path(f).parts and "site-packages" not in f]
    return f"at {mine[-1][0]} line {mine[-1][1]}: " if mine else ""
