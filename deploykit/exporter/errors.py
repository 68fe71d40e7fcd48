"""What is said of a network that torch cannot export: the reason in one line, where it lies, and what to do about it."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence

from deploykit.errors import ExportError, InputError, first_line
from deploykit.network.input_specs import examples_or_zeros
from deploykit.network.running import run
from deploykit.network.target import Network


def of_export(error: Exception, network: Network) -> ExportError:
    """Why `network` could not be exported: the first line of the innermost cause of `error`.

    Control flow on values and sizes that the network fixes itself, the faults that people meet most, get advice of their own.
    """
    packed, scripted = _packing(network), _scripted(network.module)
    if packed is not None:
        where = f" in {packed!r}" if packed else ""
        return ExportError(
            f"{network.target} uses packed sequences (pack_padded_sequence){where}, which torch's exporter cannot write",
            "give padded tensors to the layer, and set what lies behind the lengths to zero with torch.where",
        )
    if scripted:
        return ExportError(
            f"{network.target} cannot be exported to ONNX: its layer {scripted!r} is a TorchScript module",
            "use the module that it was made from",
        )
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    text = f"{type(cause).__name__}: {first_line(cause)}"
    hint = "see --debug for torch's own report"
    whole = f"{error} {cause}"
    if "data-dependent" in whole or "GuardOnDataDependent" in whole or "Eq(" in text:
        line = _user_line(whole)
        hint = f"{line}use torch.where, torch.cond or torch.while_loop instead of Python's if and while on tensor values"
    elif "Unsupported attribute type" in text and "SymbolicTensor" in text:
        hint = (
            "a number of groups, a kernel, a stride or the like follows from an open size, and ONNX fixes those: leave that axis "
            "out of --dynamic"
        )
    elif (unknown := re.search(r"No ONNX function found for <OpOverload\(op='([\w.]+)'", text)) is not None:
        text = f"torch.onnx knows no ONNX operators for {unknown[1]}"
        hint = _instead(network.module)
    elif "Constraints violated" in whole or "specialized" in whole:
        hint = "the network fixes that size itself; leave it out of --dynamic, or write the forward pass without int() on sizes"
    return ExportError(f"{network.target} cannot be exported to ONNX ({text[:300]})", hint)


def _instead(module: nn.Module) -> str:
    """What to do about an operator that cannot be written."""
    if any(isinstance(child, parametrize.ParametrizationList) for child in module.modules()):
        return "if a parametrization uses it, remove_parametrizations(layer, name) of torch.nn.utils.parametrize keeps the weight"
    return "write it with other operators, of which ONNX has a form"


def _packing(network: Network) -> str | None:
    """The path of the first layer that is given a packed sequence, `None` where there is none."""
    found: list[str] = []

    def look(path: str, args: tuple[object, ...]) -> None:
        if any(isinstance(value, PackedSequence) for value in args):
            found.append(path)

    layers = [(path, child) for path, child in network.module.named_modules() if isinstance(child, nn.RNNBase)]
    if not layers:
        return None
    hooks = [child.register_forward_pre_hook(lambda _, args, path=path: look(path, args)) for path, child in layers]
    try:
        run(network.module, examples_or_zeros(network.inputs))
    except InputError:
        return None
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _scripted(module: nn.Module) -> str:
    """The path of the first part that is TorchScript; empty where there is none."""
    return next((path for path, child in module.named_modules() if path and isinstance(child, torch.jit.ScriptModule)), "")


def _user_line(report: str) -> str:
    found = re.findall(r'File "([^"]+)", line (\d+), in (\w+)', report)
    mine = [(Path(f).name, line) for f, line, _ in found if "torch" not in Path(f).parts and "site-packages" not in f]
    return f"at {mine[-1][0]} line {mine[-1][1]}: " if mine else ""
