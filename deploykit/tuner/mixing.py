"""A graph in QDQ, any part of it taken back to float32 without quantizing again: the nodes there are those of the original.

Conversions then stand at the borders only, and where onnxruntime makes use of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import onnx

from deploykit.errors import InputError
from deploykit.onnx_file import walk
from deploykit.tuner.quantizing import layers

PRODUCTS = ("Gemm", "MatMul")  # which onnxruntime computes from whole numbers to float32
JOINED = frozenset(
    {"Elu", "HardSigmoid", "LeakyRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu"}
)  # activations that onnxruntime joins with a Gemm before them
MOVES = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Reshape",
        "Resize",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)  # operators whose outputs are numbers of their inputs
_OUTPUT_INPUT = "_QuantizeLinear_Input"  # how it calls a graph's output before the conversion


def taken_back(whole: onnx.ModelProto, original: onnx.ModelProto, floats: Set[str]) -> onnx.ModelProto:
    """The graph of `original` in which all nodes but those in `floats` are quantized as in `whole`, where that is of any use.

    A node without weights is quantized only where everything that it takes is: a conversion for it alone would cost more than it
    saves. Raises `InputError` for a graph in which that cannot be done.
    """
    return _Mixed(whole, original, floats).model()


class _Mixed:
    """The two graphs, and which node is taken from which."""

    def __init__(self, whole: onnx.ModelProto, original: onnx.ModelProto, floats: Set[str]) -> None:
        self.whole, self.original = whole, original
        self.quantized_nodes = {node.name: node for node in whole.graph.node if node.name}
        self.makers = {output: node.name for node in original.graph.node for output in node.output}
        self.stored = walk.stored(original.graph)
        self.pairs = _pairs(whole, {value.name for value in original.graph.output})
        self.own_layers = set(layers(original))
        self.nodes = {node.name: node for node in original.graph.node}
        self.readers = walk.readers(original.graph)
        self.into_bodies = _into_bodies(original.graph)
        self.whole_numbers: set[str] = set()
        for node in original.graph.node:
            if node.name not in floats and self._is_quantizable(node):
                self.whole_numbers.add(node.name)
        for value in original.graph.output:
            if value.name in self.pairs and not self._keeps(value.name):
                self.pairs[value.name] = self.pairs[value.name].beside(value.name)

    def model(self) -> onnx.ModelProto:
        """The mixed graph, as a model."""
        nodes = [self._node(node) for node in self.original.graph.node]
        wanted = {name for node in nodes for name in node.input}
        by_quantized = {name for node in nodes if node.name in self.whole_numbers for name in node.input}
        ends = {value.name for value in self.original.graph.output}
        nodes += self._conversions(wanted, by_quantized, ends)
        self._part_shared(nodes)
        result = onnx.ModelProto()
        result.CopyFrom(self.original)
        del result.graph.node[:]
        del result.graph.initializer[:]
        made = {name for node in nodes for name in node.output}  # a bias is quantized under its own name
        result.graph.node.extend(_sorted(nodes, self._given() - made))
        used = {name for node in walk.nodes(result.graph) for name in node.input} | ends
        tensors = {tensor.name: tensor for tensor in (*self.whole.graph.initializer, *self.original.graph.initializer)}
        result.graph.initializer.extend(tensor for name, tensor in tensors.items() if name in used - made)
        return result

    def _part_shared(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Where a bias is quantized under its own name, and a layer that is not reads it, too, give the former another name."""
        made = {node.output[0]: node for node in nodes if node.op_type == "DequantizeLinear" and node.output[0] in self.stored}
        plain = [node for node in nodes if node.name not in self.whole_numbers]
        taken = {*walk.names(self.whole), *walk.names(self.original)}
        for name in made.keys() & {each for node in plain for each in walk.read_by(node)}:
            made[name].output[0] = walk.unused(f"{name}_in_int8", taken)
            for node in nodes:
                if node.name in self.whole_numbers:
                    node.input[:] = [made[name].output[0] if each == name else each for each in node.input]

    def _is_quantizable(self, node: onnx.NodeProto) -> bool:
        """Whether `whole` quantizes the node: it reads its inputs from conversions back."""
        twin = self.quantized_nodes.get(node.name)
        if twin is None or twin.op_type != node.op_type or any(True for _ in walk.bodies(node)):
            return False
        back = {pair.back_output for pair in self.pairs.values()}
        if node.name in self.own_layers:
            return twin.input[0] in back
        if node.name in self.into_bodies:
            return False
        values = [value for value in node.input if value and value not in self.stored]
        return bool(values) and all(
            new in back and self.makers.get(old) in self.whole_numbers
            for old, new in zip(node.input, twin.input, strict=False)
            if old in values
        )

    def _node(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """One node, with the names of its inputs as they are here."""
        copy = onnx.NodeProto()
        quantized = node.name in self.whole_numbers
        copy.CopyFrom(self.quantized_nodes[node.name] if quantized else node)
        for place, value in enumerate(node.input):
            pair = self.pairs.get(value)
            if pair is None:
                continue
            copy.input[place] = pair.back_output if self._is_converted(value, quantized, node) else pair.plain
        for place, value in enumerate(node.output):
            pair = self.pairs.get(value)
            converted = pair is not None and node.name in self.whole_numbers and self._keeps(value)
            copy.output[place] = pair.plain if pair is not None and converted else value
        self._plain_names(copy)
        return copy

    def _plain_names(self, node: onnx.NodeProto) -> None:
        """A graph's output that is not converted here has its own name again."""
        for place, value in enumerate(node.input):
            base = value.removesuffix(_OUTPUT_INPUT)
            if base != value and base in self.pairs and not self._keeps(base):
                node.input[place] = base

    def _keeps(self, value: str) -> bool:
        """Whether the value has a conversion after the node that makes it: that node is quantized, and gives whole numbers."""
        return (
            self.makers.get(value) in self.whole_numbers and not self._is_fused_away(value) and not self._is_given_in_float(value)
        )

    def _is_given_in_float(self, value: str) -> bool:
        """Whether a quantized product of matrices gives float32, as nothing reads the value that would take less.

        But not to an activation alone: onnxruntime makes one of the two, for float32.
        """
        readers = self.readers.get(value, [])
        if self.nodes[self.makers[value]].op_type not in PRODUCTS or (len(readers) == 1 and readers[0].op_type in JOINED):
            return False
        return not any(node.name in self.whole_numbers for node in readers)

    def _is_converted(self, value: str, by_quantized: bool, node: onnx.NodeProto) -> bool:
        """Whether a node reads the value from its conversion back."""
        if self._is_fused_away(value) or (self.makers.get(value) in self.whole_numbers and not self._keeps(value)):
            return False
        if node.name in self.into_bodies:
            return False
        return by_quantized or self.makers.get(value) in self.whole_numbers

    def _is_fused_away(self, value: str) -> bool:
        """Whether the value goes from a quantized node only into a Relu or Clip that is quantized, which onnxruntime takes in."""
        consumers = self.readers.get(value, [])
        return (
            self.makers.get(value) in self.whole_numbers
            and len(consumers) == 1
            and consumers[0].op_type in ("Relu", "Clip")
            and consumers[0].name in self.whole_numbers
            and value not in {output.name for output in self.original.graph.output}
        )

    def _conversions(self, wanted: Set[str], by_quantized: Set[str], ends: Set[str]) -> Iterator[onnx.NodeProto]:
        """The pairs whose way back somebody reads, also the application; and the conversions back of stored weights."""
        for value, pair in self.pairs.items():
            if pair.back_output in wanted or (value in ends and self._keeps(value)):
                yield pair.there
                yield pair.back
        stored = walk.stored(self.whole.graph)
        for node in self.whole.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in stored and node.output[0] in by_quantized:
                yield node

    def _given(self) -> set[str]:
        names = walk.stored(self.whole.graph) | walk.stored(self.original.graph)
        return names | {value.name for value in self.original.graph.input} | {""}


def _into_bodies(graph: onnx.GraphProto) -> set[str]:
    """The nodes that only move numbers (see `MOVES`), one after the other, up to a value that a body reads from outside.

    With a conversion back before them onnxruntime 1.31 ends the process: it moves that behind them, and takes the body's value for
    an input of the node.
    """
    makers = {output: node for node in graph.node for output in node.output}
    waiting = [name for node in graph.node for name in walk.read_by(node) - set(node.input)]
    found: set[str] = set()
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is not None and maker.op_type in MOVES and maker.name not in found:
            found.add(maker.name)
            waiting += maker.input
    return found


@dataclass(frozen=True)
class _Pair:
    """QuantizeLinear and DequantizeLinear after one value. `plain`: what the first reads, `back_output`: what the second makes."""

    there: onnx.NodeProto
    back: onnx.NodeProto
    plain: str

    @property
    def back_output(self) -> str:
        return self.back.output[0]

    def beside(self, value: str) -> _Pair:
        """The pair for those inside that read an output of the graph, which stays as it is."""
        there, back = onnx.NodeProto(), onnx.NodeProto()
        there.CopyFrom(self.there)
        back.CopyFrom(self.back)
        there.input[0], back.output[0] = value, f"{value}_DequantizeLinear_Output"
        return _Pair(there, back, value)


def _pairs(whole: onnx.ModelProto, ends: Set[str]) -> dict[str, _Pair]:
    """By the value's name in the original. Of a graph's output, the name is that of what is made in the end."""
    backs = {node.input[0]: node for node in whole.graph.node if node.op_type == "DequantizeLinear"}
    found = {}
    for node in whole.graph.node:
        if node.op_type == "QuantizeLinear" and node.output[0] in backs:
            back = backs[node.output[0]]
            name = back.output[0] if back.output[0] in ends else node.input[0]
            found[name] = _Pair(node, back, node.input[0])
    return found


def _sorted(nodes: Sequence[onnx.NodeProto], given: Set[str]) -> list[onnx.NodeProto]:
    """The nodes in an order in which each comes after what it reads. Raises `InputError` where there is none."""
    known, waiting, found = set(given), list(nodes), []
    while waiting:
        ready = [node for node in waiting if all(name in known for name in walk.read_by(node))]
        if not ready:
            problem = f"the layers of the graph cannot be quantized apart ({waiting[0].name[:80]!r})"
            raise InputError(problem, "tune with --precisions fp32")
        found += ready
        known.update(name for node in ready for name in node.output)
        names = {id(node) for node in ready}
        waiting = [node for node in waiting if id(node) not in names]
    return found
