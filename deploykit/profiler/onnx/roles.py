"""`ways`: how an operator of the standard makes an output of an input, read from the types in its schema.

An input of the type of the output carries its numbers into it, an input that only takes int32 or int64 is a size or a place, and
anything else is computed with. What the types do not tell are the few operators whose values decide the shape of what they give.
"""

from __future__ import annotations

from functools import cache

import onnx

# How an output depends on an input; several at once.
COMPUTED = 1  # its numbers are computed from those of the input
PLACED = 2  # the input says where they come from: an index
DECIDED = 4  # the numbers of the input decide the shape of the output
MEASURED = 8  # its numbers are the shape of the input
CARRIED = 16  # it has the type of the input: integers come out as integers
UNPACKED = 32  # several numbers in one may come out as several

_Formal = tuple[str, frozenset[str]]  # the name of a type, and all that it may stand for

_SIZES = frozenset({"tensor(int32)", "tensor(int64)"})
_MEASURING = frozenset({"Shape", "Size", "SequenceLength"})
_CASTS = frozenset({"BitCast", "Cast", "CastLike"})
_UNPACKING = frozenset({"BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Div", "Mod"})
# Operators that take integers and no sizes: indices, lengths, axes.
_PLACING = frozenset(
    """
    Attention CumProd CumSum GRU Gather GatherElements GatherND LSTM LinearAttention NegativeLogLikelihoodLoss RNN ReverseSequence
    RoiAlign RotaryEmbedding Scatter ScatterElements ScatterND SoftmaxCrossEntropyLoss TensorScatter Trilu
    """.split()  # noqa: SIM905
)
# Inputs of another type that decide a shape; and those of them with which nothing is computed.
_DECIDING: dict[str, tuple[int, ...]] = {
    "Compress": (1,),
    "ImageDecoder": (0,),
    "NonMaxSuppression": (0, 1, 2, 3, 4),
    "NonZero": (0,),
    "OneHot": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2),
    "StringSplit": (0,),
    "Unique": (0,),
    "Upsample": (1,),
}
_ONLY_DECIDING = frozenset({"OneHot", "Resize", "Upsample"})


@cache
def ways(operator: str, index: int, output: int) -> int:
    """How an output of an operator of the standard is made of an input; of one that nobody knows, it is computed from all."""
    inputs, outputs = _formals(operator)
    if not inputs or not outputs:
        return COMPUTED
    name, types = _at(inputs, index)
    made, made_types = _at(outputs, output)
    if operator in _MEASURING:
        return MEASURED
    if types <= _SIZES:
        return PLACED if operator in _PLACING else DECIDED
    if index in _DECIDING.get(operator, ()):
        return DECIDED if operator in _ONLY_DECIDING else DECIDED | COMPUTED
    found = COMPUTED
    if name == made or operator in _CASTS or ((_holds(types) or _holds(made_types)) and not made_types <= _SIZES):
        found |= CARRIED
    return found | UNPACKED if operator in _UNPACKING else found


def carries(operator: str, index: int) -> bool:
    """Whether an input has the type of the first output, as the factors of a product have."""
    return bool(ways(operator, index, 0) & CARRIED)


@cache
def _formals(operator: str) -> tuple[list[_Formal], list[_Formal]]:
    try:
        schema = onnx.defs.get_schema(operator)
    except onnx.defs.SchemaError:
        return [], []
    return ([(each.type_str, frozenset(each.types)) for each in schema.inputs],
            [(each.type_str, frozenset(each.types)) for each in schema.outputs])  # fmt: skip


def _at(formals: list[_Formal], index: int) -> _Formal:
    """The last one may stand for any number."""
    return formals[min(index, len(formals) - 1)]


def _holds(types: frozenset[str]) -> bool:
    """Whether it is a sequence or an optional value, which holds others."""
    return all(each.startswith(("seq(", "optional(")) for each in types)
