"""A second opinion on ONNX files, which shares nothing with deploykit's profiler: multiply-accumulates and parameters.

MACs come from the shapes that a run shows: onnxruntime gives the inputs and outputs of the operators as outputs of the graph; files
with bodies or local functions run in onnx's reference evaluator, every operator watched. Parameters are the numbers stored in the
file; what a stored number is for tells the name that the operator's schema has for that input.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, reference
from onnx.reference.op_run import OpRun
from onnxruntime.capi import _pybind_state

Shape = tuple[int, ...]
Shapes = Sequence[Shape | None]


@dataclass(frozen=True)
class Call:
    """One call of an operator: attributes as plain values, shapes of inputs and outputs, `None` for one that is left out."""

    operator: str
    attributes: Mapping[str, Any]
    inputs: Shapes
    outputs: Shapes


def macs(model: onnx.ModelProto, file: Path, feeds: Mapping[str, Any]) -> int:
    """Multiply-accumulates in one run of the file. Raises whatever the run raises."""
    if any(True for _ in _inner_graphs(model.graph)) or model.functions:
        try:
            return sum(map(_cost, _watched(file, feeds)))
        except Exception:  # nor is every file one for the evaluator
            return sum(map(_cost, _told(model, file, feeds)))
    try:
        return sum(map(_cost, _told(model, file, feeds)))
    except Exception:  # onnxruntime has no kernel for every operator that onnx defines
        return sum(map(_cost, _watched(file, feeds)))


def _watched(file: Path, feeds: Mapping[str, Any]) -> list[Call]:
    """The calls of a run in onnx's reference evaluator."""
    calls: list[Call] = []
    evaluator = reference.ReferenceEvaluator(str(file))  # which loads all operators; they can be listened to from then on
    with _listening(calls):
        evaluator.run(None, dict(feeds))
    return calls


@contextmanager
def _listening(calls: list[Call]) -> Iterator[None]:
    """Every call of an operator in `_COSTS` is noted. Some families of operators have a `run` of their own, which calls the usual one."""
    usual = {kind: kind.__dict__["run"] for kind in _family(OpRun) if "run" in kind.__dict__}
    running: list[OpRun] = []

    def listen(method: Any) -> Any:
        def run(self: OpRun, *values: Any, **options: Any) -> Any:
            if self in running:
                return method(self, *values, **options)
            running.append(self)
            try:
                found = method(self, *values, **options)
            finally:
                running.pop()
            _note(self, values, found, calls)
            return found

        return run

    for kind, method in usual.items():
        setattr(kind, "run", listen(method))  # noqa: B010
    try:
        yield
    finally:
        for kind, method in usual.items():
            setattr(kind, "run", method)  # noqa: B010


def _family(kind: type) -> Iterator[type]:
    yield kind
    for below in kind.__subclasses__():
        yield from _family(below)


def _note(operator: OpRun, values: Sequence[Any], found: Sequence[Any], calls: list[Call]) -> None:
    node = operator.onnx_node
    name = _full_name(node)
    if name in _COSTS:
        attributes = {key: getattr(operator, key, None) for key in _ATTRIBUTES}
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.type != onnx.AttributeProto.GRAPH}
        calls.append(Call(name, {**attributes, **given}, [_shape(v) for v in values], [_shape(v) for v in found]))


def _shape(value: Any) -> Shape | None:
    return tuple(np.shape(value)) if hasattr(value, "shape") else None


def _told(model: onnx.ModelProto, file: Path, feeds: Mapping[str, Any]) -> Iterator[Call]:
    """The calls of a run in onnxruntime, whose values all become outputs; those of a Loop give the shapes of all its trips."""
    nodes = [node for node in model.graph.node if _full_name(node) in _COSTS]
    loops = [(place, node) for place, node in enumerate(model.graph.node) if any(True for _ in _bodies(node))]
    if not nodes and not loops:
        return
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    produced = {name for node in model.graph.node for name in node.output}
    known = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    known |= {sparse.values.name: tuple(sparse.dims) for sparse in model.graph.sparse_initializer}
    known |= {name: tuple(np.shape(value)) for name, value in feeds.items()}
    wanted = {name for node in nodes for name in (*node.input, *node.output) if name in produced}
    inside = [call for place, _ in loops for call in _shaped_loop(asked.graph.node[place], place)]
    wanted |= {name for _, ins, outs in inside for name in (*ins, *outs) if name}
    del asked.graph.output[:]
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted))
    found = dict(zip(sorted(wanted), _run(asked, file, feeds, sorted(wanted)), strict=True))
    known |= {name: tuple(np.shape(value)) for name, value in found.items()}
    for node in nodes:
        sides = ([known[name] if name else None for name in side] for side in (node.input, node.output))
        yield Call(_full_name(node), _attributes_of(node), *sides)
    for node, ins, outs in inside:
        for trip in range(len(found[outs[0]])):
            sides = ([tuple(found[name][trip].tolist()) if name else None for name in side] for side in (ins, outs))
            yield Call(_full_name(node), _attributes_of(node), *sides)


def _run(model: onnx.ModelProto, file: Path, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(file.resolve().parent))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(list(names), dict(feeds)))


def _attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute if a.type != onnx.AttributeProto.GRAPH}


def _shaped_loop(loop: onnx.NodeProto, place: int) -> list[tuple[onnx.NodeProto, list[str], list[str]]]:
    """Let a Loop tell the shapes of what its operators take and give, one row a trip, as new outputs; in place.

    Gives each operator with the names of those outputs. Raises `LookupError` for what is no plain Loop.
    """
    if loop.op_type != "Loop" or any(True for body in _bodies(loop) for _ in _inner_graphs(body)):
        raise LookupError(f"{loop.op_type} {loop.name} is no plain Loop")
    body = next(iter(_bodies(loop)))
    found, numbers = [], itertools.count()
    for node in [node for node in body.node if _full_name(node) in _COSTS]:
        sides: list[list[str]] = []
        for side in (node.input, node.output):
            sides.append([f"told.{place}.{next(numbers)}" if name else "" for name in side])
            made = [(name, told) for name, told in zip(side, sides[-1], strict=True) if name]
            for name, told in made:
                body.node.append(helper.make_node("Shape", [name], [f"{told}.inside"]))
                body.output.append(helper.make_tensor_value_info(f"{told}.inside", TensorProto.INT64, [None]))
                loop.output.append(told)
        found.append((node, *sides))
    return found


def _full_name(node: onnx.NodeProto) -> str:
    return f"{node.domain}.{node.op_type}".removeprefix("ai.onnx.") if node.domain not in ("", "ai.onnx") else node.op_type


_ATTRIBUTES = ("equation", "layout", "q_num_heads", "kv_num_heads", "transA", "update_rule")


def _conv(call: Call, weight: int = 1) -> int:
    """Samples x places x filters, each of channels per group x window."""
    samples, filters, *places = call.outputs[0] or ()
    _, channels, *window = call.inputs[weight] or ()
    return samples * filters * prod(places) * channels * prod(window)


def _transposed_conv(call: Call) -> int:
    """Samples x channels x places of the input, each spread by filters per group x window."""
    _, filters, *window = call.inputs[1] or ()
    return prod(call.inputs[0] or ()) * filters * prod(window)


def _product(call: Call, right: int = 1) -> int:
    """As numpy multiplies: batches x rows x columns x what is summed."""
    a, b = call.inputs[0] or (), call.inputs[right] or ()
    left = a if len(a) > 1 else (1, *a)
    other = b if len(b) > 1 else (*b, 1)
    batches = np.broadcast_shapes(left[:-2], other[:-2])
    return prod(batches) * left[-2] * left[-1] * other[-1]


def _gemm(call: Call, right: int = 1) -> int:
    a, b = call.inputs[0] or (), call.inputs[right] or ()
    return prod(a) * (b[0] if call.attributes.get("transB") else b[1])


def _recurrent(gates: int) -> Callable[[Call], int]:
    def cost(call: Call) -> int:
        steps, samples, features = call.inputs[0] or ()
        directions, hidden = (call.inputs[2] or ())[0], (call.inputs[2] or ())[2]
        return steps * samples * directions * gates * hidden * (features + hidden)

    return cost


def _quantized_lstm(call: Call) -> int:
    """Its recurrent weight is (directions, hidden, 4 x hidden)."""
    steps, samples, features = call.inputs[0] or ()
    directions, hidden, _ = call.inputs[2] or ()
    return steps * samples * directions * 4 * hidden * (features + hidden)


def _einsum(call: Call) -> int:
    """Pair by pair from the left; letters that neither the rest nor the result has are summed as soon as that is possible."""
    equation = call.attributes["equation"]
    text = (equation.decode() if isinstance(equation, bytes) else equation).replace(" ", "")
    left, arrow, right = text.partition("->")
    spare = iter("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    dots = "".join(
        next(spare) for _ in range(max((len(s or ()) - len(t.replace("...", "")) for t, s in _zipped(left, call)), default=0))
    )
    size: dict[str, int] = {}
    terms = []
    for term, shape in _zipped(left, call):
        rank = len(shape or ()) - len(term.replace("...", ""))
        letters = term.replace("...", dots[len(dots) - rank :] if rank else "")
        terms.append(letters)
        for letter, extent in zip(letters, shape or (), strict=True):
            size[letter] = max(extent, size.get(letter, 1))
    everything = "".join(terms)
    result = right.replace("...", dots) if arrow else "".join(x for x in size if everything.count(x) == 1 or x in dots)
    total, current = 0, set(terms[0])
    for place in range(1, len(terms)):
        total += prod(size[x] for x in current | set(terms[place]))
        later = set(result) | set("".join(terms[place + 1 :]))
        current = (current | set(terms[place])) & later
    return total


def _zipped(left: str, call: Call) -> list[tuple[str, Shape | None]]:
    return list(zip(left.split(","), call.inputs, strict=False))


def _attention(call: Call) -> int:
    """Every query meets every key and every value, those of the past too."""
    query, key, value = ((*shape,) for shape in call.inputs[:3] if shape is not None)
    past = call.inputs[4] if len(call.inputs) > 4 else None
    keys = key[-2] + (past[-2] if past else 0)
    if len(query) == 4:
        return query[0] * query[1] * query[2] * keys * (query[3] + value[3])
    heads, groups = int(call.attributes["q_num_heads"]), int(call.attributes["kv_num_heads"])
    return query[0] * heads * query[1] * keys * (query[2] // heads + value[2] // groups)


def _flexible(call: Call) -> int:
    query, key, value = (shape or () for shape in call.inputs[:3])
    return query[0] * query[1] * query[2] * key[2] * (query[3] + value[3])


def _linear_attention(call: Call) -> int:
    """A state of d_k x d_v per group: written once a step, read once per query head, and by a delta rule once per key."""
    query, key, value = (shape or () for shape in call.inputs[:3])
    heads, groups = int(call.attributes["q_num_heads"]), int(call.attributes["kv_num_heads"])
    rule = call.attributes.get("update_rule") or b"gated_delta"
    rule = rule.decode() if isinstance(rule, bytes) else rule
    state = (key[2] // groups) * (value[2] // groups)
    return query[0] * query[1] * state * (heads + groups + (groups if rule in ("delta", "gated_delta") else 0))


_COSTS: dict[str, Callable[[Call], int]] = {
    "Attention": _attention,
    "CausalConvWithState": _conv,
    "Conv": _conv,
    "ConvInteger": _conv,
    "ConvTranspose": _transposed_conv,
    "DeformConv": _conv,
    "Einsum": _einsum,
    "GRU": _recurrent(3),
    "Gemm": _gemm,
    "LSTM": _recurrent(4),
    "LinearAttention": _linear_attention,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearConv": lambda call: _conv(call, 3),
    "QLinearMatMul": lambda call: _product(call, 3),
    "RNN": _recurrent(1),
    "com.microsoft.DynamicQuantizeLSTM": _quantized_lstm,
    "com.microsoft.DynamicQuantizeMatMul": _product,
    "com.microsoft.FusedConv": _conv,
    "com.microsoft.FusedGemm": _gemm,
    "com.microsoft.MatMulIntegerToFloat": _product,
    "com.microsoft.QGemm": lambda call: _gemm(call, 3),
    "preview.FlexAttention": _flexible,
}


def _cost(call: Call) -> int:
    if call.operator in ("RNN", "LSTM", "GRU") and call.attributes.get("layout"):
        call = Call(
            call.operator, {}, [(s[1], s[0], *s[2:]) if n == 0 and s else s for n, s in enumerate(call.inputs)], call.outputs
        )
    return _COSTS[call.operator](call)


# Words in a schema's name of an input that does not take data but says how to.
_DESCRIPTIONS = ("scale", "zero_point", "absmax", "input_mean", "input_var", "roi", "ratio", "min", "max", "pads", "constant_value", "threshold",
                 "depth", "values", "training_mode")  # fmt: skip
_ONLY = {"Resize": ("roi", "scales"), "Upsample": ("scales",), "Clip": ("min", "max"), "Pad": ("constant_value",), "Dropout": ("ratio",),
         "OneHot": ("values",), "BatchNormalization": ("mean", "var", "input_mean", "input_var")}  # fmt: skip
_ROLES = ("scale", "zero_point", "absmax", "_threshold")
_PASSING = frozenset({"Gather", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Concat", "Identity", "Flatten", "Split"})


def parameters(model: onnx.ModelProto) -> int:
    """The numbers stored in the file that an operator reads as data: all floats but single ones, and quantized integers."""
    found: dict[str, int] = {}
    for number, function in enumerate(model.functions):
        _count(function.node, {}, f"function {number}", found)
    _count(model.graph.node, _own(model.graph, "graph"), "graph", found)
    return sum(found.values())


_Kept = tuple[str, int, int]  # where it lies, its type, how many numbers


def _own(graph: onnx.GraphProto, place: str) -> dict[str, _Kept]:
    found = {t.name: (f"{place}/{t.name}", t.data_type, prod(t.dims) if t.dims else 0) for t in graph.initializer}
    sparse = {
        s.values.name: (f"{place}/{s.values.name}", s.values.data_type, prod(s.values.dims)) for s in graph.sparse_initializer
    }
    return found | sparse


def _count(nodes: Sequence[onnx.NodeProto], visible: Mapping[str, _Kept], place: str, found: dict[str, int]) -> dict[str, _Kept]:
    """Walk the nodes of one graph; `visible`: what is stored here and around; `found` grows: place -> how many numbers.

    Gives what is stored under each name at its end.
    """
    seen = dict(visible)
    for number, node in enumerate(nodes):
        if node.op_type == "Constant":
            seen[node.output[0]] = _constant(node, f"{place}/{number}")
            continue
        if node.domain == "ai.onnx.ml":
            found[f"{place}/{number}"] = sum(map(_numbers_of, node.attribute))
        for index, name in enumerate(node.input):
            if name in seen:
                where, kind, numbers = seen[name]
                if _is_data(node, index) and (_is_float(kind) or _stands_for_numbers(node, kind)):
                    found.setdefault(where, _of_packed(node, kind, numbers))
        if node.op_type in _PASSING:
            parts = [seen[name] for name in node.input if name in seen and not _is_float(seen[name][1])]
            if parts and parts[0][1] in (TensorProto.INT8, TensorProto.UINT8):
                seen.update((output, parts[0]) for output in node.output)
        for inner, body in enumerate(_bodies(node)):
            below = f"{place}/{number}.{inner}"
            inside = _count(body.node, seen | _own(body, below), below, found)
            for value in body.output:  # what is given back as it is stored, the operator reads
                where, kind, numbers = inside.get(value.name, ("", TensorProto.UNDEFINED, 0))
                if where and _is_float(kind):
                    found.setdefault(where, numbers)
    return seen


def _constant(node: onnx.NodeProto, place: str) -> _Kept:
    for a in node.attribute:
        tensor = a.t if a.name == "value" else a.sparse_tensor.values if a.name == "sparse_value" else None
        if tensor is not None:
            return place, tensor.data_type, prod(tensor.dims) if tensor.dims else 0
    floats = [len(a.floats) for a in node.attribute if a.name == "value_floats"]
    return place, TensorProto.FLOAT, sum(floats)


def _numbers_of(attribute: onnx.AttributeProto) -> int:
    """The floats in an attribute of ai.onnx.ml, but for the keys and values of a dictionary."""
    if attribute.name.startswith(("keys", "values", "default", "imputed", "cats", "membership")):
        return 0
    return len(attribute.floats) + (prod(attribute.t.dims) if attribute.HasField("t") and _is_float(attribute.t.data_type) else 0)


def _is_float(kind: int) -> bool:
    return TensorProto.DataType.Name(kind).startswith(("FLOAT", "DOUBLE", "BFLOAT", "COMPLEX"))


def _is_data(node: onnx.NodeProto, index: int) -> bool:
    name = _formal(node, index).lower()
    if node.op_type == "QLinearConcat":
        return index >= 2 and (index - 2) % 3 == 0
    return name not in _ONLY.get(node.op_type, ()) and not any(
        role in name for role in _ROLES if node.domain != "" or "Quantize" in node.op_type or "QLinear" in node.op_type
        or "Integer" in node.op_type or node.op_type == "NonMaxSuppression"
    )  # fmt: skip


def _stands_for_numbers(node: onnx.NodeProto, kind: int) -> bool:
    """Integers that an operator on quantized numbers reads, or that are turned into floats."""
    if kind not in (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.INT4, TensorProto.UINT4, TensorProto.INT16):
        return False
    if node.op_type == "Cast":
        return any(a.name == "to" and _is_float(a.i) for a in node.attribute)
    name = node.op_type
    if kind == TensorProto.INT32 and not name.startswith(("QLinear", "QGemm", "Dequantize")):
        return False
    return (
        name.startswith(("Q", "Dequantize", "DynamicQuantize")) or "Integer" in name or "NBits" in name or "BlockQuantized" in name
    )


def _of_packed(node: onnx.NodeProto, kind: int, numbers: int) -> int:
    attributes = {a.name: a.i for a in node.attribute}
    if "NBits" in node.op_type and not _is_float(kind):
        return attributes["K"] * attributes["N"]
    return numbers * 8 // attributes.get("bits", 4) if node.op_type == "GatherBlockQuantized" and not _is_float(kind) else numbers


def _formal(node: onnx.NodeProto, index: int) -> str:
    """The schema's name of an input; of the newest version, which is right for all that are asked here."""
    if node.domain in ("", "ai.onnx") and onnx.defs.has(node.op_type):
        inputs = onnx.defs.get_schema(node.op_type).inputs
    else:
        inputs = _MICROSOFT.get(node.op_type, ())
    names = [entry.name for entry in inputs]
    return names[index] if index < len(names) else names[-1] if names else ""


_MICROSOFT = {schema.name: schema.inputs for schema in _pybind_state.get_all_operator_schema() if schema.domain == "com.microsoft"}


def _bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _inner_graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    return itertools.chain.from_iterable(_bodies(node) for node in graph.node)
