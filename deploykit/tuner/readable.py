"""A graph -> the same graph as onnxruntime's quantizer can read it, so that each of its layers can be taken back by its name.

The quantizer finds weights among the initializers only, writes operators of opset 13 whatever the file's is, and calls what it
makes after what is there ("x" -> "x_scale"). Files also hold weights in Constant nodes and among the inputs, are older, have such
names of their own, and nodes without a name. Here nothing is computed otherwise; what cannot be brought into that form stays as it
is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import onnx
from onnx import inliner, numpy_helper, version_converter

from deploykit import onnx_file
from deploykit.onnx_file import walk
from deploykit.onnx_file.walk import STANDARD

OPSET = 13  # whose QuantizeLinear knows an axis
IR_VERSION = 4  # from which on a stored tensor need not be an input
SUFFIXES = (
    "_scale", "_zero_point", "_quantized", "_quantized_scale", "_quantized_zero_point", "_QuantizeLinear_Input",
    "_QuantizeLinear_Output", "_DequantizeLinear_Output",
)  # fmt: skip


def readable(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy of it that the quantizer can read, which answers the same."""
    found = model
    for is_needed, change in CHANGES:
        if is_needed(found):
            found = change(_copy(found) if found is model else found)
    return found


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    found = onnx.ModelProto()
    found.CopyFrom(model)
    return found


def _is_old(model: onnx.ModelProto) -> bool:
    return onnx_file.opset(model) < OPSET


def _newer(model: onnx.ModelProto) -> onnx.ModelProto:
    """By ONNX's own converter, which loses functions: those are written out before; as it is where that knows no way."""
    try:
        plain = inliner.inline_local_functions(model) if model.functions else model
        found = version_converter.convert_version(plain, OPSET)
    except Exception:  # native code, with errors of its own
        return model
    del found.metadata_props[:]
    found.metadata_props.extend(model.metadata_props)
    return found


def _lists_weights(model: onnx.ModelProto) -> bool:
    stored = walk.stored(model.graph)
    return model.ir_version < IR_VERSION or any(value.name in stored for value in model.graph.input)


def _without_weights_among_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    stored = walk.stored(model.graph)
    kept = [value for value in model.graph.input if value.name not in stored]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, IR_VERSION)
    return model


def _has_constants(model: onnx.ModelProto) -> bool:
    return any(True for _ in _constants(model.graph))


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[int, onnx.TensorProto]]:
    """The Constant nodes of numbers that no application reads: place among the nodes, and what is stored."""
    ends = {value.name for value in graph.output}
    for place, node in enumerate(graph.node):
        if node.op_type == "Constant" and node.domain in STANDARD and len(node.attribute) == 1 and node.output[0] not in ends:
            tensor = _tensor(node.attribute[0])
            if tensor is not None:
                tensor.name = node.output[0]
                yield place, tensor


def _tensor(attribute: onnx.AttributeProto) -> onnx.TensorProto | None:
    """What a Constant holds; `None` for texts and sparse tensors."""
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
    if attribute.name == "value":
        found = onnx.TensorProto()
        found.CopyFrom(attribute.t)
        return found
    kind = kinds.get(attribute.name)
    return None if kind is None else numpy_helper.from_array(np.asarray(onnx.helper.get_attribute_value(attribute), kind))


def _stored_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    found = dict(_constants(model.graph))
    nodes = [node for place, node in enumerate(model.graph.node) if place not in found]
    model.graph.initializer.extend(found.values())
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _has_nameless(model: onnx.ModelProto) -> bool:
    return not all(node.name for node in model.graph.node)


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    taken = {node.name for node in model.graph.node}
    for place, node in enumerate(model.graph.node):
        if not node.name:
            node.name = next(name for n in count(place) if (name := f"{node.op_type}_{n}") not in taken)
            taken.add(node.name)
    return model


def _takes_names(model: onnx.ModelProto) -> bool:
    return bool(_in_the_way(model))


def _in_the_way(model: onnx.ModelProto) -> dict[str, str]:
    """Names of values that the quantizer would give to others -> new ones.

    Inputs, outputs and what bodies make keep theirs: where one has such a name, it is the value after which it is called that gets
    another.
    """
    names = set(walk.names(model))
    ends, inner, apart = _ends(model), _of_bodies(model), _apart(model)
    found: dict[str, str] = {}
    for name in sorted(names):
        base = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s) and name.removesuffix(s) in names), None)
        changed = base if name in ends | inner else name
        if base is not None and changed is not None and changed not in inner | apart and changed not in found:
            found[changed] = next(new for n in count() if (new := f"{changed}_given{n or ''}") not in names)
            names.add(found[changed])
    return found


def _apart(model: onnx.ModelProto) -> set[str]:
    """Inputs that only an Identity reads, and outputs that one makes: the quantizer gives nothing their names."""
    others = [node for node in walk.nodes(model.graph) if node.op_type != "Identity"]
    read, made = ({name for node in others for name in getattr(node, side)} for side in ("input", "output"))
    given = {value.name for value in model.graph.input} - read
    return given | ({value.name for value in model.graph.output} - made - {value.name for value in model.graph.input})


def _ends(model: onnx.ModelProto) -> set[str]:
    return {value.name for value in (*model.graph.input, *model.graph.output)}


def _of_bodies(model: onnx.ModelProto) -> set[str]:
    """The names that belong to bodies and functions: nothing is renamed there."""
    _, *bodies = walk.graphs(model)
    found = {name for body in bodies for name in walk.stored(body)}
    found |= {value.name for body in bodies for value in (*body.input, *body.output)}
    found |= {name for body in bodies for node in body.node for name in node.output}
    return found | {name for function in model.functions for name in (*function.input, *function.output)}


def _renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Between an input or output that keeps its name and the value inside that has another stands an Identity: it costs nothing."""
    new = _in_the_way(model)
    for node in walk.nodes(model.graph):
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = new.get(name, name)
    sparse = [each.values for each in model.graph.sparse_initializer]
    for tensor in (*model.graph.initializer, *sparse):
        tensor.name = new.get(tensor.name, tensor.name)
    for value in model.graph.value_info:
        value.name = new.get(value.name, value.name)
    given = [value.name for value in model.graph.input if value.name in new]
    made = [value.name for value in model.graph.output if value.name in new and value.name not in given]
    nodes = [
        *(onnx.helper.make_node("Identity", [name], [new[name]], name=f"{new[name]}_from_outside") for name in given),
        *model.graph.node,
        *(onnx.helper.make_node("Identity", [new[name]], [name], name=f"{new[name]}_to_outside") for name in made),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


CHANGES: tuple[tuple[Callable[[onnx.ModelProto], bool], Callable[[onnx.ModelProto], onnx.ModelProto]], ...] = (
    (_is_old, _newer),
    (_lists_weights, _without_weights_among_inputs),
    (_has_constants, _stored_constants),
    (_has_nameless, _named),
    (_takes_names, _renamed),
)  # each looks at what those before it have made
