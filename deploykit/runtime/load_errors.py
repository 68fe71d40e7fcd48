"""What onnxruntime says when it cannot load a model -> what is wrong and what helps, for a message in one line.

onnxruntime 1.31 marks its errors with a status, such as NOT_IMPLEMENTED; what the status leaves open is read from its text.
"""

from __future__ import annotations

import re

import onnxruntime

_OPSET = re.compile(r"Opset (\d+) is under development.*?support for domain (\S+) is till opset (\d+)", re.DOTALL)
_IR = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_KERNEL = re.compile(r"Could not find an implementation for (\S+) node with name '(.*?)'")
_OPERATOR = re.compile(r"No Op registered for (\S+) with domain_version of (\d+)|error: (\S+?)\(-?\d+\) is not a registered")
_NOT_WHOLE = ("INVALID_PROTOBUF", "NO_MODEL")
_NOT_VALID = ("INVALID_GRAPH", "INVALID_ARGUMENT")
UPDATE = "update onnxruntime"


def explain(status: str, text: str, short: str) -> tuple[str, str]:
    """An error's status and whole text -> (what is wrong, what to do); `short` is what is said where neither tells more."""
    engine = f"onnxruntime {onnxruntime.__version__}"
    if found := _OPSET.search(text):
        has, domain, most = found.groups()
        return f"it has opset {has} of {domain}, {engine} runs at most {most}", f"export it with opset {most}, or {UPDATE}"
    if found := _IR.search(text):
        has, most = found.groups()
        return f"it has IR version {has}, {engine} reads at most {most}", f"write it with an older onnx, or {UPDATE}"
    if found := _KERNEL.search(text):
        node = f" (node {found[2]!r:.80})" if found[2] else ""
        return f"{engine} has no kernel for {found[1]:.80}{node} with these types", f"cast its inputs to float32, or {UPDATE}"
    if found := _OPERATOR.search(text):
        name = found[3] or f"{found[1]} of opset {found[2]}"
        return f"{engine} does not know the operator {name:.80}", f"export it without that operator, or {UPDATE}"
    if status in _NOT_WHOLE or "No graph was found in the protobuf" in text:
        return short, "is it a whole ONNX file?"
    if status in _NOT_VALID:
        return short, "the graph is not valid ONNX: export it again"
    return short, f"export it again, or {UPDATE}"
