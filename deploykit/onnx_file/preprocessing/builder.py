"""Nodes written one after the other, each named after where it stands and what it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx import helper, numpy_helper


class Builder:
    """Collects nodes and constants under a name: `Builder("preprocessing").within("width")` makes ``preprocessing/width/Floor``."""

    def __init__(self, prefix: str, parent: Builder | None = None) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = [] if parent is None else parent.nodes
        self.constants: dict[str, onnx.TensorProto] = {} if parent is None else parent.constants
        self._root: str = prefix if parent is None else parent._root
        self._counts: dict[str, int] = {} if parent is None else parent._counts

    def within(self, name: str) -> Builder:
        """The same graph, one name deeper."""
        return Builder(f"{self.prefix}/{name}", self)

    def body(self, name: str) -> Builder:
        """The graph of a branch: nodes of its own, which may use values and constants from outside."""
        inner = self.within(name)
        inner.nodes = []
        return inner

    def branch(self, condition: str, then: tuple[Builder, str], otherwise: tuple[Builder, str]) -> str:
        """`If`: the value that one or the other body made."""
        bodies = [
            helper.make_graph(body.nodes, body.prefix, [], [onnx.ValueInfoProto(name=value)]) for body, value in (then, otherwise)
        ]
        return self.op("If", condition, then_branch=bodies[0], else_branch=bodies[1])

    def op(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; gives the name of its value (the node's own name unless `output` is given)."""
        count = self._counts.get(f"{self.prefix}/{kind}", 0)
        self._counts[f"{self.prefix}/{kind}"] = count + 1
        name = f"{self.prefix}/{kind}_{count}" if count else f"{self.prefix}/{kind}"
        self.nodes.append(helper.make_node(kind, inputs, [output or name], name=name, **attributes))
        return output or name

    def array(self, values: NDArray[Any], role: str) -> str:
        """A stored tensor, called after its role."""
        name = f"{self.prefix}/{role}"
        self.constants[name] = numpy_helper.from_array(values, name)
        return name

    def number(self, value: float, dtype: DTypeLike = np.float64) -> str:
        """A stored scalar; equal ones are stored once."""
        name = f"{self._root}/{value}:{np.dtype(dtype).name}"
        self.constants[name] = numpy_helper.from_array(np.asarray(value, dtype), name)
        return name

    def numbers(self, *values: int) -> str:
        """A stored vector of int64, such as axes or a shape; equal ones are stored once."""
        name = f"{self._root}/{'x'.join(map(str, values))}:axes"
        self.constants[name] = numpy_helper.from_array(np.asarray(values, np.int64), name)
        return name

    def cast(self, value: str, dtype: DTypeLike) -> str:
        """A conversion."""
        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
