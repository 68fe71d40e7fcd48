"""`Weights`: how many parameters each node of an ONNX graph has: the stored numbers that it reads as data.

Numbers are stored in initializers, dense and sparse, and in Constant nodes: of the graph, of the bodies of If, Loop and Scan, and
of local functions; `ai.onnx.ml` keeps them in attributes. Of those a node's parameters are

1. the elements of every floating-point tensor with at least one axis that it reads, whatever they were trained for: a stored mask
   and a table of positions count too. Not where an input describes and is no datum: scales and zero points of a quantization, the
   sizes of a Resize, the limits of a Clip, and, but for paddle, the running statistics of BatchNormalization;
2. integers where they stand for weights: an input of an operator that computes on quantized numbers, a DequantizeLinear or a cast
   to floats, directly or by way of operators that only move data (an embedding's Gather). Two to a byte count as two. Integers
   anywhere else are shapes, indices and masks.

A single number without axes is a constant, not a weight. A sparse tensor has as many as are stored. A stored tensor counts once,
at the first node that reads it, however often a function is called or a weight is shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import onnx

from deploykit.onnx_file import walk
from deploykit.onnx_file.walk import STANDARD

FLOATS = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16,
     onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}
    | {value for name, value in onnx.TensorProto.DataType.items() if name.startswith(("FLOAT8", "FLOAT4"))}
)  # fmt: skip
_BYTES = frozenset(
    {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    | {value for name, value in onnx.TensorProto.DataType.items() if name in ("INT4", "UINT4", "INT2", "UINT2")}
)
_INTEGERS = _BYTES | {onnx.TensorProto.INT16, onnx.TensorProto.UINT16, onnx.TensorProto.INT32}
_PACKED = frozenset({onnx.TensorProto.INT8, onnx.TensorProto.UINT8})  # types that may hold several numbers in one element

Indices = tuple[int, ...]
_UNARY: Indices = (1, 2, 3, 4)  # x, then scale and zero point of x and of y

# Inputs that describe: scales, zero points, limits, sizes.
_DESCRIBING: dict[str, Indices] = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "DynamicQuantizeLSTM": (8, 9, 10, 11),
    "DynamicQuantizeMatMul": (2, 3),
    "ConvInteger": (2, 3),
    "DequantizeWithOrder": (1,),
    "GatherBlockQuantized": (2, 3),
    "GemmFloat8": (3, 4, 5),
    "GroupQueryAttention": (12, 13),
    "MatMulBlockQuantizedFp4Weight": (2, 3, 4),
    "MatMulBlockQuantizedFp8Weight": (2, 3),
    "MatMulBnb4": (2,),
    "MatMulInteger": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "MatMulNBits": (2, 3, 4),
    "MatMulNBitsMlp": (4, 7),
    "MatMulNBitsQkv": (4, 7, 10),
    "MulInteger": (1, 3),
    "QAttention": (3, 4, 6, 7),
    "QEmbedLayerNormalization": tuple(range(8, 18)),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearAdd": (1, 2, 4, 5, 6, 7),
    "QLinearAveragePool": _UNARY,
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearGlobalAveragePool": _UNARY,
    "QLinearLeakyRelu": _UNARY,
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QLinearMul": (1, 2, 4, 5, 6, 7),
    "QLinearReduceMean": _UNARY,
    "QLinearSigmoid": _UNARY,
    "QLinearSoftmax": _UNARY,
    "QLinearWhere": (2, 3, 5, 6, 7, 8),
    "QMoE": (3, 6, 9, 11, 12, 13, *range(15, 21)),
    "QOrderedAttention": (1, 2, 3, 4, 8, 9, 10, 14, 15, 16),
    "QOrderedGelu": (1, 2),
    "QOrderedLayerNormalization": (1, 4),
    "QOrderedLongformerAttention": (1, 3, 5, 6, 9, 11, 13),
    "QOrderedMatMul": (1, 3, 4, 7),
    "QuantizeWithOrder": (1,),
    "Clip": (1, 2),
    "Dropout": (1, 2),
    "NonMaxSuppression": (3, 4),
    "OneHot": (2,),
    "Pad": (2,),
    "Resize": (1, 2),
    "Upsample": (1,),
}
# Inputs whose integers are weights.
_QUANTIZED: dict[str, Indices] = {
    "Cast": (0,),
    "CastLike": (0,),
    "ConvInteger": (1,),
    "DequantizeLinear": (0,),
    "DequantizeWithOrder": (0,),
    "DynamicQuantizeLSTM": (1, 2),
    "DynamicQuantizeMatMul": (1,),
    "GatherBlockQuantized": (0,),
    "MatMulBnb4": (1,),
    "MatMulInteger": (0, 1),
    "MatMulInteger16": (0, 1),
    "MatMulIntegerToFloat": (0, 1),
    "MatMulNBits": (1,),
    "MatMulNBitsMlp": (3, 6),
    "MatMulNBitsQkv": (3, 6, 9),
    "MulInteger": (0, 2),
    "QAttention": (1,),
    "QEmbedLayerNormalization": (2, 3, 4, 5, 6),
    "QGemm": (3, 6),
    "QLinearAdd": (0, 3),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "QLinearMul": (0, 3),
    "QLinearWhere": (1, 4),
    "QMoE": (2, 5, 8),
    "QOrderedAttention": (5, 6, 7),
    "QOrderedLongformerAttention": (2, 8),
    "QOrderedMatMul": (2,),
}
_STATISTICS: Indices = (3, 4)  # the inputs of BatchNormalization that are running mean and variance
# Operators that only move data, with the inputs that they move.
_MOVING: dict[str, Indices] = dict.fromkeys(
    """
    Expand Flatten Gather GatherElements GatherND Identity Pad Reshape Slice Split Squeeze Tile Transpose Unsqueeze
    """.split(),  # noqa: SIM905
    (0,),
)
# Attributes of ai.onnx.ml in which weights lie.
_ATTRIBUTES = frozenset(
    """
    class_weights class_weights_as_tensor coefficients intercepts leaf_weights nodes_splits nodes_values nodes_values_as_tensor
    offset prob_a prob_b rho scale support_vectors target_weights target_weights_as_tensor
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Stored:
    """One stored tensor of the shape `dims`. `key`: the same for what is one tensor in the file.

    `numbers`: how many are stored; 0 for a tensor without axes.
    """

    key: object
    type: int
    numbers: int
    dims: tuple[int, ...] = ()


@dataclass
class Scope:
    """What one graph stores by name, with the graphs around it; `moved`: integers that a value is made of by moving them."""

    stored: Mapping[str, Stored]
    outer: Scope | None = None
    moved: dict[str, tuple[Stored, ...]] = field(default_factory=dict)

    def find(self, name: str) -> tuple[Stored, ...]:
        """The stored tensors behind a value; none for one that is computed or given."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.stored:
                return (scope.stored[name],)
            if name in scope.moved:
                return scope.moved[name]
            scope = scope.outer
        return ()


class Weights:
    """Counts each stored tensor once, at the first node that reads it as data.

    `unknown`: operators that read stored integers of which nobody says what they stand for.
    """

    def __init__(self, root: Scope, statistics: bool) -> None:
        """`root`: of the graph whose nodes come. `statistics`: whether running means and variances are parameters too."""
        self.root, self.statistics = root, statistics
        self.seen: set[object] = set()
        self.unknown: set[str] = set()
        self._bodies = 0

    def of(self, proto: onnx.NodeProto, scope: Scope | None = None) -> int:
        """The parameters of a node, those of its bodies included, that no earlier node had."""
        scope = scope or self.root
        found = 0
        for body in walk.bodies(proto):
            self._bodies += 1
            inside = Scope(stored_in(body, f"{self._bodies}"), scope)
            found += sum(self.of(inner, inside) for inner in body.node)
        describing, quantized = self._describing(proto), _quantized(proto)
        known = proto.domain in STANDARD or proto.op_type in _QUANTIZED or proto.op_type in _DESCRIBING
        for index, name in enumerate(proto.input):
            for stored in scope.find(name) if name and index not in describing else ():
                if stored.type in FLOATS:
                    found += self._once(stored, stored.numbers)
                elif stored.type in _INTEGERS and index in quantized:
                    found += self._once(stored, _unpacked(proto, index, stored))
                elif stored.type in _BYTES and not known and stored.numbers:
                    self.unknown.add(walk.operator(proto))
        _move(proto, scope)
        return found + _in_attributes(proto)

    def _describing(self, proto: onnx.NodeProto) -> Sequence[int]:
        if proto.op_type == "BatchNormalization" and not self.statistics:
            return _STATISTICS
        if proto.op_type == "QLinearConcat":  # scale and zero point of the result, then (value, scale, zero point) of each part
            return [index for index in range(len(proto.input)) if index < 2 or index % 3 != 2]
        return _DESCRIBING.get(proto.op_type, ())

    def _once(self, stored: Stored, numbers: int) -> int:
        if stored.key in self.seen:
            return 0
        self.seen.add(stored.key)
        return numbers


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
    """The value of a Constant that holds floating-point numbers or a tensor."""
    if attribute.name == "value":
        return _stored(attribute.t, key)
    if attribute.name == "sparse_value":
        return replace(_stored(attribute.sparse_tensor.values, key), dims=tuple(attribute.sparse_tensor.dims))
    if attribute.name == "value_floats":
        return Stored(key, onnx.TensorProto.FLOAT, len(attribute.floats), (len(attribute.floats),))
    return None


_OF_FUNCTION = "\0of a local function\0"


def mark_tensors_of_functions(model: onnx.ModelProto) -> None:
    """Mark what local functions store, in place, so that it is known as one tensor wherever the function is put in."""
    for place, function in enumerate(model.functions):
        for number, tensor in enumerate(walk.tensors(function)):
            tensor.doc_string = f"{_OF_FUNCTION}{place}.{number}"


def _stored(tensor: onnx.TensorProto, key: object) -> Stored:
    dims, mark = tuple(tensor.dims), tensor.doc_string
    return Stored(
        mark if mark.startswith(_OF_FUNCTION) else key, tensor.data_type, prod(dims) if dims and min(dims) >= 0 else 0, dims
    )


def _quantized(proto: onnx.NodeProto) -> Sequence[int]:
    """The inputs whose integers are weights; of a cast only if it makes floats."""
    if proto.op_type == "QLinearConcat":
        return range(2, len(proto.input), 3)
    if proto.op_type == "Cast" and not any(a.name == "to" and a.i in FLOATS for a in proto.attribute):
        return ()
    return _QUANTIZED.get(proto.op_type, ())


def _unpacked(proto: onnx.NodeProto, index: int, stored: Stored) -> int:
    """The numbers in a tensor, which may hold several to a byte; an attribute tells."""
    sizes = {a.name: a.i for a in proto.attribute if a.type == onnx.AttributeProto.INT}
    rule = _PACKING.get(proto.op_type)
    return stored.numbers if rule is None or stored.type not in _PACKED else rule(index, sizes, stored.numbers)


_Rule = Callable[[int, Mapping[str, int], int], int]


def _product(index: int, sizes: Mapping[str, int], elements: int) -> int:
    return sizes.get("K", 0) * sizes.get("N", 0)


def _of_three(index: int, sizes: Mapping[str, int], elements: int) -> int:
    return sizes.get("K", 0) * sizes.get("Nq" if index == 3 else "Nkv", 0)


def _gathered(index: int, sizes: Mapping[str, int], elements: int) -> int:
    return elements * 8 // max(1, sizes.get("bits", 4))


def _of_experts(index: int, sizes: Mapping[str, int], elements: int) -> int:
    return elements * 8 // max(1, sizes.get("expert_weight_bits", 4))


_PACKING: dict[str, _Rule] = {
    "MatMulNBits": _product,
    "MatMulBnb4": _product,
    "MatMulNBitsMlp": _product,
    "MatMulNBitsQkv": _of_three,
    "GatherBlockQuantized": _gathered,
    "QMoE": _of_experts,
}


def _move(proto: onnx.NodeProto, scope: Scope) -> None:
    """Note which stored integers the outputs of an operator are made of that only moves them."""
    if proto.domain not in STANDARD or not proto.output:
        return
    places = range(len(proto.input)) if proto.op_type == "Concat" else _MOVING.get(proto.op_type, ())
    parts = tuple(s for i in places if i < len(proto.input) for s in scope.find(proto.input[i]) if s.type in _INTEGERS)
    if parts:
        scope.moved.update(dict.fromkeys(proto.output, parts))


def _in_attributes(proto: onnx.NodeProto) -> int:
    """Weights that an operator of ai.onnx.ml keeps in its attributes."""
    if proto.domain != "ai.onnx.ml":
        return 0
    kept = [a for a in proto.attribute if a.name in _ATTRIBUTES]
    return sum(len(a.floats) + (prod(a.t.dims) if a.HasField("t") and a.t.data_type in FLOATS else 0) for a in kept)
