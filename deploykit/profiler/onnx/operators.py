"""`node_ops`: operations of one node of an ONNX graph from the shapes of its inputs and outputs (onnx.ai/onnx/operators).

A formula gives multiply-accumulates. Every other operator of the standard is *excluded* by the conventions' definition
(arithmetic) or moves data; operators of other domains, and nodes whose shapes nobody knows, are *uncounted*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

import onnx

from deploykit.onnx_file.walk import STANDARD
from deploykit.profiler import conventions
from deploykit.profiler.layer_table import Shape


@dataclass(frozen=True)
class Node:
    """A node with the shapes of its inputs and outputs; `None`: unknown, or an input that is left out.

    `input_names`: of its values; "" for an optional input that is left out. `weight_stored`: whether the second input is a
    constant of the file.
    """

    name: str
    op_type: str
    domain: str
    inputs: Sequence[Shape | None]
    outputs: Sequence[Shape | None]
    attributes: Mapping[str, Any]
    input_names: Sequence[str]
    weight_stored: bool = False

    def shape(self, index: int) -> Shape:
        """The shape of an input. Raises `UnknownShape`."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise UnknownShape
        return found

    def given(self, index: int) -> bool:
        """Whether the node has this input at all, known shape or not."""
        return index < len(self.input_names) and bool(self.input_names[index])

    def length(self, index: int) -> int:
        """The second to last size of an optional input, which for past keys is their number; 0 where it is left out.

        Raises `UnknownShape` where it is given and its shape is not known.
        """
        return self.shape(index)[-2] if self.given(index) else 0

    @property
    def output(self) -> Shape:
        """The shape of the first output. Raises `UnknownShape`."""
        if not self.outputs or self.outputs[0] is None:
            raise UnknownShape
        return self.outputs[0]


class UnknownShape(Exception):
    """A size that the formula needs is not known."""


NEWEST = 27  # opset whose operators were looked through for formulas
_NEWER = frozenset({"SwiGLU"})

# What a formula raises where it cannot tell; but for the first, of a graph that contradicts itself.
NOT_KNOWN = (UnknownShape, IndexError, KeyError, ValueError, TypeError)

NodeFormula = Callable[[Node], int]
FORMULAS: dict[str, NodeFormula] = {}


def formula_for(*operators: str) -> Callable[[NodeFormula], NodeFormula]:
    """Register the formula of operators: `Conv` of the standard, `com.microsoft.FusedConv` of another domain."""

    def decorate(function: NodeFormula) -> NodeFormula:
        for operator in operators:
            if operator in FORMULAS:
                raise ValueError(f"{operator} has two formulas")
            FORMULAS[operator] = function
        return function

    return decorate


def full_name(node: Node) -> str:
    """`Conv`, or `com.microsoft.FusedConv` where the domain is not the standard's."""
    return node.op_type if node.domain in STANDARD else f"{node.domain}.{node.op_type}"


def is_known(node: Node) -> bool:
    """Whether an operator without a formula is known to multiply and accumulate nothing: the standard's, but for newer ones."""
    return node.domain in STANDARD and (node.op_type in _NEWER or _is_in_opset(node.op_type, NEWEST))


@cache
def _is_in_opset(operator: str, version: int) -> bool:
    try:
        onnx.defs.get_schema(operator, version, "")
    except onnx.defs.SchemaError:
        return False
    return True


@formula_for("Conv", "CausalConvWithState", "ConvInteger", "DeformConv", "com.microsoft.FusedConv", "com.microsoft.NhwcFusedConv")
def _conv(node: Node) -> int:
    return prod(node.output) * prod(node.shape(1)[1:])


@formula_for("QLinearConv")
def _qlinear_conv(node: Node) -> int:
    return prod(node.output) * prod(node.shape(3)[1:])


@formula_for("ConvTranspose")
def _conv_transpose(node: Node) -> int:
    """Every input element meets the whole kernel of its channel (torch's convention; the output grid would count zeros)."""
    return prod(node.shape(0)) * prod(node.shape(1)[1:])


@formula_for("MatMul", "MatMulInteger")
def _matmul(node: Node) -> int:
    return prod(node.output) * node.shape(0)[-1]


@formula_for("QLinearMatMul")
def _qlinear_matmul(node: Node) -> int:
    return prod(node.output) * node.shape(0)[-1]


@formula_for("Gemm", "com.microsoft.FusedGemm")
def _gemm(node: Node) -> int:
    a = node.shape(0)
    return prod(node.output) * (a[0] if node.attributes.get("transA") else a[1])


@formula_for("RNN", "LSTM", "GRU")
def _recurrent(node: Node) -> int:
    """Both weights, at every step, for every sample; X is (steps, batch, features), or batch first with layout=1."""
    return prod(node.shape(0)[:2]) * (prod(node.shape(1)) + prod(node.shape(2)))


@formula_for("Attention")
def _attention(node: Node) -> int:
    """Scores and values. Q, K, V are (batch, heads, steps, size), or (batch, steps, heads x size); causal ones not halved."""
    query, key, value = node.shape(0), node.shape(1), node.shape(2)
    steps = key[-2] + node.length(4)
    if len(query) == 4:
        batch, heads, asked, size = query
        return batch * heads * asked * steps * (size + value[-1])
    heads, value_heads = node.attributes.get("q_num_heads", 1), node.attributes.get("kv_num_heads", 1)
    return query[0] * query[1] * steps * (query[2] + heads * (value[2] // value_heads))


@formula_for("ai.onnx.preview.FlexAttention")
def _flexible_attention(node: Node) -> int:
    """Scores and values of Q, K, V, (batch, heads, steps, size) each; what its graphs do to the scores is counted apart."""
    batch, heads, asked, size = node.shape(0)
    value = node.shape(2)
    return batch * heads * asked * node.shape(1)[-2] * (size + value[-1])


@formula_for("LinearAttention")
def _linear_attention(node: Node) -> int:
    """Step by step, as it is defined: keys and values (batch, steps, heads x size) into a state, by it each query, and, by a delta
    rule, each key.
    """
    query_heads, heads = int(node.attributes["q_num_heads"]), int(node.attributes["kv_num_heads"])
    batch, steps, keys = node.shape(1)
    rule = node.attributes.get("update_rule", b"gated_delta")
    delta = "delta" in (rule.decode() if isinstance(rule, bytes) else str(rule))
    return batch * steps * (keys // heads) * (node.shape(2)[2] // heads) * (query_heads + heads * (2 if delta else 1))


@formula_for("Einsum")
def _einsum(node: Node) -> int:
    """Two operands: every combination of their indices is one multiply-accumulate. More are taken from left to right, and an
    index that nobody needs any more is summed at once, as torch and onnxruntime do. One operand multiplies nothing.
    """
    equation = node.attributes.get("equation", b"")
    text = (equation.decode() if isinstance(equation, bytes) else str(equation)).replace(" ", "")
    left, arrow, result = text.partition("->")
    sizes: dict[str, int] = {}
    terms = []
    for number, term in enumerate(left.split(",")):
        letters = _spelled_out(term, len(node.shape(number)))
        for letter, size in zip(letters, node.shape(number), strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
        terms.append(letters)
    hidden = {letter for letter in sizes if letter[0] == "."}
    if arrow:
        kept = set(result.replace(".", "")) | (hidden if "..." in result else set())
    else:  # every index that occurs once
        kept = {letter for letter in sizes if sum(term.count(letter) for term in terms) == 1} | hidden
    found, current = 0, set(terms[0])
    for number, letters in enumerate(terms[1:], 2):
        pair = current | set(letters)
        found += prod(sizes[letter] for letter in pair)
        current = pair & kept.union(*terms[number:])
    return found


def _spelled_out(term: str, rank: int) -> list[str]:
    """The indices of one term; an ellipsis stands for as many as are left, counted from the right: ".2", ".1"."""
    before, dots, after = term.partition("...")
    hidden = [f".{n}" for n in range(rank - len(before) - len(after), 0, -1)] if dots else []
    return [*before, *hidden, *after]


def node_ops(node: Node, rules: conventions.Convention) -> int | None:
    """Operations under a convention; `None` where the operator has no formula. Raises `UnknownShape`."""
    if rules.per_mac is None:
        return _paddle(node)
    formula = FORMULAS.get(full_name(node))
    return None if formula is None else rules.per_mac * formula(node)


def _paddle(node: Node) -> int | None:
    """The `paddle` convention by operator: products of two activations, ReLU, additions and the rest are no layers to it."""
    match full_name(node):
        case "Conv":
            return conventions.paddle_convolution(prod(node.output), prod(node.shape(1)[1:]), node.given(2))
        case "ConvTranspose":
            channels = node.shape(1)[0] // node.attributes.get("group", 1)
            return conventions.paddle_convolution(prod(node.output), channels * prod(node.shape(1)[2:]), node.given(2))
        case "Gemm" | "MatMul" if node.weight_stored:
            return FORMULAS[node.op_type](node)
        case "BatchNormalization" if len(node.shape(0)) == 4:
            return conventions.paddle_batch_norm(prod(node.shape(0)))
        case "AveragePool":
            return conventions.paddle_average_pool(prod(node.output))
        case "GlobalAveragePool":
            return conventions.paddle_adaptive_average_pool(node.shape(0), node.output)
        case "LeakyRelu":
            return conventions.paddle_leaky_relu(prod(node.output))
    return None
