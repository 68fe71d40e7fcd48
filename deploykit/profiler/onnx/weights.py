"""`Weights`: how many parameters each node of an ONNX graph has: the stored numbers that it reads as data.

Numbers are stored in initializers, dense and sparse, and in Constant nodes: of the graph, of the bodies of If, Loop and Scan, and
of local functions; operators of `ai.onnx.ml` and of unknown domains keep them in attributes. Of those a node's parameters are

1. the elements of every floating-point tensor with at least one axis that it reads, whatever they were trained for: a stored mask
   and a table of positions count too. What a body gives back that is stored, its node reads. Not where an input describes and is no
   datum: scales and zero points of a quantization, the sizes of a Resize, the limits of a Clip, and, but for paddle, the running
   statistics of BatchNormalization;
2. integers and truth values that end as weights: in an operator that computes on quantized numbers, in a product, or, more than one
   of them, as floats of which not only shapes are made. By what way they get there does not matter: moved (an embedding's Gather),
   computed with as integers, through the bodies of loops and branches, or through sequences. Two to a byte count as two. Integers
   anywhere else are shapes, indices and masks.

A single number without axes is a constant, not a weight. A sparse tensor has as many as are stored. A stored tensor counts once,
at the first node that reads it, however often a function is called or a weight is shared. Where it is not certain whether numbers
are weights, or how many lie in one element, `unsure` says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod

import onnx

from deploykit.onnx_file import walk
from deploykit.onnx_file.walk import STANDARD
from deploykit.profiler.onnx import microsoft, roles
from deploykit.profiler.onnx.flow import NONE, Flow, is_control
from deploykit.profiler.onnx.operators import FORMULAS
from deploykit.profiler.onnx.roles import DECIDED, PLACED
from deploykit.profiler.onnx.stored import Stored, key_of

FLOATS = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16,
     onnx.TensorProto.COMPLEX64, onnx.TensorProto.COMPLEX128}
    | {value for name, value in onnx.TensorProto.DataType.items() if name.startswith(("FLOAT8", "FLOAT4"))}
)  # fmt: skip
_BITS = {
    value: int(name.removeprefix("U").removeprefix("INT"))
    for name, value in onnx.TensorProto.DataType.items()
    if name.removeprefix("U").startswith("INT")
}
_WHOLE = frozenset(_BITS) | {onnx.TensorProto.BOOL}
_LONG = frozenset({onnx.TensorProto.INT64, onnx.TensorProto.UINT64, onnx.TensorProto.BOOL})  # types in which nobody packs
KNOWN = STANDARD | {"com.microsoft"}  # domains of the operators below

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
# Attributes of ai.onnx.ml, and of TfIdfVectorizer, in which weights lie.
_ATTRIBUTES = frozenset(
    """
    class_weights class_weights_as_tensor coefficients intercepts leaf_weights nodes_splits nodes_values nodes_values_as_tensor
    offset prob_a prob_b rho scale support_vectors target_weights target_weights_as_tensor weights
    """.split()  # noqa: SIM905
)


class Weights:
    """Counts each stored tensor once, at the first node that reads it as data.

    `unsure`: by reason the operators because of which there may be more.
    """

    def __init__(self, flow: Flow, statistics: bool) -> None:
        """`statistics`: whether running means and variances are parameters too."""
        self.flow, self.statistics = flow, statistics
        self.unsure: dict[str, set[str]] = defaultdict(set)
        self._seen: set[object] = set()
        self._found: dict[int, int] = defaultdict(int)
        self._functions = {(f.domain, f.name, f.overload) for f in flow.model.functions}
        self._uses = flow.reached(self._weights())
        self._strange = flow.reached(self._strangers())
        for place, call in enumerate(flow.calls):
            for index, value in enumerate(call.inputs):
                if value in flow.stored and self._is_data(call.proto, index, flow.stored[value]):
                    self._read(call.root, value, walk.operator(call.proto))
            self._found[call.root] += self._in_attributes(call.proto, place)
        for root, value in flow.ends:
            if value in flow.stored:
                self._read(root, value, walk.operator(flow.model.graph.node[root]))

    def of(self, index: int) -> int:
        """The parameters of a node of the graph, those of its bodies included, that no earlier node had."""
        return self._found[index]

    def _weights(self) -> Iterator[tuple[int, int]]:
        """(value, what reads it) wherever integers are weights; what reads it is the place and index of an input, as one number."""
        for place, call in enumerate(self.flow.calls):
            for index in self._quantized(call.proto, call.outputs):
                if index < len(call.inputs) and call.inputs[index] != NONE:
                    yield call.inputs[index], place << 32 | index

    def _strangers(self) -> Iterator[tuple[int, int]]:
        """(value, place of the node) wherever an operator reads values of which nobody says what they stand for."""
        for place, call in enumerate(self.flow.calls):
            if self._is_strange(call.proto):
                yield from ((value, place) for value in call.inputs if value != NONE)

    def _is_strange(self, proto: onnx.NodeProto) -> bool:
        if proto.domain in STANDARD or proto.domain.startswith("ai.onnx.") or self._is_function(proto):
            return False
        known = proto.domain in KNOWN and (proto.op_type in _QUANTIZED or proto.op_type in _DESCRIBING)
        return not known and walk.operator(proto) not in FORMULAS and walk.operator(proto) not in microsoft.FREE

    def _is_function(self, proto: onnx.NodeProto) -> bool:
        return (proto.domain, proto.op_type, proto.overload) in self._functions

    def _quantized(self, proto: onnx.NodeProto, outputs: Sequence[int] = ()) -> Sequence[int]:
        """The inputs whose integers are weights; of a cast only if it makes floats that are more than shapes in the end."""
        if proto.domain not in KNOWN:
            return ()
        if proto.op_type == "QLinearConcat":
            return range(2, len(proto.input), 3)
        if proto.op_type in ("Cast", "CastLike"):
            whole = any(a.name == "to" and a.i not in FLOATS for a in proto.attribute)
            return () if whole or not any(map(self.flow.live, outputs)) else (0,)
        if proto.domain in STANDARD and proto.op_type in FORMULAS and proto.op_type not in _QUANTIZED:
            return [index for index in range(len(proto.input)) if roles.carries(proto.op_type, index)]
        return _QUANTIZED.get(proto.op_type, ())

    def _describing(self, proto: onnx.NodeProto) -> Sequence[int]:
        if proto.domain not in KNOWN:
            return ()
        if proto.op_type == "BatchNormalization" and not self.statistics:
            return _STATISTICS
        if proto.op_type == "QLinearConcat":  # scale and zero point of the result, then (value, scale, zero point) of each part
            return [index for index in range(len(proto.input)) if index < 2 or index % 3 != 2]
        return _DESCRIBING.get(proto.op_type, ())

    def _is_data(self, proto: onnx.NodeProto, index: int, stored: Stored) -> bool:
        if index in self._describing(proto):
            return False
        return stored.type in FLOATS or not _is_size(proto, index) or index in self._quantized(proto)

    def _read(self, root: int, value: int, operator: str) -> None:
        """Count a stored tensor that a node reads; of integers what they are read as in the end."""
        stored = self.flow.stored[value]
        if stored.type in FLOATS:
            self._once(root, stored.key, stored.numbers)
        elif stored.type in _WHOLE and value in self._uses:
            number, packed = self._uses[value]
            reader, at = self.flow.calls[number >> 32].proto, number & 0xFFFFFFFF
            if stored.numbers > 1 or reader.op_type not in ("Cast", "CastLike"):
                self._once(root, stored.key, _unpacked(reader, at, stored))
                if packed and stored.type not in _LONG:
                    self.unsure["an element of the integers it stores may hold several numbers"].add(operator)
        elif stored.type in _WHOLE and value in self._strange and stored.numbers > 1:
            reader = self.flow.calls[self._strange[value][0]].proto
            self.unsure["stores integers that may be weights, and are not counted as such"].add(walk.operator(reader))

    def _in_attributes(self, proto: onnx.NodeProto, place: int) -> int:
        """Weights that a node keeps in its attributes: of ai.onnx.ml those of that name, of an unknown operator every tensor."""
        if proto.domain == "ai.onnx.ml" or (proto.domain in STANDARD and proto.op_type == "TfIdfVectorizer"):
            kept = [a for a in proto.attribute if a.name in _ATTRIBUTES]
        elif self._is_strange(proto):
            kept = [a for a in proto.attribute if a.type in _TENSORS]
            if any(map(_may_hold_weights, proto.attribute)):
                self.unsure["has numbers in its attributes that may be weights, and are not counted"].add(walk.operator(proto))
        else:
            return 0
        found = 0
        for number, attribute in enumerate(kept):
            key = key_of(attribute, (place, number))
            if key not in self._seen:
                self._seen.add(key)
                found += len(attribute.floats) + sum(prod(t.dims) for t in _tensors(attribute) if t.dims and t.data_type in FLOATS)
        return found

    def _once(self, root: int, key: object, numbers: int) -> None:
        if key not in self._seen:
            self._seen.add(key)
            self._found[root] += numbers


_TENSORS = frozenset({onnx.AttributeProto.TENSOR, onnx.AttributeProto.TENSORS, onnx.AttributeProto.SPARSE_TENSOR})


def _tensors(attribute: onnx.AttributeProto) -> Sequence[onnx.TensorProto]:
    sparse = [attribute.sparse_tensor.values] if attribute.HasField("sparse_tensor") else []
    return [*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors, *sparse]


def _may_hold_weights(attribute: onnx.AttributeProto) -> bool:
    """Whether an attribute of an unknown operator holds several numbers that are no tensor of floats, which counts."""
    return len(attribute.floats) > 1 or any(t.data_type in _WHOLE and prod(t.dims) > 1 for t in _tensors(attribute))


def _is_size(proto: onnx.NodeProto, index: int) -> bool:
    """Whether an input says how much or where from: a shape, an axis, an index."""
    return proto.domain in STANDARD and not is_control(proto) and roles.ways(proto.op_type, index, 0) in (DECIDED, PLACED)


def _unpacked(proto: onnx.NodeProto, index: int, stored: Stored) -> int:
    """The numbers in a tensor, which may hold several to an element; an attribute tells."""
    sizes = {a.name: a.i for a in proto.attribute if a.type == onnx.AttributeProto.INT}
    rule = _PACKING.get(walk.operator(proto).removeprefix("com.microsoft."))
    return stored.numbers if rule is None else rule(index, sizes, stored.numbers * _BITS.get(stored.type, 8))


_Rule = Callable[[int, Mapping[str, int], int], int]


def _product(index: int, sizes: Mapping[str, int], bits: int) -> int:
    return sizes.get("K", 0) * sizes.get("N", 0)


def _of_three(index: int, sizes: Mapping[str, int], bits: int) -> int:
    return sizes.get("K", 0) * sizes.get("Nq" if index == 3 else "Nkv", 0)


def _gathered(index: int, sizes: Mapping[str, int], bits: int) -> int:
    return bits // max(1, sizes.get("bits", 4))


def _of_experts(index: int, sizes: Mapping[str, int], bits: int) -> int:
    return bits // max(1, sizes.get("expert_weight_bits", 4))


_PACKING: dict[str, _Rule] = {
    "MatMulNBits": _product,
    "MatMulBnb4": _product,
    "MatMulNBitsMlp": _product,
    "MatMulNBitsQkv": _of_three,
    "GatherBlockQuantized": _gathered,
    "QMoE": _of_experts,
}
