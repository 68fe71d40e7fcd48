"""What is said of a network that torch cannot export: the reason in one line, where it lies, and what to do about it."""

from __future__ import annotations

import re
from pathlib import Path

from deploykit.errors import ExportError, first_line
from deploykit.network.target import Network


def of_export(error: Exception, network: Network) -> ExportError:
    """Why `network` could not be exported: the first line of the innermost cause of `error`.

    Control flow on values and sizes that the network fixes itself, the faults that people meet most, get advice of their own.
    """
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


def _user_line(report: str) -> str:
    found = re.findall(r'File "([^"]+)", line (\d+), in (\w+)', report)
    mine = [(Path(f).name, line) for f, line, _ in found if "torch" not in Path(f).parts and "site-packages" not in f]
    return f"at {mine[-1][0]} line {mine[-1][1]}: " if mine else ""
