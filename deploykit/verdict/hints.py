"""What to do about a file that is not legal: torch's exporter makes some of them, and the checker's words are about the graph."""

from __future__ import annotations

import re
from dataclasses import replace

import torch
from torch import nn

from deploykit.verdict.result import Check


def explained(check: Check, module: nn.Module | None) -> Check:
    """A failed check with what is known to cause it and what helps in front of the checker's own words; else the check as it is.

    `module`: the network that the file was made from.
    """
    if check.passed or module is None:
        return check
    why = _projected(check.detail, module) or _squeezed(check.detail) or _half(check.detail, module)
    return replace(check, detail=f"{why} ({check.detail})") if why else check


def _squeezed(detail: str) -> str:
    """Torch gives the squeezed axis up, the exporter keeps it where its size is open."""
    if "op_type:Squeeze" not in detail or "rank" not in detail:
        return ""
    return "squeeze() of an axis that is declared open: drop the squeeze, or leave that axis out of --dynamic"


def _projected(detail: str, module: nn.Module) -> str:
    """ONNX has no LSTM with a projection, and torch's replacement for it is no legal graph."""
    node = re.search(r"node name: ([^)]*)\)", detail)
    for path, child in module.named_modules():
        inside = node is None or not path or node[1].split("/")[0] == path
        if isinstance(child, nn.LSTM) and child.proj_size and inside:
            return f"layer {path!r}: an LSTM with proj_size cannot be exported; project its output with a linear layer instead"
    return ""


def _half(detail: str, module: nn.Module) -> str:
    """Onnxruntime has few kernels for bfloat16 on the CPU."""
    if "no kernel for" not in detail:
        return ""
    if not any(tensor.dtype == torch.bfloat16 for tensor in module.state_dict().values()):
        return ""
    return "its weights are bfloat16, for which onnxruntime has no kernel here: export module.float()"
