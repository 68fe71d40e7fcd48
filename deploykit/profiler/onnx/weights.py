"""`Weights`: how many parameters each node of an ONNX graph has: stored floats, and integers that stand for them.

A quantized file stores its weights as integers, with a scale and a zero point each; a parameter is what was trained, so the
integers count and the other two do not. Integers anywhere else are shapes, indices and the like.
"""

from __future__ import annotations

from math import prod

import onnx

from deploykit.onnx_file.walk import bodies
from deploykit.profiler.onnx.shapes import FLOATS, Graph

STATISTICS = (3, 4)  # the inputs of BatchNormalization that are running mean and variance

# Inputs that describe a quantization: scales and zero points.
_SCALES = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "DynamicQuantizeMatMul": (2, 3),
    "MatMulNBits": (2, 3, 4),
    "QAttention": (3, 4, 6, 7),
}
# Inputs whose integers are weights.
_QUANTIZED = {
    "DequantizeLinear": (0,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "ConvInteger": (1,),
    "MatMulInteger": (0, 1),
    "QGemm": (3, 6),
    "MatMulIntegerToFloat": (1,),
    "DynamicQuantizeMatMul": (1,),
    "QAttention": (1,),
}


class Weights:
    """Counts each stored tensor once, at the first node that uses it; single numbers are constants, not weights."""

    def __init__(self, graph: Graph, statistics: bool) -> None:
        """`statistics`: whether running means and variances are parameters too."""
        self.graph, self.statistics = graph, statistics
        self.seen: set[str] = set()

    def of(self, proto: onnx.NodeProto) -> int:
        """Elements of the parameters of a node, the bodies of loops and branches included, that no earlier node had."""
        found = sum(self.of(inner) for body in bodies(proto) for inner in body.node)
        found += sum(prod(t.dims) for body in bodies(proto) for t in body.initializer if t.data_type in FLOATS and t.dims)
        names = list(proto.input)
        skipped = _SCALES.get(proto.op_type, ())
        if proto.op_type == "BatchNormalization" and not self.statistics:
            skipped = STATISTICS
        self.seen.update(names[index] for index in skipped if index < len(names))
        quantized = {names[index] for index in _QUANTIZED.get(proto.op_type, ()) if index < len(names)}
        fresh = {n for n in names if n not in self.seen and (n in self.graph.floats or n in quantized) and self.graph.stored.get(n)}
        self.seen.update(fresh)
        packed = _packed(proto)
        if packed is not None and names[1] in self.graph.stored and names[1] not in self.seen:
            self.seen.add(names[1])
            found += packed
        return found + sum(prod(self.graph.stored[name]) for name in fresh)


def _packed(proto: onnx.NodeProto) -> int | None:
    """Weights of several to a byte: their number stands in the attributes."""
    if proto.op_type != "MatMulNBits" or len(proto.input) < 2:
        return None
    sizes = {a.name: a.i for a in proto.attribute}
    return sizes.get("K", 0) * sizes.get("N", 0)
