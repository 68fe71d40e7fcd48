"""Every graph, node, stored tensor and name of a model: the one place that knows where they can lie.

Graphs lie in the attributes of nodes (the bodies of If, Loop and Scan), also of the nodes of local functions. Numbers are stored
in initializers, dense and sparse, and in attributes (the values of Constant nodes).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import onnx

if TYPE_CHECKING:
    import onnx_ir as ir

SCOPES = "pkg.torch.onnx.name_scopes"  # a node's metadata entry in which torch.onnx writes the modules around it
STANDARD = frozenset({"", "ai.onnx"})  # the two ways to write the domain of ONNX's own operators

Root = onnx.ModelProto | onnx.GraphProto | onnx.FunctionProto


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in the attributes of one node: the branches of an If, the body of a Loop or Scan."""
    return (body for _, body in named_bodies(node))


def named_bodies(node: onnx.NodeProto) -> Iterator[tuple[str, onnx.GraphProto]]:
    """What `bodies` gives, each with the name of its attribute, such as "then_branch"."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        yield from ((attribute.name, body) for body in attribute.graphs)


def has_bodies(node: onnx.NodeProto) -> bool:
    """Whether any graph lies in the attributes of the node."""
    return next(bodies(node), None) is not None


def nodes(root: Root) -> Iterator[onnx.NodeProto]:
    """Every node in the order of the file, each before those in its bodies; of a model, those of its local functions last.

    The nodes of a function come once, however often it is called.
    """
    for node in _own_nodes(root):
        yield node
        for body in bodies(node):
            yield from nodes(body)


def graphs(root: Root) -> Iterator[onnx.GraphProto]:
    """Every graph, each before those inside it: `root`'s own (a function has none), and the bodies of all nodes."""
    if isinstance(root, onnx.ModelProto):
        yield root.graph
    elif isinstance(root, onnx.GraphProto):
        yield root
    for node in nodes(root):
        yield from bodies(node)


def tensors(root: Root) -> Iterator[onnx.TensorProto]:
    """Every stored tensor: initializers, attributes of nodes, and the values and indices of sparse ones."""
    for graph in graphs(root):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes(root):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []), *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def stored(graph: onnx.GraphProto) -> set[str]:
    """The names of the initializers of one graph, dense and sparse."""
    return {tensor.name for tensor in graph.initializer} | {sparse.values.name for sparse in graph.sparse_initializer}


def names(root: Root) -> Iterator[str]:
    """The names of all nodes and values, with repetitions. A name that is not UTF-8 comes as bytes: protobuf lets it through."""
    for graph in graphs(root):
        yield from stored(graph)
        yield from (value.name for value in (*graph.input, *graph.output, *graph.value_info))
    for node in nodes(root):
        yield from (node.name, *node.input, *node.output)


def read_by(node: onnx.NodeProto) -> set[str]:
    """The names that a node reads from outside, its bodies included."""
    found = set(node.input)
    for body in bodies(node):
        made = {output for inner in nodes(body) for output in inner.output}
        own = made | {value.name for graph in graphs(body) for value in graph.input} | stored(body)
        found |= {name for inner in nodes(body) for name in inner.input} - own
    return found


def readers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """By name, the nodes of the graph that read it, also in their bodies."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in read_by(node):
            found.setdefault(name, []).append(node)
    return found


def drop_unread(graph: onnx.GraphProto, names: set[str]) -> None:
    """Leave out those of the stored tensors that nobody reads any more: onnxruntime would warn about them."""
    ends = {value.name for value in (*graph.input, *graph.output)}
    unread = names - ends - {name for node in nodes(graph) for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name not in unread]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def unused(name: str, taken: set[str]) -> str:
    """The name, or one like it that is not among those taken; it then is."""
    found = next(each for n in count() if (each := f"{name}_{n}" if n else name) not in taken)
    taken.add(found)
    return found


def operator(node: onnx.NodeProto) -> str:
    """The operator of a node, with its domain where that is not ONNX's own: ``Conv``, ``com.microsoft.FusedConv``."""
    return node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"


def _own_nodes(root: Root) -> Iterator[onnx.NodeProto]:
    if isinstance(root, onnx.ModelProto):
        yield from root.graph.node
        for function in root.functions:
            yield from function.node
    else:
        yield from root.node


def ir_bodies(node: ir.Node) -> Iterator[ir.Graph]:
    """What `bodies` gives, for a node of onnx_ir. All graphs below a graph are its own `subgraphs()`."""
    import onnx_ir as ir

    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()
