"""Which value of a graph is which module's output? Files of deploykit say so by name; other files are read for what they tell.

- torch.onnx (dynamo) writes the module path into every node's metadata, under ``pkg.torch.onnx.name_scopes``.
- The older TorchScript exporter calls a node by the modules around it: ``/layer1/layer1.0/conv1/Conv``.
- Whatever else has a value called like a module may mean it.

Only modules without children are looked for in such files, and what is found there is a guess: see `Naming.trusted`.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from torch import nn

from deploykit import onnx_file
from deploykit.onnx_file import external_data
from deploykit.onnx_file.walk import SCOPES
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.folding import expected, float64_array

Convolution = nn.modules.conv._ConvNd
BatchNorm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Naming:
    """`values`: module path -> the value that is its output. `trusted`: whether the file was made to say so.

    `folds`: path of a convolution -> path of the BatchNorm whose output the convolution's node now gives. `suspects`: values of
    two files that may mean different things under one name, see `moved_names`.
    """

    values: Mapping[str, str]
    trusted: bool
    folds: Mapping[str, str] = field(default_factory=dict)
    suspects: frozenset[str] = frozenset()


def name_layers(deployed: Deployed, module: nn.Module) -> Naming:
    """Find the outputs of the modules among the values of the graph."""
    model = deployed.model
    modules = dict(module.named_modules())
    by_path = onnx_file.has_contract(model) or _named_by_path(model, modules)
    if by_path:
        folds = {
            node.name: value
            for node in model.graph.node
            for value in node.output
            if isinstance(modules.get(value), BatchNorm) and node.name != value and node.name in modules
        }
        return Naming({name: name for name in deployed.values()}, True, folds)
    return _guessed(deployed, modules)


def _guessed(deployed: Deployed, modules: Mapping[str, nn.Module]) -> Naming:
    """From what the nodes tell, or else the names of values; the last node of a module gives its output."""
    nodes = deployed.model.graph.node
    told = [_told(node) for node in nodes]
    inner = set(deployed.values())
    values = {} if any(told) else {name: name for name in inner if name in modules}
    folds: dict[str, str] = {}
    norms = {path: m for path, m in modules.items() if isinstance(m, BatchNorm)}
    # A norm with a node of its own is folded nowhere.
    whole = {_owner(node, path, modules) for node, path in zip(nodes, told, strict=True) if node.op_type == "BatchNormalization"}
    folded = {path: norm for path, norm in norms.items() if path not in whole}
    for node, path in zip(nodes, told, strict=True):
        name = path
        if node.op_type in ("Conv", "ConvTranspose"):
            owner = _owner(node, path, modules)
            conv = modules.get(owner)
            if isinstance(conv, Convolution):
                norm = path if path in norms else _nearest(deployed, node, conv, folded)
                if norm:
                    folds[owner] = name = norm
        if path in modules and not list(modules[path].children()) and node.output and node.output[0] in inner:
            values[name] = node.output[0]
    return Naming(values, False, folds)


def _owner(node: onnx.NodeProto, told: str, modules: Mapping[str, nn.Module]) -> str:
    """The path of the module that owns a node's weight: by the weight's name, or by what the node tells."""
    weight = node.input[1] if len(node.input) > 1 else ""
    return next((path for path in (weight.rpartition(".")[0], told) if path and path in modules), "")


def _nearest(deployed: Deployed, node: onnx.NodeProto, conv: nn.Module, norms: Mapping[str, nn.Module]) -> str:
    """The norm that explains a node's stored weight best; empty where the convolution's own weight does."""
    stored = next((t for t in deployed.model.graph.initializer if len(node.input) > 1 and t.name == node.input[1]), None)
    values = None if stored is None else external_data.array(stored, deployed.folder)
    own = float64_array(conv.weight)
    if values is None or values.shape != own.shape:
        return ""
    found = values.astype(np.float64)
    best, nearest = "", float(np.linalg.norm(found - own))
    for path, norm in norms.items():
        if norm.num_features != len(own) or norm.running_mean is None:
            continue
        distance = float(np.linalg.norm(found - expected(own, None, norm)[0]))
        if distance < nearest:
            best, nearest = path, distance
    return best


def _named_by_path(model: onnx.ModelProto, modules: Container[str]) -> bool:
    """Whether the nodes are called by module path, as `onnx_names` calls them."""
    heads = {node.name.split("/")[0].split("@")[0] for node in model.graph.node}
    return heads != {""} and bool(heads) and all(head in modules for head in heads)


def _told(node: onnx.NodeProto) -> str:
    """The module path that a node's metadata or name tells; empty for none."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            try:
                scopes = ast.literal_eval(entry.value)
                return str(scopes[-2]) if len(scopes) > 1 else ""
            except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
                return ""
    if not node.name.startswith("/"):
        return ""
    path = ""
    for part in node.name.split("/")[1:-1]:
        path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
    return path
