"""Which value of a graph is which module's output? Files of deploykit say so by name; other files are read for what they tell.

- torch.onnx (dynamo) writes the module path into every node's metadata, under ``pkg.torch.onnx.name_scopes``.
- The older TorchScript exporter calls a node by the modules around it: ``/layer1/layer1.0/conv1/Conv``.
- Whatever else has a value called like a module may mean it.

Only modules without children are looked for in such files, and what is found there is a guess: see `Naming.trusted`.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from torch import nn

from deploykit import onnx_file
from deploykit.onnx_file import external_data
from deploykit.onnx_file.walk import SCOPES
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.folding import channels, expected, float64_array, scaled_modules

Convolution = nn.modules.conv._ConvNd
BatchNorm = nn.modules.batchnorm._BatchNorm
FOLDING = ("Conv", "ConvTranspose", "Gemm")  # operators that the exporter folds a BatchNorm into


@dataclass(frozen=True)
class Naming:
    """`values`: module path -> the value that is its output. `trusted`: whether the file was made to say so.

    `folds`: path of a convolution -> path of the BatchNorm whose output the convolution's node now gives. `suspects`: values
    that may mean another thing under the name, see `moved_names`: of two files, of a layer into which a scale was folded, or of a
    module that lies under several paths.
    """

    values: Mapping[str, str]
    trusted: bool
    folds: Mapping[str, str] = field(default_factory=dict)
    suspects: frozenset[str] = frozenset()


def name_layers(deployed: Deployed, module: nn.Module) -> Naming:
    """Find the outputs of the modules among the values of the graph."""
    model = deployed.model
    modules = dict(module.named_modules(remove_duplicate=False))
    by_path = onnx_file.has_contract(model) or _named_by_path(model, modules)
    if by_path:
        folds = {
            node.name: value
            for node in model.graph.node
            for value in node.output
            if isinstance(modules.get(value), BatchNorm) and node.name != value and node.name in modules
        }
        folds |= _folded_at_the_end(deployed, modules)
        suspects = {folds.get(path, path) for path in scaled_modules(deployed, module, folds)}
        several = _of_several_paths(module)
        suspects |= {name for name in deployed.values() if name.split("@")[0] in several}
        return Naming({name: name for name in deployed.values()}, True, folds, frozenset(suspects))
    return _guessed(deployed, modules)


def _folded_at_the_end(deployed: Deployed, modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """The BatchNorms whose output is one of the graph's, which has the name of that: told by the weight that holds them."""
    outputs = {value.name for value in deployed.model.graph.output}
    nodes = [(node, node.name) for node in deployed.model.graph.node]
    last = [node for node, path in nodes if path in modules and node.op_type in FOLDING and outputs & {*node.output}]
    candidates = _norms_without_node(nodes, modules) if last else {}
    found = {node.name: _nearest(deployed, node, modules[node.name], candidates) for node in last if candidates}
    return {path: norm for path, norm in found.items() if norm}


def _of_several_paths(module: nn.Module) -> frozenset[str]:
    """The paths of modules that lie under several: a graph calls each by the one it was reached by, the network by its first."""
    paths: dict[int, list[str]] = defaultdict(list)
    for path, child in module.named_modules(remove_duplicate=False):
        paths[id(child)].append(path)
    return frozenset(path for several in paths.values() if len(several) > 1 for path in several)


def _guessed(deployed: Deployed, modules: Mapping[str, nn.Module]) -> Naming:
    """The naming of a file that was not made to say it.

    1. Every node tells a module path, or nothing. If none does, the values that are called like a module are taken for its output.
    2. A convolution's node may hold the BatchNorm behind it: it then gives the BatchNorm's output.
    3. Otherwise the last node of a module without children gives the module's output.
    """
    nodes = [(node, _told(node)) for node in deployed.model.graph.node]
    inner = set(deployed.values())
    values = {} if any(path for _, path in nodes) else {name: name for name in inner if name in modules}
    folds: dict[str, str] = {}
    candidates = _norms_without_node(nodes, modules)
    for node, path in nodes:
        owner = _owner(node, path, modules)
        norm = _folded_norm(deployed, node, path, modules, candidates) if isinstance(modules.get(owner), Convolution) else ""
        if norm:
            folds[owner] = norm
        is_leaf = path in modules and not list(modules[path].children())
        if is_leaf and node.output and node.output[0] in inner:
            values[norm or path] = node.output[0]
    return Naming(values, False, folds)


def _norms_without_node(nodes: Sequence[tuple[onnx.NodeProto, str]], modules: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The BatchNorms, by path, that no node of the file computes, so that they may be folded into a convolution."""
    computed = {_owner(node, path, modules) for node, path in nodes if node.op_type == "BatchNormalization"}
    return {path: module for path, module in modules.items() if isinstance(module, BatchNorm) and path not in computed}


def _folded_norm(
    deployed: Deployed, node: onnx.NodeProto, path: str, modules: Mapping[str, nn.Module], candidates: Mapping[str, nn.Module]
) -> str:
    """The path of the BatchNorm that a convolution's node holds, by what it tells or by its stored weight; empty for none."""
    if node.op_type not in ("Conv", "ConvTranspose"):
        return ""
    if isinstance(modules.get(path), BatchNorm):
        return path
    return _nearest(deployed, node, modules[_owner(node, path, modules)], candidates)


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
        if norm.num_features != channels(own, conv) or norm.running_mean is None:
            continue
        distance = float(np.linalg.norm(found - expected(own, None, norm, conv)[0]))
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
