"""Names that people know: after this pass, the nodes and values of an exported graph are called by module path.

- A node of the module ``layer1.0.conv1`` is called ``layer1.0.conv1``; where a module needs several nodes, its last one has
  the plain name and the others are ``layer1.0.conv1/Pad``, ``layer1.0.conv1/Pad_1``.
- What a module runs between its children is ``layer1.0/Add``; what the network itself runs is ``/Flatten``.
- A value that is a module's output has that module's path as its name, so ``layer1.0.bn1`` is the output of that module even
  where its arithmetic was folded into ``layer1.0.conv1``. Other values have the name of the node that makes them.
- The second call of one module is ``shared@1``.

Everything else that the exporter left (stack traces, module internals, paths of the machine) is removed.
"""

from __future__ import annotations

import ast
import itertools
from collections import defaultdict
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import nn

from deploykit.onnx_file import walk

_LETTERS = {(op, letter): role for op in ("Conv", "ConvTranspose") for letter, role in (("W", "weight"), ("B", "bias"))} | {
    ("Gemm", "B"): "weight",
    ("Gemm", "C"): "bias",
    ("BatchNormalization", "B"): "bias",
    ("LayerNormalization", "B"): "bias",
}

RULE = "pkg.onnxscript.rewriter.rule_name"


def rename(model: ir.Model, program: torch.export.ExportedProgram, network: nn.Module) -> None:
    """Rename nodes, values and constants in place and strip every trace; parameters keep their names in `network`."""
    calls, outputs = _module_calls(program)
    modules = {path for path, _ in network.named_modules()}
    stored = {
        name
        for name, _ in (
            *network.named_parameters(remove_duplicate=False),
            *network.named_buffers(remove_duplicate=False),
        )
    }
    keep = {value.name or "" for value in (*model.graph.inputs, *model.graph.outputs)}
    _make_way(model.graph, keep, stored)
    taken = keep | {name for name in model.graph.initializers if name in stored}
    namer = _Namer(calls, outputs, modules, taken, keep)
    namer.graph(model.graph, "")
    strip(model)


def _make_way(graph: ir.Graph, keep: set[str], stored: set[str]) -> None:
    """Give another name to every parameter that is called like an input or an output: values share one name space in ONNX.

    A network may well keep a token as `cls` and give its answer as `cls`. Applications ask for the latter.
    """
    known = keep | stored | set(graph.initializers)
    for value in [value for name, value in graph.initializers.items() if name in keep]:
        if value.is_graph_input() or value.is_graph_output():
            continue
        base = f"{value.name}_parameter"
        numbered = (f"{base}_{count}" for count in itertools.count(1))
        value.name = next(name for name in itertools.chain([base], numbered) if name not in known)
        known.add(value.name)


def strip(model: ir.Model) -> None:
    """Remove metadata and documentation from the model, its graphs, functions, nodes and values."""
    model.metadata_props.clear()
    model.doc_string = None
    graphs: list[Any] = [model.graph, *model.functions.values()]
    for graph in graphs:
        for part in (graph, *graph.subgraphs()):
            part.metadata_props.clear()
            part.doc_string = None
            for value in (*part.inputs, *getattr(part, "initializers", {}).values()):
                _strip_value(value)
            for node in part:
                node.metadata_props.clear()
                node.doc_string = None
                for value in node.outputs:
                    _strip_value(value)


class _Namer:
    """Gives names in place. `modules`: paths of the network's modules; `taken`: names in use; `keep`: of inputs and outputs."""

    def __init__(self, calls: dict[str, str], outputs: dict[str, str], modules: set[str], taken: set[str], keep: set[str]) -> None:
        self.calls = calls  # name of an FX node -> the module call it belongs to
        self.outputs = outputs  # name of an FX node -> the module call whose output it is
        self.modules = modules
        self.parents = {path.rpartition(".")[0] for path in modules}
        self.taken = taken
        self.keep = keep

    def graph(self, graph: Any, outer: str) -> None:
        """Name the nodes of one graph and of the bodies inside it; `outer` is the path for nodes that say nothing.

        1. Find the module call of each node.
        2. The last node of a module without children gets the plain path, all others the path and their operator.
        3. A value that is a module's output is called after that module, else after its node; then the constants of the node.
        4. The same for the bodies of the node, whose inputs are called after it.
        """
        nodes = list(graph)
        paths = [self._path(node, outer) for node in nodes]
        last = {path: index for index, path in enumerate(paths)}
        for index, (node, path) in enumerate(zip(nodes, paths, strict=True)):
            plain = last[path] == index and self._is_leaf(path)
            node.name = self._unique(path if plain else f"{path}/{node.op_type}", node_only=True)
            self._outputs(node)
            self._constants(node)
            for body in walk.ir_bodies(node):
                for value in body.inputs:
                    value.name = self._unique(f"{node.name}/{value.name}")
                self.graph(body, path)

    def _is_leaf(self, path: str) -> bool:
        """Whether a module call is one of a module without children; the network itself is none."""
        module = path.split("@")[0]
        return module != "" and module in self.modules and module not in self.parents

    def _outputs(self, node: ir.Node) -> None:
        """Name what a node makes; the graph's own outputs keep their names."""
        for position, value in enumerate(node.outputs):
            name = value.name or ""
            if name not in self.keep:
                own = f"{node.name}:{position}" if position else f"{node.name}"
                value.name = self._unique(self.outputs.get(name) or own)

    def _path(self, node: ir.Node, outer: str) -> str:
        if RULE in node.metadata_props:
            owner = self._weight_owner(node)
            if owner:
                return owner
        for value in node.outputs:
            if value.name in self.calls:
                return self.calls[value.name]
        try:
            scopes = ast.literal_eval(node.metadata_props.get(walk.SCOPES, "[]"))
        except (ValueError, SyntaxError):
            scopes = []
        # The last scope is the operator itself; the one before it the module that called it.
        name = str(scopes[-1]) if scopes else ""
        if name in self.calls:
            return self.calls[name]
        path = str(scopes[-2]) if len(scopes) > 1 else ""
        return path if path in self.modules and path else outer

    def _weight_owner(self, node: ir.Node) -> str:
        """A fused node belongs to the module that owns its weight: the convolution, not the BatchNorm folded into it."""
        for value in node.inputs[1:2]:
            owner = (value.name or "").rpartition(".")[0] if value is not None else ""
            if owner in self.modules:
                return owner
        return ""

    def _constants(self, node: ir.Node) -> None:
        """Tensors that are no parameter of the network are called after their role: ``conv1/bias``, ``flatten/shape``."""
        for position, value in enumerate(node.inputs):
            if value is None or value.name in self.taken or not value.is_initializer():
                continue
            value.name = self._unique(f"{node.name}/{_role(node, position)}")

    def _unique(self, base: str, node_only: bool = False) -> str:
        """Nodes and values are two name spaces in ONNX; each has its own counters."""
        name, count = base, 0
        space = "node:" if node_only else ""
        while space + name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(space + name)
        return name


def _module_calls(program: torch.export.ExportedProgram) -> tuple[dict[str, str], dict[str, str]]:
    """For each FX node: the innermost module call it belongs to, and the innermost call whose single output it is."""
    calls: dict[str, str] = {}
    inside: dict[str, list[Any]] = defaultdict(list)
    for node in program.graph.nodes:
        stack = node.meta.get("nn_module_stack") or {}
        paths = [_call_path(key, value[0]) for key, value in stack.items()]
        if node.op != "call_function" or not paths or paths[-1] is None:
            continue
        calls[node.name] = paths[-1]
        for path in paths:
            if path:
                inside[path].append(node)
    outputs: dict[str, str] = {}
    # Outer calls first, so that the innermost one has the last word.
    for path, nodes in sorted(inside.items(), key=lambda item: item[0].count(".")):
        members = set(nodes)
        leaving = [node for node in nodes if any(user not in members for user in node.users)]
        if len(leaving) == 1:
            outputs[leaving[0].name] = path
    return calls, outputs


def _role(node: ir.Node, position: int) -> str:
    """What the ONNX specification calls this input of the operator, in words."""
    if node.domain not in walk.STANDARD or not onnx.defs.has(node.op_type):
        return "constant"
    formal = onnx.defs.get_schema(node.op_type).inputs
    name = formal[min(position, len(formal) - 1)].name
    if len(name) > 1:
        return name.lower()
    # One letter says nothing by itself: the B of a Conv is its bias, the B of an Add anything.
    return _LETTERS.get((node.op_type, name), "constant")


def _call_path(key: str, path: str) -> str | None:
    """``("L__self__fc@1", "fc")`` -> "fc@1"; `None` for torch's own placeholders."""
    if path.startswith("_empty_nn_module_stack"):
        return None
    _, at, count = key.rpartition("@")
    return f"{path}@{count}" if at and count.isdecimal() and path else path


def _strip_value(value: ir.Value) -> None:
    value.metadata_props.clear()
    value.doc_string = None
