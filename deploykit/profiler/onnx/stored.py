"""`stored_in`: the tensors that a graph stores, by the name of their value. `mark`: those of local functions, which count once.

They lie in initializers, dense and sparse, and in Constant nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import onnx

from deploykit.onnx_file import walk
from deploykit.onnx_file.walk import STANDARD


@dataclass(frozen=True)
class Stored:
    """One stored tensor of the shape `dims`. `key`: the same for what is one tensor in the file.

    `numbers`: how many are stored; 0 for a tensor without axes.
    """

    key: object
    type: int
    numbers: int
    dims: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scope:
    """What one graph stores by name, with the graphs around it."""

    stored: Mapping[str, Stored]
    outer: Scope | None = None

    def find(self, name: str) -> Stored | None:
        """The stored tensor of that name; `None` for what is computed or given."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.stored:
                return scope.stored[name]
            scope = scope.outer
        return None


def stored_in(graph: onnx.GraphProto, scope: str) -> dict[str, Stored]:
    """What one graph stores itself, by the name of its value; `scope` tells it from other graphs with the same names."""
    found = {t.name: _stored(t, (scope, t.name)) for t in graph.initializer}
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        found[name] = replace(_stored(sparse.values, (scope, name)), dims=tuple(sparse.dims))
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in STANDARD and node.output:
            for attribute in node.attribute:
                constant = _constant(attribute, (scope, node.output[0]))
                if constant is not None:
                    found[node.output[0]] = constant
    return found


def _constant(attribute: onnx.AttributeProto, key: object) -> Stored | None:
    """The value of a Constant that holds a tensor or a list of numbers."""
    if attribute.name == "value":
        return _stored(attribute.t, key)
    if attribute.name == "sparse_value":
        return replace(_stored(attribute.sparse_tensor.values, key), dims=tuple(attribute.sparse_tensor.dims))
    if attribute.name in ("value_floats", "value_ints"):
        numbers = len(attribute.floats) + len(attribute.ints)
        kind = onnx.TensorProto.FLOAT if attribute.name == "value_floats" else onnx.TensorProto.INT64
        return Stored(key_of(attribute, key), kind, numbers, (numbers,))
    return None


_OF_FUNCTION = "\0of a local function\0"


def mark(model: onnx.ModelProto) -> None:
    """Mark what local functions store, in place, so that it is known as one tensor wherever the function is put in."""
    for place, function in enumerate(model.functions):
        given = function.attribute_proto
        holders: list[onnx.TensorProto | onnx.AttributeProto] = [*walk.tensors(function), *given]
        holders += [a for node in walk.nodes(function) for a in node.attribute]
        holders += [a.t for a in given if a.HasField("t")] + [a.sparse_tensor.values for a in given if a.HasField("sparse_tensor")]
        for number, each in enumerate(holders):
            each.doc_string = f"{_OF_FUNCTION}{place}.{number}"


def key_of(holder: onnx.TensorProto | onnx.AttributeProto, otherwise: object) -> object:
    """What tells a tensor, or an attribute that holds numbers, from others: its mark, if it has one."""
    return holder.doc_string if holder.doc_string.startswith(_OF_FUNCTION) else otherwise


def _stored(tensor: onnx.TensorProto, key: object) -> Stored:
    dims = tuple(tensor.dims)
    return Stored(key_of(tensor, key), tensor.data_type, prod(dims) if dims and min(dims) >= 0 else 0, dims)
